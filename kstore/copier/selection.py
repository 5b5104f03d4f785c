"""Which images are copied: admitted one by one, before anything in them is read."""

from __future__ import annotations

from collections.abc import Sequence

from kstore.copier.options import CopyOptions
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import InvalidManifestError, UnsupportedError
from kstore.image import Image, TrustPolicy, UnparsedImage, admit, admit_index, choose_member
from kstore.interfaces import ImageDestination, ImageSource
from kstore.manifest import Index, RawManifest
from kstore.platforms import host_platform
from kstore.values import dataclass

__all__ = ["Selection", "select", "where"]

#: Most bytes the manifests of all members of one index may have together.
MAX_MEMBER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Selection:
    """What was chosen.

    Without ``index``, the one image of ``images`` is written under the name, ``via`` being the
    index it was chosen from.  With it, ``images`` are written as its members, and ``keep`` tells
    which members it goes on to list (None: all).
    """

    images: tuple[Image, ...]
    index: Image | None = None
    keep: frozenset[Digest] | None = None
    via: RawManifest | None = None

    @property
    def top(self) -> RawManifest:
        """What the name will stand for, if nothing changes."""
        return (self.index or self.images[0]).raw

    @property
    def all(self) -> tuple[Image, ...]:
        """The images and the index."""
        return self.images if self.index is None else (*self.images, self.index)


def where(session: ImageSource | ImageDestination) -> str:
    """How the image is called in messages."""
    return f"{session.reference.transport}:{session.reference.within_transport}"


def select(source: ImageSource, policy: TrustPolicy, options: CopyOptions) -> Selection:
    """The images to copy; each is admitted by ``policy`` first.

    So is an index, but its members' signatures do for it, unless it is to be copied alone.

    Raises PolicyRejectedError, PlatformNotFoundError, InvalidManifestError.
    """
    unparsed = UnparsedImage(source)
    ask = admit if options.instances == "index-only" else admit_index
    top = Image(ask(unparsed, policy))
    if not isinstance(top.document, Index):
        if options.instances == "index-only":
            raise UnsupportedError(f"{where(source)} is one image, not an index")
        return Selection((top,))
    if options.instances == "index-only":
        return Selection((), top)
    chosen = _chosen(top.document, options, where(source))
    if not chosen:
        admit(unparsed, policy)  # there is no member that could answer for it
    _check_size(chosen, where(source))
    images = tuple(_member(source, member, policy) for member in chosen)
    if options.instances == "system":
        return Selection(images, via=top.raw)
    keep = None
    if options.instances == "platforms" and not options.sparse:
        keep = frozenset(member.digest for member in chosen)
    return Selection(images, top, keep)


def _chosen(index: Index, options: CopyOptions, name: str) -> Sequence[Descriptor]:
    """The members to copy, each digest once."""
    if options.instances == "system":
        return [choose_member(index, options.platform or host_platform(), name)]
    members = index.manifests
    if options.instances == "platforms":
        members = tuple(choose_member(index, want, name) for want in options.platforms)
    return list({member.digest: member for member in members}.values())


def _check_size(members: Sequence[Descriptor], name: str) -> None:
    total = sum(member.size for member in members)
    if total > MAX_MEMBER_BYTES:
        raise InvalidManifestError(
            f"the manifests in index {name} have {total} bytes together, more than"
            f" {MAX_MEMBER_BYTES}"
        )


def _member(source: ImageSource, member: Descriptor, policy: TrustPolicy) -> Image:
    image = Image(admit(UnparsedImage(source, member), policy))
    if isinstance(image.document, Index):
        raise InvalidManifestError(
            f"member {member.digest} of {where(source)} is an index itself; nested indexes are"
            " refused"
        )
    return image
