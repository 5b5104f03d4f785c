"""``provenance``: where blobs came from, and the signatures of manifests: what neither a blob nor
index.json tells a rebuild of the database.

A line of JSON for each fact, appended after the database has it::

    {"registry": "docker.io", "repository": "library/app", "at": 1700000000000000, "blobs": [...]}
    {"manifest": "sha256:...", "signature": "<base64>"}

It is derived from the catalog and only read by a rebuild.  Lines about what was removed since, and
those that a crash has torn, tell nothing; a check appends what is missing, a prune writes the file
anew.  Times are microseconds since 1970, signatures those of ``dir:`` images.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from kstore import strictjson
from kstore.blobs import (
    fsync_directory,
    remove_leftovers,
    replace_file,
    storage_errors,
    write_all,
)
from kstore.digest import Digest
from kstore.errors import KstoreError
from kstore.reference import Named
from kstore.store.locks import LockClass
from kstore.store.root import Root
from kstore.store.session import Session
from kstore.values import dataclass

__all__ = [
    "Provenance",
    "add_missing",
    "append_notes",
    "note_origin",
    "note_signatures",
    "read_provenance",
    "rewrite",
]

#: Most bytes of the file that are read, and of one line: a signature with some megabytes.
_MAX_FILE, _MAX_LINE = 256 << 20, 16 << 20
_MODE = 0o600
#: Beyond this is no time, and no integer of SQLite (microseconds since 1970).
_LATEST = 1 << 62

#: Digest of a blob, registry, repository.
Origin = tuple[str, str, str]


@dataclass(slots=True)
class Provenance:
    """What the file tells, or the catalog: ``origins`` to when the blob was last there, in
    microseconds since 1970; ``signatures`` by manifest, in the order in which they came."""

    origins: dict[Origin, int] = field(default_factory=dict)
    signatures: dict[Digest, list[bytes]] = field(default_factory=dict)

    def lines(self) -> Iterator[bytes]:
        """The lines that tell it."""
        groups: dict[tuple[str, str, int], list[str]] = {}
        for (digest, registry, repository), at in self.origins.items():
            groups.setdefault((registry, repository, at), []).append(digest)
        for (registry, repository, at), digests in groups.items():
            yield _line(registry=registry, repository=repository, at=at, blobs=digests)
        for manifest, signatures in self.signatures.items():
            for data in signatures:
                text = binascii.b2a_base64(data, newline=False).decode()
                yield _line(manifest=str(manifest), signature=text)

    def without(self, other: Provenance) -> Provenance:
        """What ``other`` does not tell."""
        return Provenance(
            {key: at for key, at in self.origins.items() if key not in other.origins},
            {
                manifest: new
                for manifest, signatures in self.signatures.items()
                if (new := [s for s in signatures if s not in other.signatures.get(manifest, ())])
            },
        )


def _line(**values: Any) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def note_origin(
    session: Session, registry: str, repository: str, at: int, blobs: Iterable[Digest]
) -> None:
    """Blobs came from this repository, and the catalog has it."""
    told = Provenance({(str(digest), registry, repository): at for digest in blobs})
    session.notes += told.lines()


def note_signatures(session: Session, signatures: Mapping[Digest, Sequence[bytes]]) -> None:
    """Manifests have these signatures besides, and the catalog has them."""
    session.notes += Provenance({}, {key: list(new) for key, new in signatures.items()}).lines()


def append_notes(session: Session) -> None:
    """Write down what this session noted; StorageError."""
    notes, session.notes = session.notes, []
    path = session.root.provenance
    with (
        session.locks.lock(LockClass.LAYOUT, wait_seconds=session.wait_seconds, what=str(path)),
        storage_errors(f"write {path}"),
    ):
        new = not path.exists()
        with open(path, "ab", buffering=0, opener=_opener) as file:
            # The line before may have been torn by a crash.
            write_all(file, b"".join([b"\n", *notes]))
            os.fsync(file.fileno())
        if new:
            fsync_directory(path.parent)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, _MODE)


def add_missing(session: Session, told: Provenance) -> None:
    """Append what the catalog knows and the file, which ``told`` this, does not."""
    session.notes += recorded(session).without(told).lines()
    if session.notes:
        append_notes(session)


def rewrite(session: Session) -> None:
    """Write the file anew, without what is no longer true; StorageError."""
    path = session.root.provenance
    with session.locks.lock(LockClass.LAYOUT, wait_seconds=session.wait_seconds, what=str(path)):
        wanted = b"".join(recorded(session).lines())
        with storage_errors(f"write {path}"):
            remove_leftovers(path)
            if not _holds(path, wanted):
                replace_file(path, wanted, mode=_MODE)


def _holds(path: Path, wanted: bytes) -> bool:
    with contextlib.suppress(OSError):  # what cannot be read is replaced
        return path.stat().st_size == len(wanted) and path.read_bytes() == wanted
    return not wanted and not path.exists()


def recorded(session: Session) -> Provenance:
    """What the catalog knows."""
    found = Provenance()
    with session.db.snapshot():
        for digest, registry, repository, at in session.db.rows(
            "SELECT digest, registry, repository, last_ok FROM blob_source WHERE registry <> ''"
            " ORDER BY registry, repository, last_ok, digest"
        ):
            found.origins[digest, registry, repository] = at
        for manifest, data in session.db.rows(
            "SELECT manifest, data FROM signature ORDER BY manifest, ordinal"
        ):
            found.signatures.setdefault(Digest.parse(manifest), []).append(data)
    return found


def read_provenance(root: Root) -> Provenance:
    """What the file tells; nothing if there is none.  Raises StorageError if it cannot be read."""
    found = Provenance()
    with storage_errors(f"read {root.provenance}"):
        try:
            with root.provenance.open("rb") as file:
                left = _MAX_FILE
                while left > 0 and (line := file.readline(_MAX_LINE)):
                    left -= len(line)
                    _take(line, found)
        except FileNotFoundError:
            pass
    return found


def _take(line: bytes, found: Provenance) -> None:
    """Add what a line tells; one that was torn tells nothing."""
    with contextlib.suppress(KstoreError, LookupError, ValueError, TypeError):
        told = strictjson.as_object(strictjson.loads(line, "a line", cap=_MAX_LINE), "a line")
        if "signature" in told:
            data = binascii.a2b_base64(told["signature"], strict_mode=True)
            manifest = Digest.parse(told["manifest"])
            signatures = found.signatures.setdefault(manifest, [])
            if data not in signatures:
                signatures.append(data)
            return
        registry, repository, at = told["registry"], told["repository"], told["at"]
        Named.parse(f"{registry}/{repository}")
        if not (isinstance(at, int) and 0 <= at < _LATEST):
            return
        for text in told["blobs"]:
            key = str(Digest.parse(text)), registry, repository
            found.origins[key] = max(at, found.origins.get(key, 0))
