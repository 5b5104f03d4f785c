"""Completing image names in the shell: fast, and silent whatever is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kstore.cli.grammar import ParamType
from kstore.errors import KstoreError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["ImageName"]

#: More candidates than this help nobody.
_MOST = 200
#: IDs are offered once this many digits of them are typed.
_ID_DIGITS = 2


class ImageName(ParamType):
    """An image name or ID; the shell offers those in the store."""

    name = "IMAGE"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        try:
            return [CompletionItem(text) for text in _candidates(_root(ctx), incomplete)]
        except (KstoreError, OSError):
            return []  # a message here would land in the middle of the user's command line


def _root(ctx: click.Context) -> Path | None:
    given: Any = ctx.find_root().params.get("root")
    return Path(given) if given is not None else None


def _candidates(root: Path | None, start: str) -> Iterable[str]:
    from kstore.cli.session import Session

    session = Session()
    session.root = root
    session.log_level = "error"
    with session.open_store("completion", read_only=True) as store:
        names = {text for record in store.names() for text in _spellings(record.name)}
        found = sorted(name for name in names if name.startswith(start))
        if not found and len(start) >= _ID_DIGITS:
            from kstore.store import conditions

            found = [image.short_id for image in store.images([conditions.id_begins(start)])]
    return found[:_MOST]


def _spellings(name: Any) -> tuple[str, ...]:
    """How people write a name: in full, and without what is added for them."""
    full, short = str(name), name.familiar
    local = full.removeprefix("localhost/")
    return tuple(text for text in {full, short, local} if "@" not in text)
