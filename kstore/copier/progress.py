"""What a copy reports while it runs.

Events are values; who shows them, and how, is decided in ``cli/progress.py``.  The NDJSON form of
``--progress json`` is :meth:`Event.to_json`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from kstore.digest import Digest
from kstore.values import dataclass

__all__ = ["Event", "EventKind", "How", "ProgressSink", "ignore"]

#: ``plan``: the blob is part of this copy; ``start``: bytes begin to flow, from ``done`` on;
#: ``advance``: ``done`` bytes are held; ``wait``: process ``pid`` is fetching the same blob;
#: ``retry``: a connection was lost (``text`` says why) and the blob goes on, from ``done`` if that
#: is known;
#: ``finish``: the blob is there, ``how``; ``manifest``: a manifest was written; ``note``: text for
#: a human.
EventKind = Literal["plan", "start", "advance", "wait", "retry", "finish", "manifest", "note"]

#: How a blob came to be there: bytes moved, was there already, linked by the registry, or made
#: from another one (compressed anew).
How = Literal["copied", "present", "mounted", "converted"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event; sizes in bytes, None where a field does not apply."""

    kind: EventKind
    digest: Digest | None = None
    size: int | None = None
    done: int | None = None
    how: How | None = None
    blob: str | None = None
    pid: int | None = None
    text: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object, without the fields that do not apply."""
        fields = {
            "event": self.kind,
            "digest": None if self.digest is None else str(self.digest),
            "size": self.size,
            "done": self.done,
            "how": self.how,
            "blob": self.blob,
            "pid": self.pid,
            "text": self.text,
        }
        return {key: value for key, value in fields.items() if value is not None}


#: Receives events; called from several threads at once.
ProgressSink = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The sink of a caller who does not want to know."""
