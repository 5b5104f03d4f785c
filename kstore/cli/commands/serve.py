"""``kstore serve``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kstore.cli.grammar import PathType, declare
from kstore.cli.options import quiet_option
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.text import human_duration, human_size
from kstore.errors import CancelledError, InvalidInputError

if TYPE_CHECKING:
    from kstore.server import AccessLine

__all__ = ["command"]


@declare(
    "serve",
    examples=(
        ("kstore serve", "for this machine, on a free port"),
        ("kstore serve --listen 127.0.0.1:5000 --read-only", "on a known port, for pulls only"),
        ("kstore serve --listen 0.0.0.0:5000 --htpasswd users", "for a network, with passwords"),
    ),
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:0",
    show_default=True,
    help="Where to listen; port 0 means any free one",
)
@click.option("--read-only", is_flag=True, help="Refuse pushes and deletions")
@click.option(
    "--htpasswd",
    metavar="FILE",
    type=PathType(path_type=Path, readable=False),  # who reads it says it better
    help="Users and passwords, as Apache's htpasswd writes them",
)
@click.option("--insecure-no-auth", is_flag=True, help="Let everybody in, also from other machines")
@quiet_option("No line for each request")
@pass_session
def command(
    session: Session,
    listen: str,
    read_only: bool,
    htpasswd: Path | None,
    insecure_no_auth: bool,
    quiet: bool,
) -> None:
    """Offer the store's images as a registry, until Ctrl-C.

    The first line on standard output is 'listening on http://HOST:PORT'; requests are told on
    standard error.  It speaks plain HTTP: put a proxy with TLS before it on a network.  An upload
    that breaks off, be it by the end of the server, can go on there, or at the next one.
    """
    from kstore.operations.serve import serve_store
    from kstore.server import ServeSettings

    host, port = _address(listen)
    settings = ServeSettings(
        host=host,
        port=port,
        read_only=read_only,
        htpasswd=htpasswd,
        insecure_no_auth=insecure_no_auth,
    )
    app = session.app  # made here, in the main thread; the server's threads share it

    def ready(address: str) -> None:
        write(f"listening on http://{address}")
        sys.stdout.flush()

    try:
        serve_store(
            lambda: app.open_store("serve", read_only=read_only),
            settings,
            ready=ready,
            log=None if quiet else lambda line: session.show(_line(line)),
            cancel=session.cancel,
        )
    except (KeyboardInterrupt, CancelledError):
        session.show("stopped")  # the ordinary way to end a server


def _address(text: str) -> tuple[str, int]:
    """``HOST:PORT``; the brackets of an IPv6 address are dropped."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    valid = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if not colon or not valid or not bare or (bare == host and ":" in host):
        raise InvalidInputError(f"{text[:200]!r} is not HOST:PORT")
    return bare, int(port)


def _line(line: AccessLine) -> str:
    status = "-" if line.status is None else str(line.status)
    moved = human_size(line.sent or line.received)
    text = f"{line.client} {line.method} {line.path} {status} {moved} in"
    text += f" {human_duration(line.seconds)}"
    return f"{text}: {line.error}" if line.error else text
