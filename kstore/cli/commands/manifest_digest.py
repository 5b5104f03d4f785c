"""``kstore manifest-digest``."""

from __future__ import annotations

import sys

import click

from kstore.cli.grammar import PathType, declare
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.digest import ALGORITHMS
from kstore.errors import InvalidInputError

__all__ = ["command"]


@declare(
    "manifest-digest",
    examples=(
        ("kstore manifest-digest manifest.json", "what a registry would call it"),
        ("kstore inspect --raw docker://busybox | kstore manifest-digest -", "through a pipe"),
    ),
)
@click.argument("file", metavar="FILE|-", type=PathType(allow_dash=True))
@click.option(
    "--algorithm",
    type=click.Choice(tuple(ALGORITHMS)),
    default="sha256",
    show_default=True,
    help="How to compute it",
)
@pass_session
def command(session: Session, file: str, algorithm: str) -> None:
    """Print the digest of a manifest or index.

    It is that of the bytes; of a signed manifest of Docker's first schema, that of what was signed.
    """
    from kstore.operations.manifest_digest import manifest_digest

    if file == "-" and sys.stdin.isatty():
        raise InvalidInputError("standard input is a terminal, not a manifest")
    write(str(manifest_digest(file, algorithm=algorithm, stdin=sys.stdin.buffer)))
