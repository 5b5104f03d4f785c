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
from kstore.cli.grammar import ParamType
from kstore.cli.session import PROGRESS_MODES

if TYPE_CHECKING:
    from kstore.app import RegistryOptions
    from kstore.compression import Kind
    from kstore.platforms import Platform

__all__ = [
    "CompressionType",
    "SizeType",
    "both_registries_options",
    "container_argument",
    "digestfile_option",
    "filter_option",
    "image_argument",
    "no_trunc_option",
    "platform_option",
    "progress_option",
    "quiet_option",
    "registry_options",
    "remove_signatures_option",
    "server_options",
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
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write the digest of the written manifest to FILE",
)

with_referrers_option = click.option(
    "--with-referrers",
    is_flag=True,
    help="Also what is attached to the image: signatures, attestations, lists of contents, ...",
)

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
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="Directory with a CA (*.crt) and client certificates (*.cert, *.key)",
    ),
    click.option(
        "--authfile",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Credentials file  [env: REGISTRY_AUTH_FILE]",
    ),
)
_CREDS = click.option(
    "--creds",
    metavar="USER[:PASSWORD]",
    help="Credentials for this command; asks for a password that is not given",
)


def server_options(function: F) -> F:
    """How a registry is reached, without credentials: gives the command a ``registry``."""
    return _gathered(function, _SERVER_OPTIONS)


def registry_options(function: F) -> F:
    """How a registry is reached: gives the command a ``registry``, a RegistryOptions."""
    return _gathered(function, (*_SERVER_OPTIONS, _CREDS))


def _side_options(side: str, place: str) -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option(
            f"--{side}-creds",
            metavar="USER[:PASSWORD]",
            help=f"Credentials for the {place} alone",
        ),
        click.option(
            f"--{side}-tls-verify/--no-{side}-tls-verify",
            default=None,
            help=f"--tls-verify for the {place} alone",
        ),
    )


def both_registries_options(function: F) -> F:
    """How registries on both sides of a copy are reached.

    Gives the command ``registries``: the RegistryOptions of the source and of the destination,
    which are the same object where nothing makes a difference between them.
    """

    @functools.wraps(function)
    def with_registries(
        *args: Any,
        registry: RegistryOptions,
        src_creds: str | None,
        src_tls_verify: bool | None,
        dest_creds: str | None,
        dest_tls_verify: bool | None,
        **kwargs: Any,
    ) -> Any:
        source = _particular(registry, src_creds, src_tls_verify)
        destination = _particular(registry, dest_creds, dest_tls_verify)
        both = (source, source) if source == destination else (source, destination)
        return function(*args, registries=both, **kwargs)

    decorated: Any = with_registries
    sides = (*_side_options("src", "source"), *_side_options("dest", "destination"))
    for option in reversed(sides):
        decorated = option(decorated)
    result: F = registry_options(decorated)
    return result


def _particular(
    general: RegistryOptions, creds: str | None, tls_verify: bool | None
) -> RegistryOptions:
    return replace(
        general,
        creds=general.creds if creds is None else creds,
        tls_verify=general.tls_verify if tls_verify is None else tls_verify,
    )


remove_signatures_option = click.option(
    "--remove-signatures", is_flag=True, help="Leave the signatures behind"
)


def _gathered(function: F, options: tuple[Callable[[Any], Any], ...]) -> F:
    @functools.wraps(function)
    def with_registry(
        *args: Any,
        tls_verify: bool | None,
        cert_dir: Path | None,
        authfile: Path | None,
        creds: str | None = None,
        **kwargs: Any,
    ) -> Any:
        from kstore.app import RegistryOptions

        said = RegistryOptions(tls_verify, cert_dir, creds, authfile)
        return function(*args, registry=said, **kwargs)

    decorated: Any = with_registry
    for option in reversed(options):
        decorated = option(decorated)
    result: F = decorated
    return result
