"""``kstore standalone-verify``."""

from __future__ import annotations

from pathlib import Path

import click

from kstore.cli.grammar import PathType, declare
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session

__all__ = ["command"]

_FILE = PathType(path_type=Path, dir_okay=False)


@declare(
    "standalone-verify",
    examples=(
        (
            "kstore standalone-verify --public-key-file me.gpg manifest.json quay.io/me/app:1 any"
            " signature-1",
            "by any key of a file",
        ),
    ),
)
@click.argument("manifest", metavar="MANIFEST", type=_FILE)
@click.argument("reference", metavar="DOCKER-REFERENCE")
@click.argument("fingerprints", metavar="KEY-FINGERPRINTS")
@click.argument("signature", metavar="SIGNATURE", type=_FILE)
@click.option(
    "--public-key-file",
    metavar="FILE",
    type=_FILE,
    help="File of public keys, instead of those that GnuPG has",
)
@pass_session
def command(
    session: Session,
    manifest: Path,
    reference: str,
    fingerprints: str,
    signature: Path,
    public_key_file: Path | None,
) -> None:
    """Check a signature in a file against a manifest in a file.

    KEY-FINGERPRINTS are those of the keys that are accepted, with commas between them, or 'any' of
    the public key file.  The arguments are those of 'skopeo standalone-verify'.
    """
    from kstore.operations.standalone import verify_file

    result = verify_file(
        manifest,
        reference,
        fingerprints,
        signature,
        public_keys=public_key_file,
        gnupg_home=session.app.settings.gnupg_home,
    )
    write(f"Signature verified using fingerprint {result.fingerprint}, digest {result.digest}")
