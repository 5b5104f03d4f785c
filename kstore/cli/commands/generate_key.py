"""``kstore generate-key``."""

from __future__ import annotations

from pathlib import Path

import click

from kstore.cli.grammar import PathType, declare
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.errors import InvalidInputError

__all__ = ["command"]


@declare(
    "generate-key",
    examples=(
        ("kstore generate-key me", "me.private and me.pub; asks for a passphrase"),
        ("kstore generate-key --passphrase-file secret me", "in a script"),
        (
            "kstore push --sign-by-sigstore-private-key me.private app quay.io/me/app",
            "what the private key is for",
        ),
    ),
)
@click.argument("prefix", required=False)
@click.option("--output-prefix", metavar="PREFIX", help="Another way to say PREFIX")
@click.option(
    "--passphrase-file",
    metavar="FILE",
    type=PathType(path_type=Path, dir_okay=False),
    help="The passphrase is the first line of FILE",
)
@click.option("--plain", is_flag=True, help="Do not encrypt the private key (PKCS #8 in PEM)")
@pass_session
def command(
    session: Session,
    prefix: str | None,
    output_prefix: str | None,
    passphrase_file: Path | None,
    plain: bool,
) -> None:
    """Make a pair of keys to sign images with, as sigstore does.

    Writes PREFIX.private, encrypted with a passphrase, and PREFIX.pub, which others verify the
    signatures with; cosign, skopeo and podman can use both.  Prints the names of the files.
    """
    from kstore.operations.generate_key import generate_key_pair
    from kstore.vouching import passphrase_of

    chosen = prefix or output_prefix
    if chosen is None or (prefix and output_prefix):
        raise click.UsageError("one PREFIX of the names of the files is needed")
    if plain and passphrase_file is not None:
        raise click.UsageError("--plain has no use for --passphrase-file")
    passphrase = None
    if not plain:
        passphrase = passphrase_of(passphrase_file)
        if passphrase is None:
            passphrase = _asked(session, chosen)
    pair = generate_key_pair(chosen, passphrase)
    write(f"{pair.private}\n{pair.public}")


def _asked(session: Session, prefix: str) -> bytes:
    first = session.ask_secret(f"Passphrase for {prefix}.private: ")
    if session.ask_secret("The same again: ") != first:
        raise InvalidInputError("the two passphrases differ")
    return first.encode()
