"""The seams: four protocols, and the abilities of their implementations as data.

A *transport* parses text into a *reference*; a reference opens a *source* or a *destination*;
the copier moves one image from one to the other.  Implementations inherit explicitly; the contract
stands here, once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self

from kstore.descriptor import BlobHint, Descriptor
from kstore.digest import Digest, Hasher
from kstore.manifest import RawManifest
from kstore.mediatypes import INDEXES, MANIFESTS
from kstore.reference import Named
from kstore.signature import SignatureKind
from kstore.streams import ByteStream
from kstore.values import dataclass

__all__ = [
    "BlobFeed",
    "BlobOpener",
    "BlobSource",
    "DestinationTraits",
    "ImageDestination",
    "ImageReference",
    "ImageSource",
    "ImageTransport",
    "RetrySink",
    "SourceTraits",
    "WrittenBlob",
]


@dataclass(frozen=True, slots=True)
class SourceTraits:
    """What a source can do; the copy plan is computed from this without calling anything.

    ``concurrent``: ``open_blob`` may be called from several threads at once.
    ``ranges``: ``open_blob`` may be able to start in the middle.
    """

    concurrent: bool = False
    ranges: bool = False


@dataclass(frozen=True, slots=True)
class DestinationTraits:
    """What a destination accepts.

    ``concurrent``: ``write_blob`` may be called from several threads at once.
    ``ordered``: blobs are taken one at a time, in the order of their digests, so that a stream of
    them (an archive) is the same bytes each time.
    ``signatures``: the kinds of signatures that are kept.
    ``foreign_urls``: a layer that may be fetched elsewhere (``urls``) need not be written.
    ``remembers_index``: a name by digest may be that of the index the image was chosen from.
    ``manifest_types``: acceptable manifest and index types, most wanted first.
    """

    concurrent: bool = False
    ordered: bool = False
    indexes: bool = True
    signatures: frozenset[SignatureKind] = frozenset()
    foreign_urls: bool = False
    remembers_index: bool = False
    manifest_types: tuple[str, ...] = (*sorted(MANIFESTS), *sorted(INDEXES))


class BlobSource(ByteStream, Protocol):
    """An open blob: where its bytes start, and what identifies this version of them.

    ``offset`` is where the first byte stands; it is either what was asked for or 0.
    ``validator`` is an opaque text (a strong ETag) that lets a later read insist on the same
    bytes; None where there is none.
    """

    @property
    def offset(self) -> int:
        """Where the first byte stands."""
        ...

    @property
    def validator(self) -> str | None:
        """What identifies this version of the bytes, None where nothing does."""
        ...

    @property
    def spliced(self) -> bool:
        """Whether the bytes so far came in more than one answer: these may be of two versions, and
        another try from 0 may give other bytes."""
        return False


class BlobOpener(Protocol):
    """Anything that blobs can be read from, in which nothing is verified."""

    #: The command to try where its bytes are wrong; None where none helps.
    remedy: str | None = None

    @abstractmethod
    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: RetrySink | None = None,
    ) -> BlobSource:
        """Open a blob, in the middle if possible; see :class:`BlobSource`.

        With a ``validator``, a changed blob is delivered from the start instead of from
        ``offset``.  ``on_retry`` hears of lost connections, here and while reading, in the thread
        that reads.  Raises BlobNotFoundError.
        """

    def refute(self, digest: Digest) -> str | None:
        """Hear that what was sent as the blob ``digest`` since it was last opened is not that blob.

        If it would come from elsewhere now, a text that says who sent the wrong bytes: each
        server once.
        """
        return None


#: Told why a blob's transfer was interrupted, each time before it goes on where it stopped.
RetrySink = Callable[[str], None]


class BlobFeed(Protocol):
    """One blob on its way, as a destination sees it: opened by the destination, verified for it.

    The destination calls :meth:`start` once, telling how many bytes it already holds, then reads
    to the end.  An exception from :meth:`readinto` (also one at the very end) means that the bytes
    must not become visible.
    """

    def start(
        self, offset: int = 0, prefix: Hasher | None = None, validator: str | None = None
    ) -> int:
        """Open the blob, at ``offset`` if the source can; return where it really starts.

        ``prefix`` is a hasher that has seen exactly the ``offset`` bytes held.  The answer is
        ``offset`` or 0; with 0 the destination drops what it held.  May be called again to
        restart.
        """
        ...

    @property
    def validator(self) -> str | None:
        """What to remember beside a partial blob, to resume it later."""
        ...

    def refute(self) -> bool:
        """Hear that the bytes read since :meth:`start` were wrong; whether another start from 0 is
        worth it.  That is so for a while only: a source that has no other bytes is given up."""
        ...

    def retrying(self, why: str) -> None:
        """Tell the user that the destination has lost its connection, and tries again."""
        ...

    def waiting(self, pid: int | None) -> None:
        """Tell the user that process ``pid`` (if known) is fetching the same blob right now."""
        ...

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of ``buffer``; the number of bytes, 0 at the verified end."""
        ...


@dataclass(frozen=True, slots=True)
class WrittenBlob:
    """What a destination did with a blob: moved its bytes, had it already, or linked it."""

    descriptor: Descriptor
    how: Literal["copied", "present", "mounted"]


class ImageSource(BlobOpener, Protocol):
    """A session that reads one image (or index) and its blobs.  Nothing here is verified: sources
    are read by ``image`` and ``copier.blobs`` only, which check every byte."""

    @property
    @abstractmethod
    def reference(self) -> ImageReference:
        """What the user asked for."""

    @property
    @abstractmethod
    def traits(self) -> SourceTraits:
        """What this source can do."""

    @property
    def named_digest(self) -> Digest | None:
        """What the manifest must hash to, where the reference says so."""
        named = self.reference.docker_reference
        return named.digest if named else None

    @abstractmethod
    def read_manifest(self, instance: Digest | None = None) -> RawManifest:
        """The manifest the reference names, or the member ``instance`` of the index it names.

        At most 4 MiB.  Raises ManifestNotFoundError.
        """

    def blob_size(self, digest: Digest) -> int | None:
        """The size of a blob of which no manifest tells it (Docker schema 1), in bytes.

        None where there is no such blob, or the source cannot say.
        """
        return None

    def origins(self, digest: Digest) -> tuple[str, ...]:
        """Repositories (``registry/path``) known to hold this blob, likeliest first."""
        return ()

    @abstractmethod
    def read_signatures(self, instance: Digest | None = None) -> Sequence[bytes]:
        """Signatures of the manifest or of a member; empty where there are none."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the session holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class ImageDestination(Protocol):
    """A session that writes one image.  Order: blobs, manifests (members before their index),
    signatures, ``commit``.  Leaving without ``commit`` leaves nothing visible under the name; blobs
    that were finished may stay, so that the next attempt need not move them again."""

    @property
    @abstractmethod
    def reference(self) -> ImageReference:
        """What the user asked for."""

    @property
    @abstractmethod
    def traits(self) -> DestinationTraits:
        """What this destination accepts."""

    @abstractmethod
    def reuse_blobs(self, hints: Sequence[BlobHint]) -> Sequence[bool]:
        """Which of these blobs are there already (or could be linked without moving bytes).

        Called in the copier's own thread, before any ``write_blob``.
        """

    @abstractmethod
    def write_blob(self, feed: BlobFeed, hint: BlobHint) -> WrittenBlob:
        """Take one blob in; return what was stored.  May run in a worker thread."""

    @abstractmethod
    def settle(self) -> None:
        """Make all blobs written so far survive, whatever happens to the rest of the image.

        Called in the copier's own thread, also when the copy fails.  Cheap with nothing to do.
        """

    @abstractmethod
    def write_manifest(
        self, raw: RawManifest, instance: Digest | None = None, via: RawManifest | None = None
    ) -> None:
        """Store a manifest; ``instance`` is its digest when it is a member of an index.

        ``via`` is the index ``raw`` was chosen from, for destinations that remember it.  Raises
        ManifestRejectedError, here or in :meth:`commit`, if another type might be accepted.
        """

    @abstractmethod
    def write_signatures(self, signatures: Sequence[bytes], instance: Digest | None = None) -> None:
        """Keep the signatures of the manifest, or of the member ``instance``; may refuse."""

    @abstractmethod
    def commit(self) -> None:
        """Make the image visible under its name; everything it needs is durable before that."""

    @abstractmethod
    def close(self) -> None:
        """End the session; without a commit before, nothing of the image stays visible."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class ImageReference(Protocol):
    """A value that names an image somewhere.  Making one touches nothing."""

    @property
    @abstractmethod
    def transport(self) -> str:
        """The transport's name."""

    @property
    @abstractmethod
    def within_transport(self) -> str:
        """The text after ``transport:``; parses back to an equal reference."""

    @property
    @abstractmethod
    def docker_reference(self) -> Named | None:
        """The docker name of the image, where it has one."""

    @property
    @abstractmethod
    def policy_identity(self) -> str:
        """What trust policy is looked up by; computed from what the user asked for."""

    @property
    @abstractmethod
    def policy_namespaces(self) -> Sequence[str]:
        """Broader scopes, most specific first."""

    @abstractmethod
    def open_source(self) -> ImageSource:
        """Start reading.  Raises ManifestNotFoundError or ImageNotFoundError if there is none."""

    @abstractmethod
    def open_destination(self) -> ImageDestination:
        """Start writing.  Changes nothing visible."""

    @abstractmethod
    def delete(self) -> None:
        """Remove the image this reference names."""


class ImageTransport(Protocol):
    """A way to reach images; constructed with its settings."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What stands before the colon of a reference."""

    @abstractmethod
    def parse_reference(self, text: str) -> ImageReference:
        """Parse the text after ``name:``; pure.  Raises InvalidReferenceError."""

    @abstractmethod
    def validate_policy_scope(self, scope: str) -> None:
        """Raise InvalidInputError if ``scope`` can never match a reference of this transport."""
