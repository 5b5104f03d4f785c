"""``kstore push``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kstore.cli.grammar import declare
from kstore.cli.options import (
    digestfile_option,
    image_argument,
    progress_option,
    quiet_option,
    registry_options,
    remove_signatures_option,
    with_referrers_option,
)
from kstore.cli.output import write_digest_file
from kstore.cli.session import Session, pass_session
from kstore.cli.signing import signing_options, trust_options

if TYPE_CHECKING:
    from kstore.app import RegistryOptions, SigningOptions
    from kstore.image import TrustPolicy

__all__ = ["command"]


@declare(
    "push",
    examples=(
        ("kstore push quay.io/me/app:1", "under its own name"),
        ("kstore push app registry.example.org/team/app:1", "under another name"),
        ("kstore push --digestfile digest.txt app quay.io/me/app", "note what was pushed"),
        ("kstore push --sign-by me@example.org app quay.io/me/app", "and vouch for it"),
        (
            "kstore push --sign-by-sigstore-private-key me.private app quay.io/me/app",
            "signed; 'kstore generate-key me' makes the key",
        ),
    ),
)
@image_argument()
@click.argument("destination", required=False)
@with_referrers_option
@quiet_option("No progress, only errors")
@progress_option
@digestfile_option
@remove_signatures_option
@registry_options
@signing_options
@trust_options
@pass_session
def command(
    session: Session,
    image: str,
    destination: str | None,
    with_referrers: bool,
    quiet: bool,
    progress: str,
    digestfile: Path | None,
    remove_signatures: bool,
    registry: RegistryOptions,
    signing: SigningOptions,
    policy: TrustPolicy,
) -> None:
    """Send an image from the store to a registry.

    IMAGE is a name or an ID, DESTINATION the name there (default: the image's own).  What arrives
    is byte for byte what was pulled, and layers that the registry has are not sent.
    """
    from kstore.cli.progress import displayed
    from kstore.cli.transfers import PUSHING
    from kstore.operations.push import PushOptions, push_image

    session.on_interrupt = "layers that were sent are kept by the registry"
    options = PushOptions(
        signers=session.app.signers(signing),
        sign_identity=signing.image_name,
        with_referrers=with_referrers,
        remove_signatures=remove_signatures,
        policy=policy,
    )
    with (
        session.open_store("push", create=False) as store,
        session.app.transports(store, registry, session.cancel) as transports,
        displayed(session, progress, PUSHING, quiet=quiet) as sink,
    ):
        result = push_image(
            store, transports, image, destination, options, progress=sink, cancel=session.cancel
        )
    if digestfile is not None:
        write_digest_file(digestfile, result.digest, "the image was pushed")
    if summary := sink.summary():
        session.show(f"pushed {result.destination}: {summary}")
        session.show(f"digest {result.digest}")
