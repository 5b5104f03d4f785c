"""One registry, as the rest of kstore sees it.

Source: OCI distribution specification 1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import RemoteError
from kstore.manifest import RawManifest
from kstore.reference import is_tag
from kstore.registry.auth import repository_scope
from kstore.registry.credentials import CredentialLookup
from kstore.registry.download import BlobDownload
from kstore.registry.exchange import Exchange
from kstore.registry.extension import SignatureExtension
from kstore.registry.manifests import Manifests
from kstore.registry.pages import listing
from kstore.registry.referrers import Referrers
from kstore.registry.settings import RegistrySettings
from kstore.registry.targets import blob_target, is_path, mount_target, tags_target
from kstore.registry.upload import BlobUpload
from kstore.registry.wide import WORTHWHILE, WideDownload, WideLane
from kstore.streams import ByteStream, Cancel, Closing

if TYPE_CHECKING:
    from kstore.registry.search import SearchHit

__all__ = ["RegistryClient"]

_PAGE = 1000


class RegistryClient(Closing):
    """One registry.  Thread-safe; a context manager; nothing is sent before it is needed.

    ``host`` is the domain of a name (``docker.io`` is reached where its API is); ``path`` in the
    methods is the rest of a repository's name.  ``warn`` hears of waits and oddities.

    All methods raise AuthError, RemoteError (RemoteTimeoutError), CancelledError, and
    InvalidReferenceError for a path or tag that does not follow the grammar.
    """

    def __init__(
        self,
        host: str,
        settings: RegistrySettings,
        credentials: CredentialLookup | None = None,
        *,
        cancel: Cancel | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.host = host
        self._exchange = Exchange(
            host, settings, credentials, cancel or Cancel(), warn or (lambda _: None)
        )
        self._manifests = Manifests(self._exchange)
        self._referrers = Referrers(self._exchange, self._manifests)
        self._signatures = SignatureExtension(self._exchange)
        self._wide = WideLane()

    def ping(self) -> None:
        """Check that a registry answers and takes the credentials; AuthError if it does not."""
        response = self._exchange.request("GET", "/v2/")
        if response.status != 200:
            refusal = self._exchange.refusal(response)
            if refusal.status == 404:
                raise RemoteError(f"{self.host} does not speak the registry protocol", status=404)
            raise self._exchange.error(refusal, "the registry")
        response.discard()

    def get_manifest(self, path: str, reference: str | Digest) -> RawManifest:
        """The manifest under a tag or digest, at most 4 MiB.

        Raises ManifestNotFoundError; DigestMismatchError if the bytes are not what was asked for,
        or not what the registry itself calls them; InvalidManifestError.
        """
        return self._manifests.get(path, reference)

    def head_manifest(self, path: str, reference: str | Digest) -> Descriptor | None:
        """Type, digest and size of a manifest without fetching it; None if there is none.

        Registries that do not say enough are asked for the manifest itself.
        """
        return self._manifests.head(path, reference)

    def put_manifest(self, path: str, reference: str | Digest, raw: RawManifest) -> Digest:
        """Store a manifest under a tag or its digest; returns its digest.

        Raises ManifestRejectedError if another type may be accepted, DigestMismatchError if the
        registry understood other bytes.  Where it keeps no list of what refers to a manifest, this
        keeps it, as the specification wants (see :mod:`kstore.registry.referrers`).
        """
        if not self._manifests.put(path, reference, raw) and b'"subject"' in raw.data:
            self._referrers.note(path, raw)
        return raw.digest

    def referrers(self, path: str, subject: Digest) -> Iterator[Descriptor]:
        """What refers to a manifest: signatures, attestations, lists of contents, anything.

        Fetched page by page; nothing where there is none.  Each descriptor has the artifact type
        the registry tells.
        """
        return self._referrers.listed(path, subject)

    def delete_manifest(self, path: str, digest: Digest) -> None:
        """Delete a manifest, and with it every tag that names it.

        Raises ManifestNotFoundError, UnsupportedError where deleting is switched off.
        """
        self._manifests.delete(path, digest)

    def delete_tag(self, path: str, tag: str) -> bool:
        """Take a tag away from its manifest, which stays.

        False where the registry cannot do that (or has no such tag).
        """
        return self._manifests.delete_tag(path, tag)

    def has_blob(self, path: str, digest: Digest) -> int | None:
        """The size of a blob in bytes; None if the repository has no such blob."""
        target = blob_target(path, digest)
        scopes = (repository_scope(path, "pull"),)
        response = self._exchange.request("HEAD", target, path=path, scopes=scopes)
        if response.status == 405 or (
            400 <= response.status < 500 and not self._exchange.is_own(response)
        ):
            # No HEAD here, or an address signed for GET only: open it, and read nothing.
            response.close()
            response = self._exchange.request("GET", target, path=path, scopes=scopes)
        if response.status == 404:
            response.discard()
            return None
        if response.status != 200:
            refusal = self._exchange.refusal(response)
            raise self._exchange.error(refusal, f"blob {digest}", path)
        size = response.length
        response.close()
        return size

    def open_blob(
        self,
        path: str,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> BlobDownload | WideDownload:
        """Start reading a blob, at ``offset`` if the registry can (see the result's ``offset``).

        ``validator``, from an earlier download, makes it start at 0 if the bytes have changed.
        ``on_retry`` hears why a connection was lost, instead of ``warn``, in any thread.  Raises
        BlobNotFoundError.
        """

        def reopen(start: int, end: int | None, validator: str | None) -> BlobDownload:
            return BlobDownload(self._exchange, path, descriptor, start, validator, on_retry, end)

        first = reopen(offset, None, validator)
        if descriptor.size - first.offset < WORTHWHILE:
            return first
        return WideDownload(first, descriptor, reopen, self._exchange.settings, self._wide)

    def upload_blob(
        self,
        path: str,
        descriptor: Descriptor,
        open_body: Callable[[int], ByteStream],
        *,
        progress: Callable[[int], None] | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        """Store a blob; ``open_body(offset)`` opens its bytes from ``offset`` on, again if needed.

        ``progress`` hears the number of bytes sent so far; it may go back.  ``on_retry`` hears why
        an attempt was lost, instead of ``warn``.  Raises DigestMismatchError if the registry
        received something else.
        """
        upload = BlobUpload(self._exchange, path, descriptor, open_body, progress, on_retry)
        upload.run()

    def mount_blob(self, path: str, digest: Digest, origin: str) -> bool:
        """Link a blob of repository ``origin`` into ``path``; False if it has to be uploaded."""
        target = mount_target(path, digest, origin)
        scopes = (repository_scope(path, "pull", "push"), repository_scope(origin, "pull"))
        response = self._exchange.request("POST", target, path=path, scopes=scopes)
        status, location, url = response.status, response.header("Location"), response.url
        response.discard()
        if status == 201:
            return True
        if status == 202 and location is not None:
            self._exchange.farewell(self._exchange.next_url(url, location), path, scopes)
        return False

    def tags(self, path: str) -> Iterator[str]:
        """The tags of a repository, in the registry's order, fetched page by page."""
        return listing(
            self._exchange,
            f"{tags_target(path)}?n={_PAGE}",
            "tags",
            f"the tag list of {self.host}/{path}",
            missing=f"{self.host} has no repository {path}",
            path=path,
            scopes=(repository_scope(path, "pull"),),
            read=lambda value: value if isinstance(value, str) and is_tag(value) else None,
        )

    def catalog(self) -> Iterator[str]:
        """The repositories of the registry, where it tells; fetched page by page."""
        return listing(
            self._exchange,
            f"/v2/_catalog?n={_PAGE}",
            "repositories",
            f"the catalog of {self.host}",
            path="",
            scopes=("registry:catalog:*",),
            read=lambda value: value if isinstance(value, str) and is_path(value) else None,
        )

    @property
    def keeps_signatures(self) -> bool:
        """Whether an answer of the registry, of those so far, said that it keeps signatures."""
        return self._exchange.keeps_signatures

    def signatures(self, path: str, digest: Digest) -> Sequence[bytes]:
        """The simple signatures of a manifest that the registry keeps; IntegrityError beyond a
        limit, InvalidManifestError for an answer that is none."""
        return self._signatures.read(path, digest)

    def add_signatures(self, path: str, digest: Digest, signatures: Sequence[bytes]) -> None:
        """Add simple signatures of a manifest to those that the registry keeps."""
        self._signatures.add(path, digest, signatures)

    def search(self, term: str, count: int) -> tuple[SearchHit, ...]:
        """At most ``count`` repositories the registry's old word search finds; RemoteError where it
        has none, as most have."""
        from kstore.registry.search import search

        return search(self._exchange, term, count)

    def close(self) -> None:
        """Close idle connections."""
        self._exchange.close()
