"""``kstore copy``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kstore.cli.copying import both_transports, copy_options, retry_option
from kstore.cli.grammar import declare
from kstore.cli.options import (
    both_registries_options,
    digestfile_option,
    progress_option,
    quiet_option,
    with_referrers_option,
)
from kstore.cli.output import write_digest_file
from kstore.cli.session import Session, pass_session
from kstore.cli.signing import signing_options, trust_options

if TYPE_CHECKING:
    from kstore.app import RegistryOptions, SigningOptions
    from kstore.copier import CopyOptions
    from kstore.image import TrustPolicy

__all__ = ["command"]


@declare(
    "copy",
    examples=(
        ("kstore copy docker://busybox oci:layout:busybox", "into an OCI layout, past the store"),
        (
            "kstore copy --all docker://quay.io/podman/hello docker://registry.example/hello:1",
            "all platforms from registry to registry, byte for byte",
        ),
        ("kstore copy --format docker --compress gzip:9 kstore:app dir:app", "converted"),
        ("kstore copy kstore:app docker-archive:- | ssh host docker load", "through a pipe"),
    ),
)
@click.argument("source", metavar="SOURCE")
@click.argument("destination", metavar="DESTINATION")
@copy_options()
@with_referrers_option
@retry_option
@digestfile_option
@quiet_option("No progress, only errors")
@progress_option
@both_registries_options
@signing_options
@trust_options
@pass_session
def command(
    session: Session,
    source: str,
    destination: str,
    options: CopyOptions,
    with_referrers: bool,
    retries: int,
    digestfile: Path | None,
    quiet: bool,
    progress: str,
    registries: tuple[RegistryOptions, RegistryOptions],
    signing: SigningOptions,
    policy: TrustPolicy,
) -> None:
    """Copy an image from one place to another, of whatever kind.

    SOURCE and DESTINATION are docker://NAME, docker-daemon:NAME:TAG, docker-archive:FILE[:NAME],
    kstore:NAME (or storage:NAME), oci:DIR[:REF], oci-archive:FILE[:REF], dir:DIR, or, to read,
    tarball:FILE[:FILE...].  The file - is standard input or output.  Nothing about the image
    changes unless an option asks for it, or the destination cannot take it as it is.
    """
    from kstore.cli.progress import displayed
    from kstore.cli.transfers import COPYING
    from kstore.operations.copy import copy, parse_end
    from kstore.transports import STORE_TRANSPORTS

    into_store = destination.partition(":")[0] in STORE_TRANSPORTS
    session.on_interrupt = "the destination is as it was"
    options = replace(
        options, signers=session.app.signers(signing), sign_identity=signing.image_name
    )
    with (
        both_transports(session, "copy", registries, create=into_store) as (here, there),
        displayed(session, progress, COPYING, quiet=quiet) as sink,
    ):
        result = copy(
            parse_end(here, source),
            parse_end(there, destination),
            options,
            policy=policy,
            retries=retries,
            with_referrers=with_referrers,
            progress=sink,
            cancel=session.cancel,
        )
    if digestfile is not None:
        write_digest_file(digestfile, result.raw.digest, "the image was copied")
    if summary := sink.summary():
        session.show(f"copied {source} to {destination}: {summary}")
        session.show(f"digest {result.raw.digest}")
