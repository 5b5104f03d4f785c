"""``kstore pull``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kstore.cli.grammar import declare
from kstore.cli.options import (
    platform_option,
    progress_option,
    quiet_option,
    registry_options,
    with_referrers_option,
)
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.signing import attachments_option, trust_options
from kstore.cli.text import short_id
from kstore.errors import KstoreError

if TYPE_CHECKING:
    from kstore.app import RegistryOptions
    from kstore.image import TrustPolicy
    from kstore.operations.pull import Pulled, PullResult
    from kstore.platforms import Platform

__all__ = ["command"]


@declare(
    "pull",
    examples=(
        ("kstore pull busybox", "the image docker.io/library/busybox:latest"),
        ("kstore pull --platform linux/arm64 quay.io/podman/hello", "for another machine"),
        ("kstore pull --if-missing busybox", "only if the store has no image of that name"),
        ("id=$(kstore pull -q busybox)", "in a script: the ID is all that is printed"),
    ),
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-a", "--all-tags", is_flag=True, help="Every tag of the repository NAME")
@platform_option
@with_referrers_option
@click.option(
    "--if-missing",
    is_flag=True,
    help="Leave an image that is in the store as it is, and ask no registry for it",
)
@quiet_option("No progress, only the image ID")
@progress_option
@registry_options
@attachments_option
@trust_options
@pass_session
def command(
    session: Session,
    names: tuple[str, ...],
    all_tags: bool,
    platform: Platform | None,
    with_referrers: bool,
    if_missing: bool,
    quiet: bool,
    progress: str,
    registry: RegistryOptions,
    policy: TrustPolicy,
) -> None:
    """Bring images from a registry into the store.

    NAME is [REGISTRY/]REPOSITORY[:TAG][@DIGEST]; without a registry it means what registries.conf
    says, by default docker.io.  Layers that are in the store are not fetched again, and a pull that
    was stopped goes on where it was.  Prints the image ID.
    """
    from kstore.cli.progress import displayed
    from kstore.cli.transfers import PULLING
    from kstore.operations.pull import PullOptions, pull_image

    session.on_interrupt = (
        "finished layers and partial downloads are kept, and the next pull goes on from there"
    )
    options = PullOptions(
        platform=platform,
        all_tags=all_tags,
        with_referrers=with_referrers,
        if_missing=if_missing,
        policy=policy,
    )
    with (
        session.open_store("pull") as store,
        session.app.transports(store, registry, session.cancel) as transports,
    ):
        for name in names:
            try:
                with displayed(session, progress, PULLING, quiet=quiet) as sink:
                    result = pull_image(
                        store, transports, name, options, progress=sink, cancel=session.cancel
                    )
            except KstoreError as error:
                session.report(error)
                continue
            if not quiet:
                _warn_of_platforms(session, result)
                _note_present(session, result)
            if any(not each.present for each in result.pulled) and (summary := sink.summary()):
                session.show(f"pulled {name}: {summary}")
            for pulled in result.pulled:
                write(pulled.image_id)
                _note_previous(session, pulled, quiet=quiet)
            for failure in result.failed:
                session.report(failure.error, about=failure.name)
    session.finish()


def _warn_of_platforms(session: Session, result: PullResult) -> None:
    for pulled in result.pulled:
        if pulled.other_platform is not None:
            session.warn(f"{pulled.name} is an image for {pulled.other_platform} only")


def _note_present(session: Session, result: PullResult) -> None:
    for pulled in result.pulled:
        if pulled.present:
            session.show(f"{pulled.name} is in the store already")


def _note_previous(session: Session, pulled: Pulled, *, quiet: bool) -> None:
    if pulled.previous is not None and not quiet:
        session.show(
            f"{pulled.name} meant {short_id(pulled.previous)} before, which has no name now;"
            " 'kstore prune' removes it"
        )
