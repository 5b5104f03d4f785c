"""What refers to a manifest: how it is described, and under which tags it may be found.

A referrer names its ``subject`` itself.  Registries that do not list referrers keep an index of
them under a tag made of the subject's digest; cosign's older attachments have no subject, only a
tag made of the digest and a suffix.

Sources: OCI distribution specification 1.1, "Referrers tag schema"; OCI image specification 1.1,
``manifest.md`` (artifactType); cosign, specs/SIGNATURE_SPEC.md.
"""

from __future__ import annotations

import re

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import InvalidDigestError
from kstore.manifest.documents import Index, Manifest
from kstore.manifest.raw import RawManifest
from kstore.reference import is_tag

__all__ = [
    "ATTACHMENT_SUFFIXES",
    "artifact_type_of",
    "attachment_tag",
    "describe_referrer",
    "is_attachment_tag",
    "is_referrers_tag",
    "listed_subject",
    "referrers_tag",
    "tagged_subject",
]

#: Ends of the tags of cosign's signatures, attestations and lists of contents.
ATTACHMENT_SUFFIXES = ("sig", "att", "sbom")

_TAG_HEX = 64
_ATTACHMENT = re.compile(
    rf"([a-z0-9]+)-([0-9a-f]+)\.(?:{'|'.join(ATTACHMENT_SUFFIXES)})\Z", re.ASCII
)

_REFERRERS = re.compile(r"sha(?:256|384|512)-[0-9a-f]{64}\Z", re.ASCII)


def referrers_tag(subject: Digest) -> str:
    """The tag of the index of all referrers, where the registry does not list them."""
    return f"{subject.algorithm}-{subject.hex[:_TAG_HEX]}"


def attachment_tag(subject: Digest, suffix: str) -> str | None:
    """The tag of cosign's attachment; None where the digest is too long for one."""
    tag = f"{subject.algorithm}-{subject.hex}.{suffix}"
    return tag if is_tag(tag) else None


def tagged_subject(tag: str) -> Digest | None:
    """What an attachment is attached to, by its tag; None for any other tag."""
    match = _ATTACHMENT.match(tag)
    try:
        return Digest(match[1], match[2]) if match else None
    except InvalidDigestError:
        return None


def is_attachment_tag(tag: str) -> bool:
    """Whether a tag stands for what is attached to images, and not for an image."""
    return tagged_subject(tag) is not None or is_referrers_tag(tag)


def is_referrers_tag(tag: str) -> bool:
    """Whether a tag stands for the index of what refers to an image."""
    return _REFERRERS.match(tag) is not None


def listed_subject(tag: str) -> Digest | None:
    """What the index under a tag lists the referrers of; None for any other tag, and where the tag
    has not all of the digest."""
    algorithm, _, digits = tag.partition("-")
    try:
        return Digest(algorithm, digits) if is_referrers_tag(tag) else None
    except InvalidDigestError:
        return None


def artifact_type_of(view: Manifest | Index) -> str | None:
    """What kind of artifact it is: as stated, or by its config."""
    if view.artifact_type is None and isinstance(view, Manifest):
        return view.config.media_type or None
    return view.artifact_type


def describe_referrer(raw: RawManifest, view: Manifest | Index) -> Descriptor:
    """The entry of a manifest in a list of referrers."""
    return Descriptor(
        raw.media_type,
        raw.digest,
        len(raw.data),
        annotations=view.annotations,
        artifact_type=artifact_type_of(view),
    )
