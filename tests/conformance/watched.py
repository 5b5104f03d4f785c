"""Both ends of a copy under observation: what was asked of them and when, and what goes wrong.

::

    watch = Watch()
    watch.lies[layer.digest] = b"other bytes"
    watch.fails["commit"] = RemoteError("gone")
    copy_image(watch.source(reference), watch.destination(place.reference), policy)
    watch.log                                     # [("open_source",), ("read_manifest", None), ...]
"""

from __future__ import annotations

import threading
from typing import Any

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import KstoreError
from kstore.interfaces import ImageDestination, ImageReference, ImageSource
from kstore.streams import BytesStream

__all__ = ["Watch"]


class Watch:
    """What is seen and done on the way.

    ``lies``: bytes that are delivered in place of a blob's; ``endless``: blobs that never end;
    ``manifests``: what is delivered in place of a member's manifest; ``fails``: raised when a
    method of this name is called.
    """

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.lies: dict[Digest, bytes] = {}
        self.endless: dict[Digest, int] = {}
        self.manifests: dict[Digest, Any] = {}
        self.fails: dict[str, KstoreError] = {}
        self._lock = threading.Lock()

    def source(self, reference: ImageReference) -> ImageReference:
        return _Reference(reference, self)  # type: ignore[return-value]

    destination = source

    def note(self, name: str, *facts: Any) -> None:
        with self._lock:
            self.log.append((name, *facts))
        if name in self.fails:
            raise self.fails[name]

    @property
    def steps(self) -> list[str]:
        """The names of what was called, in order."""
        return [name for name, *_ in self.log]

    def asked(self, name: str) -> list[tuple[Any, ...]]:
        return [entry for entry in self.log if entry[0] == name]


class _Seen:
    """Somebody whose methods are called through here."""

    def __init__(self, inner: Any, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Reference(_Seen):
    def open_source(self) -> ImageSource:
        self._watch.note("open_source")
        return _Source(self._inner.open_source(), self._watch)  # type: ignore[return-value]

    def open_destination(self) -> ImageDestination:
        self._watch.note("open_destination")
        return _Destination(self._inner.open_destination(), self._watch)  # type: ignore[return-value]


class _Session(_Seen):
    def __enter__(self) -> Any:
        self._inner.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._inner.__exit__(*failure)


class _Source(_Session):
    def read_manifest(self, instance: Digest | None = None) -> Any:
        self._watch.note("read_manifest", instance)
        if instance in self._watch.manifests:
            return self._watch.manifests[instance]
        return self._inner.read_manifest(instance)

    def open_blob(self, descriptor: Descriptor, offset: int = 0, *rest: Any) -> Any:
        digest = descriptor.digest
        self._watch.note("open_blob", digest)
        if digest in self._watch.endless:
            return _Endless(self._watch, digest)
        if digest in self._watch.lies:
            return _Lie(self._watch.lies[digest][offset:], offset)
        return self._inner.open_blob(descriptor, offset, *rest)


class _Destination(_Session):
    def reuse_blobs(self, hints: Any) -> Any:
        self._watch.note("reuse_blobs")
        return self._inner.reuse_blobs(hints)

    def write_blob(self, feed: Any, hint: Any) -> Any:
        self._watch.note("write_blob", hint.digest)
        written = self._inner.write_blob(feed, hint)
        self._watch.note("wrote_blob", hint.digest)
        return written

    def settle(self) -> None:
        self._watch.note("settle")
        self._inner.settle()

    def write_manifest(self, raw: Any, instance: Digest | None = None, via: Any = None) -> None:
        self._watch.note("write_manifest", raw, instance)
        self._inner.write_manifest(raw, instance, via)

    def write_signatures(self, signatures: Any, instance: Digest | None = None) -> None:
        self._watch.note("write_signatures", instance)
        self._inner.write_signatures(signatures, instance)

    def commit(self) -> None:
        self._watch.note("commit")
        self._inner.commit()


class _Lie(BytesStream):
    validator = None
    spliced = False

    def __init__(self, data: bytes, offset: int) -> None:
        super().__init__(data)
        self.offset = offset


class _Endless:
    """Zeros without end; counts how many were taken."""

    validator = None
    spliced = False
    offset = 0

    def __init__(self, watch: Watch, digest: Digest) -> None:
        self._watch = watch
        self._digest = digest

    def readinto(self, buffer: memoryview, /) -> int:
        buffer[:] = bytes(len(buffer))
        self._watch.endless[self._digest] += len(buffer)
        return len(buffer)

    def close(self) -> None:
        """Nothing is open."""
