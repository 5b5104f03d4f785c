"""``kstore check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kstore.cli.findings import Outcome, show
from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import progress_option, registry_options
from kstore.cli.session import Session, pass_session
from kstore.errors import StorageError, StoreDamagedError

if TYPE_CHECKING:
    from kstore.app import RegistryOptions
    from kstore.operations.repair import RepairResult
    from kstore.store import RebuildReport, Store

__all__ = ["command"]


@declare(
    "check",
    examples=(
        ("kstore check", "compare the records with the files; fast"),
        ("kstore check --deep", "also read every byte and compare digests"),
        ("kstore check --max-time 60", "read for a minute what was read longest ago"),
        ("kstore check --repair", "fetch again what is damaged, from where it came from"),
        ("kstore check --repair --from /media/usb/images.tar", "or from an archive, a store, ..."),
    ),
)
@click.option("--deep", is_flag=True, help="Hash every blob, unpack every layer")
@click.option(
    "--max-time",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="Hash blobs for so long, those first that were verified longest ago",
)
@click.option("--repair", is_flag=True, help="Repair what is damaged, the database too")
@click.option(
    "--from",
    "sources",
    metavar="SOURCE",
    multiple=True,
    help="Where to look first: another store, an OCI layout, an archive, TRANSPORT:REFERENCE;"
    " may be given several times",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json")
@format_option(example="damaged")
@progress_option
@registry_options
@pass_session
def command(
    session: Session,
    deep: bool,
    max_time: float | None,
    repair: bool,
    sources: tuple[str, ...],
    as_json: bool,
    form: str | None,
    progress: str,
    registry: RegistryOptions,
) -> None:
    """Verify that the store is what its records say.

    With --repair, damaged blobs are fetched again by their digests, verified, and put in place of
    the damaged ones; a damaged or lost database is made anew, and the old one kept beside it.
    Nothing that can be used is removed.

    The exit status is 0 if no damage is left (leftovers that 'kstore prune' removes do no harm),
    and 10 otherwise.
    """
    if sources and not repair:
        raise click.UsageError("--from says where a repair looks, and goes with --repair")
    if as_json and form not in (None, "json"):
        raise click.UsageError("--json is --format json, and another --format cannot be meant")
    shape = Form("json" if as_json else form)
    session.on_interrupt = "the check is not finished; what was repaired stays so"
    checking = _Checking(session, deep, max_time)
    outcome = checking.repaired(sources, progress, registry) if repair else checking.checked()
    if shape.given:
        shape.write_one(outcome.to_json())
    else:
        show(session, outcome)
    session.finish(StorageError.exit_code if outcome.damaged else 0)


class _Checking:
    """The roads one run can take."""

    def __init__(self, session: Session, deep: bool, max_time: float | None) -> None:
        self._session = session
        self._deep = deep
        self._max_time = max_time

    def _open(self) -> Store:
        # Not making a store: that there is no damage in a place that is misspelt would be no
        # answer.
        return self._session.open_store("check", create=False)

    def checked(self) -> Outcome:
        """A check alone."""
        with self._open() as store:
            return self._check(store)

    def _check(self, store: Store) -> Outcome:
        from kstore.cli.meter import metered
        from kstore.operations.check import affected_images, check_store

        total = store.facts().blob_bytes if self._deep else None
        with metered(self._session, "hashing", total) as progress:
            report = check_store(
                store,
                deep=self._deep,
                max_seconds=self._max_time,
                progress=progress,
                cancel=self._session.cancel,
            )
        return Outcome(report, affected_images(store, report))

    def repaired(
        self, sources: tuple[str, ...], progress: str, registry: RegistryOptions
    ) -> Outcome:
        """A check, and a repair of what it finds."""
        from kstore.operations.check import needs_rebuild

        rebuilt = None
        try:
            with self._open() as store:
                outcome = self._check(store)
        except StoreDamagedError as error:
            self._session.warn(f"{error}; making it anew")
            outcome = None
        if outcome is None or needs_rebuild(outcome.report):
            rebuilt = self._rebuild()
            with self._open() as store:
                outcome = self._check(store)
        outcome.rebuilt = rebuilt
        if outcome.report.damaged:
            with self._open() as store:
                outcome.repair = self._repair(store, outcome, sources, progress, registry)
        return outcome

    def _rebuild(self) -> RebuildReport:
        from kstore.cli.meter import metered

        with metered(self._session, "reading blobs", None) as progress:
            return self._session.app.rebuild_store(
                "check --repair", progress=progress, cancel=self._session.cancel
            )

    def _repair(
        self,
        store: Store,
        outcome: Outcome,
        sources: tuple[str, ...],
        progress: str,
        registry: RegistryOptions,
    ) -> RepairResult:
        from kstore.cli.progress import displayed
        from kstore.cli.transfers import PULLING
        from kstore.operations.repair import repair_store

        session = self._session
        with (
            session.app.transports(store, registry, session.cancel) as transports,
            displayed(session, progress, PULLING, quiet=False) as sink,
        ):
            return repair_store(
                store, transports, outcome.report, sources, progress=sink, cancel=session.cancel
            )
