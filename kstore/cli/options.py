"""Options and arguments that several commands share."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click

from kstore.cli.completion import ContainerName, ImageName
from kstore.cli.grammar import ParamType, PathType
from kstore.cli.session import PROGRESS_MODES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kstore.app import RegistryOptions
    from kstore.compression import Kind
    from kstore.platforms import Platform

__all__ = [
    "CompressionType",
    "SizeType",
    "authfile_options",
    "both_registries_options",
    "container_argument",
    "digestfile_option",
    "filter_option",
    "image_argument",
    "login_options",
    "no_trunc_option",
    "platform_option",
    "progress_option",
    "quiet_option",
    "registry_options",
    "remove_signatures_option",
    "with_referrers_option",
]

F = TypeVar("F", bound=Callable[..., Any])

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([kmgt]?)(i?b)?", re.ASCII | re.IGNORECASE)


class PlatformType(ParamType):
    """``OS/ARCH[/VARIANT]``."""

    name = "OS/ARCH[/VARIANT]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Platform:
        from kstore.platforms import Platform

        return value if isinstance(value, Platform) else Platform.parse(value)


class SizeType(ParamType):
    """A number of bytes, perhaps with a unit: 4096, 500MB, 2GiB, 2g (powers of 1024 but for kB, MB,
    GB and TB)."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value.strip())
        size = 0
        if match is not None:
            number, prefix, suffix = match.groups()
            base = 1000 if (suffix or "").lower() == "b" else 1024
            size = int(float(number) * base ** " kmgt".index(prefix.lower() or " "))
        if size < 1:
            raise click.BadParameter(f"{value!r} is not a size such as 4096, 500MB or 2GiB")
        return size


class CompressionType(ParamType):
    """``gzip``, ``zstd`` or ``none``, with ``:LEVEL`` behind it if wanted: gives ``(kind, level)``,
    the level None where none is given."""

    name = "KIND[:LEVEL]"
    _levels: ClassVar = {"gzip": 9, "zstd": 22, "none": 0}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Kind, int | None]:
        if isinstance(value, tuple):
            return value
        kind, colon, level = value.partition(":")
        most = self._levels.get(kind)
        if most is None:
            raise click.BadParameter(f"{value!r} is not one of gzip, zstd, none")
        if not colon:
            return kind, None
        if not (level.isascii() and level.isdigit() and 1 <= int(level[:6]) <= most):
            levels = f"levels from 1 to {most}" if most else "no levels"
            raise click.BadParameter(f"{value!r}: {kind} has {levels}")
        return kind, int(level)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(kind) for kind in self._levels if kind.startswith(incomplete)]


def image_argument(
    name: str = "image", *, metavar: str = "IMAGE", **attributes: Any
) -> Callable[[F], F]:
    """An argument that names images of the store, completed from there."""
    return click.argument(name, type=ImageName(), metavar=metavar, **attributes)


def container_argument(
    name: str = "container", *, metavar: str = "CONTAINER", **attributes: Any
) -> Callable[[F], F]:
    """An argument that names working containers, completed from the store."""
    return click.argument(name, type=ContainerName(), metavar=metavar, **attributes)


def quiet_option(text: str) -> Callable[[F], F]:
    """``-q/--quiet``; ``text`` says what is left out."""
    return click.option("-q", "--quiet", is_flag=True, help=text)


def filter_option(*short: str) -> Callable[[F], F]:
    """``--filter``, which may be repeated: gives the command ``filters``."""
    return click.option(
        *short,
        "--filter",
        "filters",
        metavar="KEY=VALUE",
        multiple=True,
        help="dangling=true|false, intermediate=true|false, containers=true|false,"
        " label=KEY[=VALUE], reference=PATTERN, before=IMAGE, since=IMAGE, until=AGE|TIME,"
        " id=DIGITS, digest=DIGEST or platform=OS/ARCH; != is the contrary; may be repeated",
    )


no_trunc_option = click.option("--no-trunc", is_flag=True, help="Do not shorten anything")

platform_option = click.option(
    "--platform",
    type=PlatformType(),
    metavar="OS/ARCH[/VARIANT]",
    help="Which platform's image, if not this machine's",
)

progress_option = click.option(
    "--progress",
    type=click.Choice(PROGRESS_MODES),
    default="auto",
    show_default=True,
    help="How to show progress; json writes one event a line, all on standard error",
)

digestfile_option = click.option(
    "--digestfile",
    metavar="FILE",
    type=PathType(path_type=Path, dir_okay=False, writable=True),
    help="Write the digest of the written manifest to FILE",
)

with_referrers_option = click.option(
    "--with-referrers",
    is_flag=True,
    help="Also what is attached to the image: signatures, attestations, lists of contents, ...",
)

_DIR = PathType(path_type=Path, file_okay=False, exists=True)
_FILE = PathType(path_type=Path, dir_okay=False)
_SERVER_OPTIONS = (
    click.option(
        "--tls-verify/--no-tls-verify",
        default=None,
        help="Insist on HTTPS with a trusted certificate, which is the default;"
        " --tls-verify=false also allows plain HTTP",
    ),
    click.option(
        "--cert-dir",
        metavar="DIR",
        type=_DIR,
        help="Directory with a CA (*.crt) and client certificates (*.cert, *.key)",
    ),
)
_AUTHFILE = click.option(
    "--authfile",
    metavar="FILE",
    type=_FILE,
    help="Credentials file  [env: REGISTRY_AUTH_FILE]",
)
_DOCKER_AUTHFILE = click.option(
    "--compat-auth-file",
    "docker_authfile",
    metavar="FILE",
    type=_FILE,
    help="The same, for a file that docker reads, too: credentials of whole registries only",
)
_CREDENTIAL_OPTIONS = (
    click.option(
        "--creds",
        metavar="USER[:PASSWORD]",
        help="Credentials for this command; asks for a password that is not given",
    ),
    click.option("--no-creds", is_flag=True, help="Use no credentials, whatever is kept"),
    click.option(
        "--registry-token", metavar="TOKEN", help="Bearer token for this command, in their place"
    ),
)
_REGISTRIES_D = click.option(
    "--registries.d",
    "registries_d",
    metavar="DIR",
    type=_DIR,
    help="Files that say where signatures are, instead of this machine's registries.d",
)


def login_options(function: F) -> F:
    """How a registry is reached, and where its credentials are: gives the command a ``registry``,
    a RegistryOptions."""
    return _gathered(function, (*_SERVER_OPTIONS, _AUTHFILE, _DOCKER_AUTHFILE))


def authfile_options(function: F) -> F:
    """Where credentials are: gives the command a ``registry``, a RegistryOptions."""
    return _gathered(function, (_AUTHFILE, _DOCKER_AUTHFILE))


def registry_options(function: F) -> F:
    """How a registry is reached: gives the command a ``registry``, a RegistryOptions."""
    return _gathered(function, (*_SERVER_OPTIONS, _AUTHFILE, *_CREDENTIAL_OPTIONS, _REGISTRIES_D))


def _side_options(side: str, place: str) -> tuple[Callable[[Any], Any], ...]:
    """The options of registries again, for one side of a copy."""

    def option(name: str, **how: Any) -> Callable[[Any], Any]:
        return click.option(f"--{side}-{name}", help=f"--{name} for the {place} alone", **how)

    return (
        option("creds", metavar="USER[:PASSWORD]"),
        option("no-creds", is_flag=True),
        option("registry-token", metavar="TOKEN"),
        click.option(
            f"--{side}-tls-verify/--no-{side}-tls-verify",
            default=None,
            help=f"--tls-verify for the {place} alone",
        ),
        option("cert-dir", metavar="DIR", type=_DIR),
        option("authfile", metavar="FILE", type=_FILE),
    )


def both_registries_options(function: F) -> F:
    """How registries on both sides of a copy are reached.

    Gives the command ``registries``: the RegistryOptions of the source and of the destination,
    which are the same object where nothing makes a difference between them.
    """

    @functools.wraps(function)
    def with_registries(*args: Any, registry: RegistryOptions, **kwargs: Any) -> Any:
        source, destination = (
            _said(registry, **_taken(kwargs, f"{side}_")) for side in ("src", "dest")
        )
        both = (source, source) if source == destination else (source, destination)
        return function(*args, registries=both, **kwargs)

    decorated: Any = with_registries
    sides = (*_side_options("src", "source"), *_side_options("dest", "destination"))
    for option in reversed(sides):
        decorated = option(decorated)
    result: F = registry_options(decorated)
    return result


#: The parameters of the options of registries.
_SAID = (
    *("tls_verify", "cert_dir", "authfile", "docker_authfile"),
    *("creds", "no_creds", "registry_token", "registries_d"),
)


def _taken(arguments: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Those of the options of registries that a command has, taken out of its ``arguments``."""
    return {
        name: arguments.pop(f"{prefix}{name}") for name in _SAID if f"{prefix}{name}" in arguments
    }


def _said(
    general: RegistryOptions,
    *,
    tls_verify: bool | None = None,
    cert_dir: Path | None = None,
    authfile: Path | None = None,
    docker_authfile: Path | None = None,
    creds: str | None = None,
    no_creds: bool = False,
    registry_token: str | None = None,
    registries_d: Path | None = None,
) -> RegistryOptions:
    """``general``, but for what is said otherwise; of credentials, all or nothing."""
    given = sum((creds is not None, no_creds, registry_token is not None))
    if given > 1:
        raise click.UsageError("only one of --creds, --no-creds and --registry-token can be meant")
    if authfile is not None and docker_authfile is not None:
        raise click.UsageError("only one of --authfile and --compat-auth-file can be meant")
    return replace(
        general,
        tls_verify=general.tls_verify if tls_verify is None else tls_verify,
        cert_dir=cert_dir or general.cert_dir,
        authfile=authfile or general.authfile,
        docker_authfile=docker_authfile or general.docker_authfile,
        creds=creds if given else general.creds,
        anonymous=no_creds if given else general.anonymous,
        token=registry_token if given else general.token,
        registries_d=registries_d or general.registries_d,
    )


remove_signatures_option = click.option(
    "--remove-signatures", is_flag=True, help="Leave the signatures behind"
)


def _gathered(function: F, options: tuple[Callable[[Any], Any], ...]) -> F:
    @functools.wraps(function)
    def with_registry(*args: Any, **kwargs: Any) -> Any:
        from kstore.app import RegistryOptions

        return function(*args, registry=_said(RegistryOptions(), **_taken(kwargs)), **kwargs)

    decorated: Any = with_registry
    for option in reversed(options):
        decorated = option(decorated)
    result: F = decorated
    return result
