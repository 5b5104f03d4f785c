"""From bytes nobody has judged to an image one may use.

``UnparsedImage -> admit(policy) -> Admitted -> Image``: there is no other way to an :class:`Image`,
so nothing in a manifest is interpreted before the trust policy admitted it.  Together with
``copier.blobs`` this is the only reader of sources; every byte is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from kstore.descriptor import BlobHint, Descriptor
from kstore.errors import (
    DigestMismatchError,
    IntegrityError,
    InvalidManifestError,
    PlatformNotFoundError,
    SizeMismatchError,
)
from kstore.interfaces import ImageReference, ImageSource
from kstore.manifest import (
    MAX_CONFIG_SIZE,
    ImageConfig,
    Index,
    Manifest,
    RawManifest,
    parse,
)
from kstore.manifest.inspection import ImageInspectInfo, inspect_legacy, inspect_manifest
from kstore.manifest.schema1 import Legacy, parse_legacy
from kstore.manifest.update import ManifestUpdate, needs_diff_ids, updated_manifest
from kstore.mediatypes import DOCKER_LAYER, SCHEMA1
from kstore.platforms import Platform, best_match
from kstore.reference import Named
from kstore.streams import Closing, VerifiedStream, read_limited
from kstore.values import dataclass

__all__ = [
    "Admitted",
    "Image",
    "ImageInspectInfo",
    "ManifestUpdate",
    "TrustPolicy",
    "UnparsedImage",
    "admit",
    "admit_index",
    "choose_member",
    "is_attestation",
    "open_image",
]


class UnparsedImage:
    """A manifest (or member of an index) as bytes with an identity, and its signatures."""

    def __init__(self, source: ImageSource, member: Descriptor | None = None) -> None:
        self.source = source
        self.member = member

    @property
    def reference(self) -> ImageReference:
        """What the image was asked for by."""
        return self.source.reference

    @cached_property
    def raw(self) -> RawManifest:
        """The manifest bytes.

        They are checked against the digest they were asked for by, if there was one: the
        member's, or the one in the reference.  Raises DigestMismatchError or SizeMismatchError.
        """
        raw = self.source.read_manifest(self.member.digest if self.member else None)
        wanted = self.member.digest if self.member else self.source.named_digest
        if wanted is not None and not raw.is_named(wanted):
            raise DigestMismatchError(f"manifest sent as {wanted} hashes to {raw.digest}")
        if self.member is not None and len(raw.data) != self.member.size:
            raise SizeMismatchError(
                f"manifest {raw.digest} has {len(raw.data)} bytes where its index declares"
                f" {self.member.size}"
            )
        return raw

    @cached_property
    def signatures(self) -> Sequence[bytes]:
        """The signatures that came with the manifest, as bytes."""
        return self.source.read_signatures(self.member.digest if self.member else None)


class TrustPolicy(Protocol):
    """Who may be trusted; see ``signing.policy``."""

    def check(self, image: UnparsedImage) -> str:
        """Say which rule admits ``image``; raises PolicyRejectedError if none does.

        Looks at bytes, identity and signatures only; never at what the manifest claims.
        """
        ...

    def check_index(self, image: UnparsedImage) -> str:
        """As :meth:`check`, of an index that is opened only to find members, each of which is
        checked for itself: what signs the members need not sign the index too."""
        return self.check(image)

    def may_refuse(self, reference: ImageReference) -> bool:
        """Whether there is anything to ask about an image of this name: one that is there already
        need not be read where everything is accepted."""
        return True


@dataclass(frozen=True, slots=True)
class Admitted:
    """Proof that a policy admitted an image; made by :func:`admit` and :func:`admit_index` only."""

    unparsed: UnparsedImage
    rule: str


def admit(unparsed: UnparsedImage, policy: TrustPolicy) -> Admitted:
    """Ask ``policy``; PolicyRejectedError if it does not admit the image."""
    return Admitted(unparsed, policy.check(unparsed))


def admit_index(unparsed: UnparsedImage, policy: TrustPolicy) -> Admitted:
    """Ask ``policy`` about an index each of whose members will be asked about; PolicyRejectedError.

    The bytes themselves say whether they are an index, so nobody can get an image past
    :func:`admit` this way.
    """
    if not unparsed.raw.is_index:
        return admit(unparsed, policy)
    return Admitted(unparsed, policy.check_index(unparsed))


class Image(Closing):
    """An admitted manifest or index, parsed.

    Closing it, or leaving its context, closes the source it is read from.
    """

    raw: RawManifest
    document: Manifest | Index | Legacy

    def __init__(self, admitted: Admitted) -> None:
        self._unparsed = admitted.unparsed
        self._source = admitted.unparsed.source
        self.raw = admitted.unparsed.raw
        self.document = (
            parse_legacy(self.raw) if self.raw.media_type in SCHEMA1 else parse(self.raw)
        )

    @property
    def reference(self) -> ImageReference:
        """What the image was asked for by."""
        return self._source.reference

    @property
    def is_multi_image(self) -> bool:
        """Whether this is an index, whose members are images of their own."""
        return isinstance(self.document, Index)

    @property
    def signatures(self) -> Sequence[bytes]:
        """The signatures that came with it, read when they are needed."""
        return self._unparsed.signatures

    @cached_property
    def config(self) -> ImageConfig:
        """The image config, fetched and verified; InvalidManifestError for an index."""
        return ImageConfig.parse(self.read_config(), f"config of manifest {self.raw.digest}")

    @property
    def config_info(self) -> Descriptor | None:
        """The config blob; None for an index and for Docker schema 1, which have none."""
        return self.document.config if isinstance(self.document, Manifest) else None

    def read_config(self) -> bytes:
        """The config blob (at most 4 MiB), verified against the manifest; InvalidManifestError for
        an index and for Docker schema 1, which have none."""
        if self.config_info is None:
            raise InvalidManifestError(f"manifest {self.raw.digest} has no config of its own")
        return _read_small(self._source, self.config_info)

    @property
    def layers(self) -> tuple[BlobHint, ...]:
        """The layers, base first, as often as the manifest has them; the size of one is None where
        neither the manifest (Docker schema 1) nor the source tells it.

        InvalidManifestError for an index.
        """
        if isinstance(self.document, Index):
            raise InvalidManifestError(f"manifest {self.raw.digest} is an index without layers")
        if isinstance(self.document, Legacy):
            return tuple(
                BlobHint(digest, self._source.blob_size(digest), DOCKER_LAYER, index=number)
                for number, digest in enumerate(self.document.layers)
            )
        return tuple(
            BlobHint(layer.digest, layer.size, layer.media_type, index=number)
            for number, layer in enumerate(self.document.layers)
        )

    @property
    def size(self) -> int | None:
        """Bytes of the config and the layers as they are stored, each blob once.

        None where that is not known: for an index, and for layers of unknown size.
        """
        if isinstance(self.document, Index):
            return None
        sizes = {layer.digest: layer.size for layer in self.layers}
        if self.config_info is not None:
            sizes[self.config_info.digest] = self.config_info.size
        known = [size for size in sizes.values() if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    def inspect(self) -> ImageInspectInfo:
        """The few facts that every tool shows; InvalidManifestError for an index."""
        if isinstance(self.document, Legacy):
            return inspect_legacy(self.document)
        if isinstance(self.document, Manifest):
            return inspect_manifest(self.document, self.config)
        raise InvalidManifestError(f"manifest {self.raw.digest} is an index, not one image")

    def embedded_name_conflicts(self, name: Named) -> bool:
        """Whether the manifest says that it is another image's than ``name``.

        Only Docker schema 1 says anything: a repository without its registry, and a tag.
        """
        document = self.document
        if not isinstance(document, Legacy) or document.name is None:
            return False
        return (document.name, document.tag) != (name.path, name.tag)

    def needs_diff_ids(self, update: ManifestUpdate) -> bool:
        """Whether :meth:`updated` needs ``update.diff_ids``, for which all layers must be read."""
        return needs_diff_ids(self.document, update)

    def updated(self, update: ManifestUpdate) -> Image:
        """This image after ``update``, without its signatures if anything changed; it reads from
        the same source, and this one stays as it is.

        New layers, and a config that was made anew, exist nowhere yet.  Raises what
        :func:`kstore.manifest.update.updated_manifest` does.
        """
        config = self.read_config() if self.config_info is not None else None
        raw, config = updated_manifest(self.raw, self.document, config, update)
        return self if raw is self.raw else _UpdatedImage(self, raw, config)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class _UpdatedImage(Image):
    """An image as it would be, of which the source knows nothing."""

    def __init__(self, original: Image, raw: RawManifest, config: bytes | None) -> None:
        self._source = original._source
        self.raw = raw
        self.document = parse(raw)
        self._config = config

    @property
    def signatures(self) -> Sequence[bytes]:
        return ()

    def read_config(self) -> bytes:
        return super().read_config() if self._config is None else self._config


def open_image(reference: ImageReference, policy: TrustPolicy) -> Image:
    """Open what ``reference`` names, ask ``policy``, and parse it; to be closed by the caller.

    Raises what opening a source does, PolicyRejectedError, InvalidManifestError.
    """
    source = reference.open_source()
    try:
        return Image(admit(UnparsedImage(source), policy))
    except BaseException:
        source.close()
        raise


def _read_small(source: ImageSource, descriptor: Descriptor) -> bytes:
    while True:
        try:
            opened = source.open_blob(descriptor)
            with VerifiedStream(opened, descriptor, remedy=source.remedy) as stream:
                return read_limited(stream, MAX_CONFIG_SIZE, f"blob {descriptor.digest}")
        except IntegrityError:
            if source.refute(descriptor.digest) is None:
                raise


def choose_member(index: Index, want: Platform, where: str) -> Descriptor:
    """The member of ``index`` that suits ``want`` best.

    Attestations (platform ``unknown/unknown``) are never chosen.  Raises PlatformNotFoundError
    listing what there is; ``where`` names the image.
    """
    members = [m for m in index.manifests if not is_attestation(m)]
    chosen = best_match(members, [m.platform for m in members], want)
    if chosen is None:
        has = sorted({str(m.platform) for m in members if m.platform is not None})
        raise PlatformNotFoundError(
            f"{where} has no image for {want}; it has {', '.join(has) or 'no image at all'}",
            hint=f"choose one with --platform, for example --platform {has[0]}" if has else None,
        )
    return chosen


def is_attestation(member: Descriptor) -> bool:
    """Whether a member of an index is no image but a statement about one (platform unknown)."""
    platform = member.platform
    return platform is not None and (platform.os, platform.architecture) == ("unknown", "unknown")
