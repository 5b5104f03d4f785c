"""``kstore save``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kstore.cli.grammar import PathType, declare
from kstore.cli.options import (
    CompressionType,
    image_argument,
    progress_option,
    quiet_option,
    remove_signatures_option,
    with_referrers_option,
)
from kstore.cli.session import Session, pass_session
from kstore.cli.signing import trust_options

if TYPE_CHECKING:
    from kstore.compression import Kind
    from kstore.image import TrustPolicy
    from kstore.operations.save import SaveFormat

__all__ = ["command"]

#: As in operations.save, which help must not import.
_FORMATS = ("docker-archive", "oci-archive", "oci-dir", "docker-dir")


@declare(
    "save",
    examples=(
        ("kstore save -o app.tar app:1", "a file that docker, podman and kstore load"),
        ("kstore save app:1 base | ssh host docker load", "two images through a pipe"),
        ("kstore save --format oci-archive --compress zstd -o app.oci app:1", "smaller"),
        (
            "kstore save --format oci-archive --with-referrers -o app.oci app:1",
            "with its list of contents and whatever else is attached to it",
        ),
    ),
)
@image_argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="FILE|DIR",
    type=PathType(allow_dash=True, readable=False),
    default="-",
    help="Where to; standard output without it",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="docker-archive",
    show_default=True,
    help="An archive is one file; docker-dir is a dir: image with a Docker manifest",
)
@click.option(
    "--compress",
    type=CompressionType(),
    metavar="KIND[:LEVEL]",
    help="Compress what is not compressed so yet: gzip (1 to 9) or zstd (1 to 22); none unpacks;"
    " layers stay as they are without it",
)
@quiet_option("No progress, only errors")
@progress_option
@with_referrers_option
@remove_signatures_option
@trust_options
@pass_session
def command(
    session: Session,
    images: tuple[str, ...],
    output: str,
    form: SaveFormat,
    compress: tuple[Kind, int | None] | None,
    quiet: bool,
    progress: str,
    with_referrers: bool,
    remove_signatures: bool,
    policy: TrustPolicy,
) -> None:
    """Write images of the store to a file, or through a pipe.

    IMAGE is a name, which the image keeps there, or an ID, by which it has none.  Layers are saved
    as they are in the store, each once, so that 'kstore load' restores the same image down to its
    manifest's digest.  The file must be new, and is there when it is complete or not at all.
    """
    from kstore.cli.progress import displayed
    from kstore.cli.transfers import SAVING
    from kstore.operations.save import SaveOptions, save_images

    kind, level = compress or (None, None)
    session.on_interrupt = "nothing was saved"
    with (
        session.transports("save", create=False) as transports,
        displayed(session, progress, SAVING, quiet=quiet) as sink,
    ):
        result = save_images(
            transports.storage.store,
            transports,
            images,
            output,
            SaveOptions(
                format=form,
                compression=kind,
                compression_level=level,
                remove_signatures=remove_signatures,
                with_referrers=with_referrers,
                policy=policy,
            ),
            progress=sink,
            cancel=session.cancel,
        )
    if summary := sink.summary():
        session.show(f"saved to {result.place}: {summary}")
