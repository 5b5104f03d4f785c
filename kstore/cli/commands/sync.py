"""``kstore sync``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import click

from kstore.cli.copying import both_transports, copy_options, retry_option
from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import (
    both_registries_options,
    progress_option,
    quiet_option,
    with_referrers_option,
)
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.signing import trust_options
from kstore.cli.text import plural, printable

if TYPE_CHECKING:
    from kstore.app import RegistryOptions
    from kstore.copier import CopyOptions
    from kstore.image import TrustPolicy
    from kstore.operations.sync import Synced
    from kstore.transports import Transports

__all__ = ["command"]

_FIELDS = ("Source", "Destination", "Digest", "Status", "Error")
_SHOWN = {"pending": "would be copied"}
_PLACE = click.Choice(("docker", "oci", "dir", "kstore"))


@declare(
    "sync",
    examples=(
        (
            "kstore sync --tag-semver '>=1.36 <2' docker://busybox docker://registry.example/mirror",
            "mirror the versions of a repository that are wanted",
        ),
        ("kstore sync --all --dry-run docker://quay.io/podman/hello oci:layout", "what is new?"),
        ("kstore sync dir:/media/usb kstore:", "everything from a disk, under its own names"),
    ),
)
@click.argument("source", metavar="SOURCE")
@click.argument("destination", metavar="DESTINATION")
@click.option("--src", type=_PLACE, help="The source's transport, if SOURCE does not say it")
@click.option("--dest", type=_PLACE, help="The destination's, if DESTINATION does not say it")
@click.option("--tag-glob", "globs", metavar="PATTERN", multiple=True, help="Tags such as 1.*")
@click.option(
    "--tag-regex", "regexes", metavar="REGEX", multiple=True, help="Tags that match from end to end"
)
@click.option(
    "--tag-semver",
    "versions",
    metavar="RANGE",
    multiple=True,
    help="Versions in a range: ^1.2, ~1.2.3, '>=1 <3', 1.x; each filter may be given again, and a"
    " tag has to meet one of every kind",
)
@click.option("--scoped", is_flag=True, help="Full names, registry and all, below DESTINATION")
@click.option("--append-suffix", "suffix", metavar="TEXT", default="", help="Add TEXT to all tags")
@click.option(
    "--parallel",
    type=click.IntRange(1, 32),
    default=2,
    show_default=True,
    metavar="N",
    help="Images at once",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done")
@click.option("--keep-going", is_flag=True, help="After a failure, go on with the other images")
@copy_options(without=("index_only", "sparse", "family"))
@with_referrers_option
@retry_option
@format_option(_FIELDS)
@quiet_option("No progress, only results")
@progress_option
@both_registries_options
@trust_options
@pass_session
def command(
    session: Session,
    source: str,
    destination: str,
    src: str | None,
    dest: str | None,
    globs: tuple[str, ...],
    regexes: tuple[str, ...],
    versions: tuple[str, ...],
    scoped: bool,
    suffix: str,
    parallel: int,
    dry_run: bool,
    keep_going: bool,
    options: CopyOptions,
    with_referrers: bool,
    retries: int,
    form: str | None,
    quiet: bool,
    progress: str,
    registries: tuple[RegistryOptions, RegistryOptions],
    policy: TrustPolicy,
) -> None:
    """Bring many images from one place to another, and only those that are not there yet.

    SOURCE is a repository (all its tags) or one image: docker://NAME or kstore:NAME (kstore: alone
    is the whole store), an OCI layout oci:DIR, or a directory of dir: images, dir:DIR.  Below
    DESTINATION, docker://REGISTRY[/PATH], oci:DIR, dir:DIR or kstore:[PREFIX], an image is called
    by the last part of its repository and its tag.  Prints what became of each.

    The trust policy is asked about every image, also about those that are there already.  Where it
    looks at signatures, and with --with-referrers, those that were added since are brought.
    """
    from kstore.cli.progress import displayed
    from kstore.cli.transfers import COPYING
    from kstore.operations.sync import SyncOptions, sync_images
    from kstore.operations.tag_filters import TagFilter
    from kstore.transports import STORE_TRANSPORTS

    shape = Form(form, _FIELDS)
    settings = SyncOptions(
        tags=TagFilter(globs, regexes, versions),
        copying=options,
        scoped=scoped,
        suffix=suffix,
        parallel=parallel,
        dry_run=dry_run,
        keep_going=keep_going,
        retries=retries,
        with_referrers=with_referrers,
        policy=policy,
    )
    session.on_interrupt = "images that were copied stay, and the next run goes on from there"

    place, target = _reference(source, src), _reference(destination, dest)
    into_store = target.partition(":")[0] in STORE_TRANSPORTS

    def transports() -> AbstractContextManager[tuple[Transports, Transports]]:
        return both_transports(session, "sync", registries, read_only=dry_run, create=into_store)

    results: list[Synced] = []
    try:
        with displayed(session, progress, COPYING, quiet=quiet) as sink:
            for result in sync_images(
                transports, place, target, settings, progress=sink, cancel=session.cancel
            ):
                results.append(result)
    finally:  # also what was done before a failure, or before Ctrl-C
        if results and shape.given:
            shape.write_list([result.to_json() for result in results])
        else:
            write("".join(f"{_line(result)}\n" for result in results))
    for result in results:
        if result.error is not None:
            session.report(result.error, about=result.source)
    if not quiet:
        session.show(_summary(results))
    session.finish()


def _reference(text: str, transport: str | None) -> str:
    if transport is None:
        return text
    return f"{transport}://{text}" if transport == "docker" else f"{transport}:{text}"


def _line(result: Synced) -> str:
    if result.error is not None:
        return printable(f"{result.source} -> {result.destination} (failed: {result.error})")
    status = _SHOWN.get(result.status, result.status)
    return printable(f"{result.source} -> {result.destination} {result.digest} ({status})")


def _summary(results: Sequence[Synced]) -> str:
    counts = {
        _SHOWN.get(status, status): sum(result.status == status for result in results)
        for status in ("copied", "pending", "unchanged", "failed")
    }
    parts = [f"{count} {status}" for status, count in counts.items() if count]
    return f"{plural(len(results), 'image')}: {', '.join(parts)}"
