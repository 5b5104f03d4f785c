"""``kstore rm``."""

from __future__ import annotations

import click

from kstore.cli.grammar import declare
from kstore.cli.options import container_argument
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session

__all__ = ["command"]


@declare(
    "rm",
    examples=(
        ("kstore rm busybox-working-container", "one container with its files"),
        ("kstore rm --all", "every container"),
    ),
)
@container_argument("containers", metavar="[CONTAINER]...", nargs=-1)
@click.option("-a", "--all", "all_containers", is_flag=True, help="Remove every container")
@pass_session
def command(session: Session, containers: tuple[str, ...], all_containers: bool) -> None:
    """Remove working containers, and the files that were not committed.

    CONTAINER is a name or an ID.  What cannot be removed is reported, and the rest is removed all
    the same.  Images stay; kstore rmi removes those.
    """
    from kstore.operations.working import remove_containers

    with session.open_store("rm", create=False) as store:
        result = remove_containers(store, containers, all_containers=all_containers)
    for record in result.removed:
        write(record.id)
    for error in result.errors:
        session.report(error)
    session.finish()
