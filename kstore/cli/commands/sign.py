"""``kstore sign``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kstore.cli.grammar import declare
from kstore.cli.options import image_argument, registry_options
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.signing import signing_options

if TYPE_CHECKING:
    from kstore.app import RegistryOptions, SigningOptions

__all__ = ["command"]


@declare(
    "sign",
    examples=(
        ("kstore sign --sign-by me@example.org app:1", "in the store; a push takes it along"),
        ("kstore sign --sign-by-sigstore-private-key me.private app:1", "by a sigstore key"),
        (
            "kstore sign --sign-by me@example.org docker://quay.io/me/app:1",
            "at a registry, where registries.d says that signatures are",
        ),
    ),
)
@image_argument()
@registry_options
@signing_options
@pass_session
def command(
    session: Session, image: str, registry: RegistryOptions, signing: SigningOptions
) -> None:
    """Sign an image where it is.

    IMAGE is a name or an ID of the store, or transport:reference.  Of an index, every image is
    signed as well.  Prints the digests that were signed.
    """
    from kstore.operations.sign import image_reference, sign_image

    if not signing.given:
        raise click.UsageError(
            "--sign-by or --sign-by-sigstore-private-key says whose signature it is to be"
        )
    signers = session.app.signers(signing)
    with session.transports("sign", registry, create=False) as transports:
        reference = image_reference(transports, image)
        for digest in sign_image(reference, signers, signing.image_name, cancel=session.cancel):
            write(str(digest))
