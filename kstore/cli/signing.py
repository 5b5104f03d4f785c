"""Options of commands that sign what they write, or trust what they read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kstore.cli.grammar import PathType
from kstore.cli.session import Session

if TYPE_CHECKING:
    from kstore.app import RegistryOptions

__all__ = ["attachments_option", "signing_options", "trust_options"]

F = TypeVar("F", bound=Callable[..., Any])

_ATTACHMENTS = click.option(
    "--sigstore-attachments/--no-sigstore-attachments",
    "attachments",
    default=None,
    help="Keep sigstore signatures in the registry beside their image, whatever registries.d says",
)
_SIGNING = (
    click.option(
        "--sign-by",
        "gpg_keys",
        metavar="KEY",
        multiple=True,
        help="Sign with this key of GnuPG: a fingerprint, an ID or an address; may be repeated",
    ),
    click.option(
        "--sign-by-sigstore-private-key",
        "sigstore_key",
        metavar="FILE",
        type=PathType(path_type=Path, dir_okay=False),
        help="Sign with the sigstore private key in FILE (implies --sigstore-attachments)",
    ),
    click.option(
        "--sign-by-sigstore",
        "sigstore_parameters",
        metavar="FILE",
        type=PathType(path_type=Path, dir_okay=False),
        help="The same with the key that FILE names, which is written as"
        " containers-sigstore-signing-params.yaml(5) says",
    ),
    click.option(
        "--sign-passphrase-file",
        "passphrase_file",
        metavar="FILE",
        type=PathType(path_type=Path, dir_okay=False),
        help="The passphrase of that key is the first line of FILE",
    ),
    click.option(
        "--sign-identity",
        metavar="NAME",
        help="Sign as the image NAME, if not as the one that is written",
    ),
)


def attachments_option(function: F) -> F:
    """Whether registries keep sigstore signatures: becomes part of the command's ``registry``.

    Stands below the options of registries.
    """

    @functools.wraps(function)
    def with_attachments(
        *args: Any, attachments: bool | None, registry: RegistryOptions, **kwargs: Any
    ) -> Any:
        return function(*args, registry=replace(registry, attachments=attachments), **kwargs)

    decorated: Any = with_attachments
    result: F = _ATTACHMENTS(decorated)
    return result


def signing_options(function: F) -> F:
    """How what is written is signed: gives the command ``signing``, a SigningOptions.

    Stands below the options of registries, whose ``attachments`` it sets on the way.
    """

    @functools.wraps(function)
    def with_signing(
        *args: Any,
        attachments: bool | None,
        gpg_keys: tuple[str, ...],
        sigstore_key: Path | None,
        sigstore_parameters: Path | None,
        passphrase_file: Path | None,
        sign_identity: str | None,
        **kwargs: Any,
    ) -> Any:
        from kstore.app import SigningOptions

        signing = SigningOptions(
            gpg_keys, sigstore_key, passphrase_file, sign_identity, sigstore_parameters
        )
        written = True if attachments is None and signing.by_sigstore else attachments
        if "registry" in kwargs:
            kwargs["registry"] = replace(kwargs["registry"], attachments=written)
        elif "registries" in kwargs:
            kwargs["registries"] = _with_attachments(kwargs["registries"], attachments, written)
        return function(*args, signing=signing, **kwargs)

    decorated: Any = with_signing
    for option in reversed((_ATTACHMENTS, *_SIGNING)):
        decorated = option(decorated)
    result: F = decorated
    return result


def _with_attachments(
    sides: tuple[RegistryOptions, RegistryOptions], read: bool | None, written: bool | None
) -> tuple[RegistryOptions, RegistryOptions]:
    source = replace(sides[0], attachments=read)
    destination = replace(sides[1], attachments=written)
    return (source, source) if source == destination else (source, destination)


_PULL_POLICIES = ("always", "missing", "never", "newer")


def _no_pull_policy(
    _context: click.Context, _parameter: click.Parameter, file: Path | None
) -> Path | None:
    """Refuse what podman's --policy takes, unless there is such a file."""
    if file is not None and str(file) in _PULL_POLICIES and not file.exists():
        raise click.BadParameter(
            f"{str(file)!r} is no file of trust policy; --if-missing of pull leaves what is there"
        )
    return file


_TRUST = (
    click.option(
        "--policy",
        "--signature-policy",  # what podman calls it
        "policy",
        metavar="FILE",
        type=PathType(path_type=Path, dir_okay=False),
        callback=_no_pull_policy,
        help="Trust policy to go by, instead of this machine's policy.json",
    ),
    click.option(
        "--insecure-policy", "insecure", is_flag=True, help="Trust every image, whatever it is"
    ),
    click.option(
        "--require-signed",
        is_flag=True,
        help="Trust no image of which the policy does not want a signature",
    ),
)


def trust_options(function: F) -> F:
    """Which images are trusted: gives the command ``policy``, a TrustPolicy."""

    @functools.wraps(function)
    def with_policy(
        *args: Any, policy: Path | None, insecure: bool, require_signed: bool, **kwargs: Any
    ) -> Any:
        from kstore.app import TrustOptions

        if insecure and (policy is not None or require_signed):
            other = "--policy" if policy is not None else "--require-signed"
            raise click.UsageError(f"--insecure-policy is the opposite of {other}")
        session: Any = click.get_current_context().find_object(Session)
        said = TrustOptions(policy, insecure, require_signed)
        return function(*args, policy=session.app.trust_policy(said), **kwargs)

    decorated: Any = with_policy
    for option in reversed(_TRUST):
        decorated = option(decorated)
    result: F = decorated
    return result
