"""``kstore referrers``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import image_argument, no_trunc_option, quiet_option, registry_options
from kstore.cli.output import write, write_table
from kstore.cli.session import Session, pass_session
from kstore.cli.text import NONE, human_size

if TYPE_CHECKING:
    from kstore.app import RegistryOptions
    from kstore.operations.attached import Attached

__all__ = ["command"]

_FIELDS = ("Digest", "ArtifactType", "MediaType", "Size", "Annotations", "Subject", "Tag")


@declare(
    "referrers",
    examples=(
        ("kstore referrers app", "what the store has of it"),
        ("kstore referrers docker://quay.io/me/app:1", "what its registry has"),
        (
            "kstore referrers --artifact-type application/spdx+json -q docker://quay.io/me/app",
            "digests, for scripts",
        ),
    ),
)
@image_argument()
@click.option("--artifact-type", metavar="TYPE", help="Only what is of this type")
@click.option("-r", "--recursive", is_flag=True, help="Also what is attached to these, in turn")
@quiet_option("Only digests")
@no_trunc_option
@format_option(_FIELDS)
@registry_options
@pass_session
def command(
    session: Session,
    image: str,
    artifact_type: str | None,
    recursive: bool,
    quiet: bool,
    no_trunc: bool,
    form: str | None,
    registry: RegistryOptions,
) -> None:
    """List what is attached to an image: signatures, attestations, lists of contents, ...

    IMAGE is a name or an ID in the store, docker://NAME for an image in a registry, oci:DIR[:REF]
    for one in a layout.  Listed is what refers to it, and what cosign has attached by a tag;
    'pull', 'push' and 'copy' take it along with --with-referrers.
    """
    from kstore.operations.referrers import describe, list_referrers

    shape = Form(form, _FIELDS)
    with session.transports("referrers", registry, read_only=True) as transports:
        found = list_referrers(transports, image, artifact_type=artifact_type, recursive=recursive)
    if quiet:
        write("\n".join(str(each.descriptor.digest) for each in found))
    elif shape.given:
        shape.write_list([describe(each) for each in found])
    else:
        write_table(
            ("DIGEST", "TYPE", "SIZE", "ATTACHED TO"),
            [_row(each, no_trunc=no_trunc) for each in found],
        )


def _row(attached: Attached, *, no_trunc: bool) -> tuple[str, ...]:
    descriptor = attached.descriptor
    shown, subject = (
        str(digest) if no_trunc else digest.short
        for digest in (descriptor.digest, attached.subject)
    )
    return shown, attached.kind or NONE, human_size(descriptor.size), subject
