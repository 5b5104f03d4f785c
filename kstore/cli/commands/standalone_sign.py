"""``kstore standalone-sign``."""

from __future__ import annotations

from pathlib import Path

import click

from kstore.cli.grammar import PathType, declare
from kstore.cli.session import Session, pass_session

__all__ = ["command"]

_FILE = PathType(path_type=Path, dir_okay=False)


@declare(
    "standalone-sign",
    examples=(
        (
            "kstore standalone-sign manifest.json quay.io/me/app:1 me@example.org -o signature-1",
            "for a manifest in a file",
        ),
    ),
)
@click.argument("manifest", metavar="MANIFEST", type=_FILE)
@click.argument("reference", metavar="DOCKER-REFERENCE")
@click.argument("key", metavar="KEY-FINGERPRINT")
@click.option(
    "-o", "--output", metavar="FILE", type=_FILE, required=True, help="Where the signature goes"
)
@click.option(
    "--passphrase-file",
    metavar="FILE",
    type=_FILE,
    help="The passphrase of the key is the first line of FILE",
)
@pass_session
def command(
    session: Session,
    manifest: Path,
    reference: str,
    key: str,
    output: Path,
    passphrase_file: Path | None,
) -> None:
    """Sign a manifest that is a file, into a file, with a key of GnuPG.

    The arguments are those of 'skopeo standalone-sign'.
    """
    from kstore.app import SigningOptions
    from kstore.operations.standalone import sign_file

    (signer,) = session.app.signers(SigningOptions((key,), passphrase_file))
    digest = sign_file(manifest, reference, signer, output)
    session.show(f"signed {digest} as {reference}")
