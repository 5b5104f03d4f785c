"""Completing names in the shell: fast, and silent whatever is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kstore.cli.grammar import ParamType
from kstore.errors import KstoreError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kstore.store import Store

__all__ = ["ContainerName", "ImageName"]

#: More candidates than this help nobody.
_MOST = 200
#: IDs are offered once this many digits of them are typed.
_ID_DIGITS = 2


class _StoredName(ParamType):
    """A name of something in the store; the shell offers what :meth:`offered` finds."""

    def offered(self, store: Store, start: str) -> Sequence[str]:
        raise NotImplementedError

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        try:
            with _open_store(ctx) as store:
                found = self.offered(store, incomplete)
            return [CompletionItem(text) for text in found[:_MOST]]
        except (KstoreError, OSError):
            return []  # a message here would land in the middle of the user's command line


class ImageName(_StoredName):
    """An image name or ID."""

    name = "IMAGE"

    def offered(self, store: Store, start: str) -> Sequence[str]:
        names = {text for record in store.names() for text in _spellings(record.name)}
        found = sorted(name for name in names if name.startswith(start))
        if not found and len(start) >= _ID_DIGITS:
            from kstore.store import conditions

            found = [image.short_id for image in store.images([conditions.id_begins(start)])]
        return found


class ContainerName(_StoredName):
    """A working container's name."""

    name = "CONTAINER"

    def offered(self, store: Store, start: str) -> Sequence[str]:
        return [one.name for one in store.containers.all() if one.name.startswith(start)]


def _open_store(ctx: click.Context) -> Store:
    from kstore.cli.session import Session

    given: Any = ctx.find_root().params.get("root")
    session = Session()
    session.root = Path(given) if given is not None else None
    session.log_level = "error"
    return session.open_store("completion", read_only=True)


def _spellings(name: Any) -> tuple[str, ...]:
    """How people write a name: in full, and without what is added for them."""
    full, short = str(name), name.familiar
    local = full.removeprefix("localhost/")
    return tuple(text for text in {full, short, local} if "@" not in text)
