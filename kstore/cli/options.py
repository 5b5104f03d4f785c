"""Options and arguments that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kstore.cli.completion import ImageName
from kstore.cli.grammar import ParamType
from kstore.cli.session import PROGRESS_MODES

if TYPE_CHECKING:
    from kstore.platforms import Platform

__all__ = [
    "image_argument",
    "no_trunc_option",
    "platform_option",
    "progress_option",
    "quiet_option",
    "registry_options",
    "server_options",
]

F = TypeVar("F", bound=Callable[..., Any])


class PlatformType(ParamType):
    """``OS/ARCH[/VARIANT]``."""

    name = "OS/ARCH[/VARIANT]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Platform:
        from kstore.platforms import Platform

        return value if isinstance(value, Platform) else Platform.parse(value)


def image_argument(
    name: str = "image", *, metavar: str = "IMAGE", **attributes: Any
) -> Callable[[F], F]:
    """An argument that names images of the store, completed from there."""
    return click.argument(name, type=ImageName(), metavar=metavar, **attributes)


def quiet_option(text: str) -> Callable[[F], F]:
    """``-q/--quiet``; ``text`` says what is left out."""
    return click.option("-q", "--quiet", is_flag=True, help=text)


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
