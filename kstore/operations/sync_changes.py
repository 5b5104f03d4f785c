"""What of an image a destination of ``sync`` lacks, of what the source has."""

from __future__ import annotations

from kstore.copier import CopyOptions, CopyResult
from kstore.copier.selection import Selection, select
from kstore.digest import Digest
from kstore.errors import InvalidManifestError, NotFoundError, UnsupportedError
from kstore.image import TrustPolicy, UnparsedImage, choose_member
from kstore.interfaces import ImageReference
from kstore.manifest import RawManifest, parse_index
from kstore.mediatypes import INDEXES
from kstore.operations.referrer_places import open_place
from kstore.operations.referrers import missing_referrers
from kstore.platforms import host_platform
from kstore.signature import Signature, parse_signature
from kstore.transports.docker import DockerReference
from kstore.transports.storage import StorageReference

__all__ = ["ask", "held_digest", "lacks_anything", "wanted_digest"]


def wanted_digest(source: ImageReference, copying: CopyOptions) -> Digest:
    """The digest of what would be copied, if nothing about it has to change."""
    if isinstance(source, DockerReference):
        found = source.home.places(source.named).head(source.version)
        if found is not None and (copying.instances == "all" or found.media_type not in INDEXES):
            return found.digest
    raw = _read(source)
    if raw.is_index and copying.instances == "system":
        want = copying.platform or host_platform()
        where = f"{source.transport}:{source.within_transport}"
        return choose_member(parse_index(raw), want, where).digest
    return raw.digest


def held_digest(destination: ImageReference, *, whole: bool) -> Digest | None:
    """The digest of what has the destination's name now, None if nothing has."""
    if isinstance(destination, DockerReference):
        found = destination.client.head_manifest(destination.named.path, destination.version)
        return None if found is None else found.digest
    if isinstance(destination, StorageReference):
        store = destination.home.store
        record = store.name(destination.named) if destination.named else None
        digest = None if record is None else record.target if whole else record.manifest
        manifest = None if digest is None else store.manifest(digest)
        return digest if manifest is not None and manifest.complete else None
    try:
        return _read(destination).digest
    except NotFoundError:
        return None


def _read(reference: ImageReference) -> RawManifest:
    with reference.open_source() as source:
        return UnparsedImage(source).raw


def ask(source: ImageReference, policy: TrustPolicy, copying: CopyOptions) -> None:
    """Ask ``policy`` about an image that is not copied now; PolicyRejectedError."""
    if policy.may_refuse(source):
        with source.open_source() as session:
            select(session, policy, copying)


def lacks_anything(
    source: ImageReference,
    destination: ImageReference,
    copying: CopyOptions,
    policy: TrustPolicy,
    *,
    with_referrers: bool,
) -> bool:
    """Whether a destination that has the manifest lacks a signature of it, or ``with_referrers``
    something that is attached to it.

    ``policy`` is asked once more: whoever tightened it, or took a key away, must hear of images
    that it does not admit any more.  Signatures are compared where it may look at them, and
    ``with_referrers``.  Raises PolicyRejectedError, and what reading does.
    """
    if not (with_referrers or policy.may_refuse(source)):
        return False
    with source.open_source() as session:
        selection = select(session, policy, copying)
        if not copying.remove_signatures and _lacks_signatures(selection, destination):
            return True
        result = CopyResult(selection.top, selection.via)
    if not with_referrers:
        return False
    with open_place(source) as origin, open_place(destination) as target:
        return next(missing_referrers(origin, target, result, copying), None) is not None


def _lacks_signatures(selection: Selection, destination: ImageReference) -> bool:
    signed = [image for image in selection.all if image.signatures]
    if not signed:
        return False
    with destination.open_source() as there:
        for image in signed:
            instance = None if image.raw is selection.top else image.raw.digest
            held = [_understood(data) for data in there.read_signatures(instance)]
            if any(_understood(data) not in held for data in image.signatures):
                return True
    return False


def _understood(data: bytes) -> Signature | bytes:
    """A signature to compare with others: places write the same sigstore signature differently."""
    try:
        return parse_signature(data, "a signature")
    except (InvalidManifestError, UnsupportedError):
        return data
