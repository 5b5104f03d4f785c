"""An image that several servers may have: mirrors first, and from one to the next when one fails.

Whatever a server hands out is verified as if it came from the registry itself; a mirror can only
be useless, not dangerous (and choose what a tag means, as the registry could).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    CancelledError,
    KstoreError,
    ManifestNotFoundError,
    RemoteError,
)
from kstore.interfaces import BlobSource, RetrySink
from kstore.manifest import RawManifest
from kstore.reference import Named
from kstore.registry import RegistryClient
from kstore.registry.registriesconf import Peer, Place
from kstore.streams import Closing

if TYPE_CHECKING:
    from kstore.registry.lookaside import Lookaside

__all__ = ["Outages", "Places"]

T = TypeVar("T")

_SKIP_BUFFER = 256 * 1024


class Outages:
    """Servers that failed during this run, and why; shared by all images.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._why: dict[Peer, str] = {}
        self._wrong: set[tuple[Peer, Digest]] = set()

    def note(self, place: Place, error: KstoreError) -> None:
        """Remember ``error`` if it is the server's, and not about one image."""
        if isinstance(error, RemoteError) and (
            error.status is None or error.status >= 500 or error.status == 429
        ):
            with self._lock:
                self._why.setdefault(place.peer, error.message)

    def note_wrong(self, place: Place, digest: Digest) -> None:
        """Remember that the server of ``place`` has other bytes as the blob ``digest``."""
        with self._lock:
            self._wrong.add((place.peer, digest))

    def why(self, place: Place, digest: Digest | None = None) -> str | None:
        """What the server of ``place`` failed with before, as such or with the blob ``digest``;
        None if it did not."""
        with self._lock:
            if (place.peer, digest) in self._wrong:
                return f"it sent other bytes as {digest}"
            return self._why.get(place.peer)


class Places:
    """One image at ``places``, of which the last is the registry itself and is never given up.

    Methods are those of RegistryClient and raise what the last server raises, with the reasons of
    the others.  ``connect`` gives the client of a server.
    """

    def __init__(
        self,
        places: Sequence[Place],
        connect: Callable[[Peer], RegistryClient],
        outages: Outages,
    ) -> None:
        self._places = list(places)
        self._connect = connect
        self._outages = outages
        self._senders: dict[Digest, list[Place]] = {}

    def top_manifest(self) -> RawManifest:
        """The manifest of the reference itself; its server is asked first from then on."""
        first, raw = self._try(lambda place: (place, self._manifest(place, _version(place.named))))
        self._places.sort(key=lambda place: place is not first)
        return raw

    def manifest(self, digest: Digest) -> RawManifest:
        """A manifest by its digest."""
        return self._try(lambda place: self._manifest(place, digest))

    def blob_size(self, digest: Digest) -> int | None:
        """The size of a blob in bytes; None if no server has it."""

        def ask(place: Place) -> int:
            size = self._connect(place.peer).has_blob(place.named.path, digest)
            if size is None:
                raise BlobNotFoundError(f"{place} has no blob {digest}")
            return size

        try:
            return self._try(ask)
        except BlobNotFoundError:
            return None

    def signatures(
        self,
        digest: Digest,
        lookaside: Callable[[Named], Lookaside | None],
        attachments: Callable[[Named], bool] = lambda named: False,
    ) -> Sequence[bytes]:
        """The signatures of a manifest at the first server that has any, or beside it.

        ``lookaside`` finds the place beside the server that has the image by a name;
        ``attachments`` says whether sigstore signatures of it stand in the server itself.
        """

        def ask(place: Place) -> Sequence[bytes]:
            client, path = self._connect(place.peer), place.named.path
            return (*simple(place, client, path), *attached(place, client, path))

        def simple(place: Place, client: RegistryClient, path: str) -> Sequence[bytes]:
            if client.keeps_signatures:
                return client.signatures(path, digest)
            beside = lookaside(place.named)
            return () if beside is None else beside.read(path, digest)

        def attached(place: Place, client: RegistryClient, path: str) -> Sequence[bytes]:
            if not attachments(place.named):
                return ()
            from kstore.transports.attachments import read_attached_signatures

            return read_attached_signatures(client, path, digest)

        return self._any(ask)

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        """What refers to a manifest, by the first server that lists anything."""
        return self._any(
            lambda place: tuple(self._connect(place.peer).referrers(place.named.path, subject))
        )

    def head(self, version: str | Digest) -> Descriptor | None:
        """Type, digest and size of a manifest of the repository; None if no server has it."""

        def ask(place: Place) -> Descriptor:
            found = self._connect(place.peer).head_manifest(place.named.path, version)
            if found is None:
                raise ManifestNotFoundError(f"{place} has no manifest {version}")
            return found

        try:
            return self._try(ask)
        except ManifestNotFoundError:
            return None

    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int,
        validator: str | None,
        on_retry: RetrySink | None,
    ) -> BlobSource:
        """A blob's bytes; see RegistryClient.open_blob."""

        def open_at(place: Place, offset: int, validator: str | None) -> BlobSource:
            client = self._connect(place.peer)
            return client.open_blob(place.named.path, descriptor, offset, validator, on_retry)

        if len(self._places) == 1:
            return open_at(self._places[0], offset, validator)
        senders = self._senders[descriptor.digest] = []
        attempt = self._attempt(descriptor.digest)
        return _FailoverBlob(attempt, open_at, offset, validator, on_retry, senders)

    def refute(self, digest: Digest) -> str | None:
        """Hear that a blob's bytes were wrong; who sent them, if others are asked for it now.

        Of several mirrors that sent a part each, the last may still have the whole.
        """
        senders = self._senders.pop(digest, [])
        wrong = [place for place in senders[:-1] or senders if place.peer.mirror]
        for place in wrong:
            self._outages.note_wrong(place, digest)
        if not wrong:
            return None
        who = " and ".join(map(_mirror, wrong))
        return f"{who} sent wrong bytes as blob {digest}; asking the next server"

    def _attempt(self, blob: Digest | None = None) -> _Attempt:
        return _Attempt(self._places, self._outages, blob)

    def _manifest(self, place: Place, version: str | Digest) -> RawManifest:
        return self._connect(place.peer).get_manifest(place.named.path, version)

    def _any(self, ask: Callable[[Place], Sequence[T]]) -> Sequence[T]:
        """What the first place has that has anything; not that there is nothing, while one that
        failed may have it."""
        attempt = self._attempt()
        for place in attempt:
            try:
                found = ask(place)
            except KstoreError as error:
                attempt.failed(place, error)
                continue
            if found:
                return found
        if attempt.errors:
            raise attempt.error()
        return ()

    def _try(self, ask: Callable[[Place], T]) -> T:
        attempt = self._attempt()
        for place in attempt:
            try:
                return ask(place)
            except KstoreError as error:
                attempt.failed(place, error)
        raise attempt.error()


class _Attempt:
    """One thing wanted from the places in turn, without those known to be dead."""

    def __init__(
        self, places: Sequence[Place], outages: Outages, blob: Digest | None = None
    ) -> None:
        self._places = tuple(places)
        self._outages = outages
        self._blob = blob
        self._reasons = [place.besides for place in places if place.besides is not None]
        self.errors: list[tuple[Place, KstoreError]] = []

    def __iter__(self) -> Iterator[Place]:
        for place in self._places:
            why = self._outages.why(place, self._blob) if place.peer.mirror else None
            if why is None:
                yield place
            else:
                self._reasons.append(f"{_mirror(place)} failed before: {why}")

    def failed(self, place: Place, error: KstoreError) -> None:
        """Note why ``place`` could not help; a cancel, and the failure of an only place, go on."""
        if isinstance(error, CancelledError) or (len(self._places) == 1 and not self._reasons):
            raise error
        self._outages.note(place, error)
        self.errors.append((place, error))

    def error(self) -> KstoreError:
        """The registry's own failure, which names those of the mirrors."""
        own, error = next((e for e in self.errors if not e[0].peer.mirror), self.errors[-1])
        said = [f"{_mirror(p)}: {e.message}" for p, e in self.errors if p is not own]
        reasons = "; ".join((*self._reasons, *said))
        if reasons:
            error.message = f"{error.message} ({reasons})"
            error.args = (error.message,)
        return error


class _FailoverBlob(Closing, BlobSource):
    """A blob that goes on at the next place where the present one fails in the middle.

    ``senders`` is told the places whose bytes were delivered.
    """

    def __init__(
        self,
        attempt: _Attempt,
        open_at: Callable[[Place, int, str | None], BlobSource],
        offset: int,
        validator: str | None,
        on_retry: RetrySink | None,
        senders: list[Place],
    ) -> None:
        self._attempt = attempt
        self._senders = senders
        self._left = iter(self._attempt)
        self._open_at = open_at
        self._on_retry = on_retry
        self._place, self._stream = self._next(offset, validator)
        self._offset = self._position = self._stream.offset
        self._validator = self._stream.validator

    @property
    def offset(self) -> int:
        return self._offset

    @property
    def validator(self) -> str | None:
        return self._validator

    @property
    def spliced(self) -> bool:
        return len(self._senders) > 1 or self._stream.spliced

    def readinto(self, buffer: memoryview, /) -> int:
        while True:
            try:
                count = self._stream.readinto(buffer) or 0
            except KstoreError as error:
                self._move(error)
                continue
            if count and self._place not in self._senders:
                self._senders.append(self._place)
            self._position += count
            return count

    def _move(self, error: KstoreError) -> None:
        self._stream.close()
        self._attempt.failed(self._place, error)
        self._place, self._stream = self._next(self._position, None)
        if self._on_retry is not None:
            self._on_retry(f"{error.message}; going on at {self._place}")
        try:
            self._skip(self._position - self._stream.offset)
        except KstoreError as failure:
            self._move(failure)

    def _next(self, offset: int, validator: str | None) -> tuple[Place, BlobSource]:
        for place in self._left:
            try:
                return place, self._open_at(place, offset, validator)
            except KstoreError as error:
                self._attempt.failed(place, error)
        raise self._attempt.error()

    def _skip(self, count: int) -> None:
        """Drop bytes that were delivered before; whoever hashes the stream notices a change."""
        buffer = memoryview(bytearray(min(count, _SKIP_BUFFER)))
        while count > 0:
            got = self._stream.readinto(buffer[:count]) or 0
            if got == 0:
                raise RemoteError(f"{self._place} sent less than before", retryable=True)
            count -= got

    def close(self) -> None:
        self._stream.close()


def _mirror(place: Place) -> str:
    return f"mirror {place}" if place.peer.mirror else str(place)


def _version(named: Named) -> str | Digest:
    version = named.digest or named.tag
    assert version is not None, "references always have a tag or a digest"
    return version
