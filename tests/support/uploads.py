"""Uploads as clients make them, and what is to be seen of them."""

from __future__ import annotations

from pathlib import Path

from kstore.digest import Digest
from tests.support.localregistry import Answer, LocalRegistry

__all__ = ["begin", "leftovers", "patch", "sizes", "stored"]


def begin(registry: LocalRegistry, path: str = "app", query: str = "") -> str:
    """The location of a new upload."""
    answer = registry.ask("POST", f"/v2/{path}/blobs/uploads/{query}", b"")
    assert answer.status == 202, answer
    assert answer.headers["range"] == "0-0"
    assert answer.headers["docker-upload-uuid"] in answer.headers["location"]
    return answer.headers["location"]


def patch(registry: LocalRegistry, location: str, data: bytes, span: str | None = None) -> Answer:
    headers = {} if span is None else {"Content-Range": span}
    return registry.ask("PATCH", location, data, headers)


def stored(registry: LocalRegistry, digest: Digest) -> bytes | None:
    answer = registry.ask("GET", f"/v2/app/blobs/{digest}")
    return answer.body if answer.status == 200 else None


def leftovers(registry: LocalRegistry) -> list[str]:
    return sorted(path.name for path in (registry.root / "ingest").iterdir())


def sizes(root: Path) -> list[int]:
    """The bytes of each unfinished upload to the store at ``root``, in order of size."""
    return sorted(path.stat().st_size for path in (root / "ingest").glob("*.part"))
