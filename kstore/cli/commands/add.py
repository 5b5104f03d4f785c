"""``kstore add``."""

from __future__ import annotations

import re

import click

from kstore.cli.grammar import PathType, declare
from kstore.cli.options import container_argument
from kstore.cli.session import Session, pass_session

__all__ = ["command"]

_OWNER = re.compile(r"(\d{1,10})(?::(\d{1,10}))?", re.ASCII)
_MODE = re.compile(r"[0-7]{1,5}", re.ASCII)


@declare(
    "add",
    examples=(
        ("kstore add box app.py /srv/", "a file into a directory"),
        ("kstore add box rootfs /", "what is in a directory, over what is there"),
        ("kstore add --chown 1000:1000 --chmod 0755 box tool /usr/bin/tool", "owner and mode"),
    ),
)
@container_argument()
@click.argument("sources", metavar="SRC...", nargs=-1, required=True, type=PathType())
@click.argument("destination", metavar="DST")
@click.option("--chown", metavar="UID[:GID]", help="Owner of what is added; root otherwise")
@click.option("--chmod", metavar="MODE", help="Mode of what is added, octal; as it is otherwise")
@pass_session
def command(
    session: Session,
    container: str,
    sources: tuple[str, ...],
    destination: str,
    chown: str | None,
    chmod: str | None,
) -> None:
    """Add files, and what is in directories, to CONTAINER, a name or an ID.

    DST is a path in the container; a relative one begins at its working directory.  Archives are
    added as they are.  Either everything is added or nothing.
    """
    from kstore.operations.add import AddOptions, add_files

    options = AddOptions(owner=_owner(chown), mode=_mode(chmod))
    session.on_interrupt = "nothing was added"
    with session.open_store("add", create=False) as store:
        add_files(
            store,
            container,
            sources,
            destination,
            options,
            warn=session.warn,
            cancel=session.cancel,
        )


def _owner(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 0
    match = _OWNER.fullmatch(text)
    uid, gid = (int(match[1]), int(match[2] or match[1])) if match else (-1, -1)
    if not (0 <= uid < 2**32 - 1 and 0 <= gid < 2**32 - 1):
        raise click.BadParameter(f"{text!r} is not UID[:GID], in digits", param_hint="--chown")
    return uid, gid


def _mode(text: str | None) -> int | None:
    if text is None:
        return None
    if not _MODE.fullmatch(text) or int(text, 8) > 0o7777:
        raise click.BadParameter(
            f"{text!r} is not an octal mode such as 0755", param_hint="--chmod"
        )
    return int(text, 8)
