"""Where a path leads inside a tree that is known, as it would for a program whose ``/`` it is."""

from __future__ import annotations

from typing import Final

from kstore.errors import ConflictError, InvalidInputError
from kstore.formats.layer_tar import EntryKind
from kstore.tree.contents import Contents, FileFacts
from kstore.values import dataclass

__all__ = ["Spot", "resolve"]

#: Symbolic links followed on one way, as many as Linux follows.
_MAX_LINKS: Final = 40


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the tree: ``parts`` are the names that lead there, none of them a link.

    ``kind`` is None where nothing is; ``facts`` is None there, and for a directory nobody
    described.
    """

    parts: tuple[str, ...]
    kind: EntryKind | None
    facts: FileFacts | None


def resolve(contents: Contents, path: str, *, follow: bool = True) -> Spot:
    """Where ``path`` leads; it cannot lead out of the tree, where ``..`` at the top stays there.

    ``follow``: also a link at the very end.  Raises ConflictError for a way through what is no
    directory, InvalidInputError for links that go in circles.
    """
    todo = path.split("/")[::-1]
    parts: list[str] = []
    nodes = [contents.root]
    links = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if parts:
                parts.pop()
                del nodes[len(parts) + 1 :]
            continue
        above = nodes[-1] if len(nodes) == len(parts) + 1 else None
        if above is not None and above.children is None:
            raise ConflictError(f"/{'/'.join(parts)} is not a directory")
        node = above.children.get(part) if above is not None and above.children else None
        facts = node.facts if node is not None else None
        more = any(rest not in ("", ".") for rest in todo)
        if facts is not None and facts.kind == "symlink" and (follow or more):
            links += 1
            if links > _MAX_LINKS:
                raise InvalidInputError(f"{path[:200]!r} leads through too many symbolic links")
            if facts.link.startswith("/"):
                parts.clear()
                del nodes[1:]
            todo += facts.link.split("/")[::-1]
            continue
        parts.append(part)
        if node is not None:
            nodes.append(node)
    if len(nodes) != len(parts) + 1:
        return Spot(tuple(parts), None, None)
    last = nodes[-1]
    kind = "dir" if last.children is not None else last.facts.kind if last.facts else None
    return Spot(tuple(parts), kind, last.facts)
