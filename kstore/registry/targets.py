"""Where things are at a registry.  Every text is checked before it becomes part of an address.

Source: OCI distribution specification 1.1, "Endpoints".
"""

from __future__ import annotations

from kstore.digest import Digest
from kstore.errors import InvalidReferenceError
from kstore.reference import Named, is_tag

__all__ = [
    "blob_target",
    "is_path",
    "manifest_target",
    "mount_target",
    "referrers_target",
    "signatures_target",
    "tags_target",
    "uploads_target",
]

_ANY_DOMAIN = "r.test"  # paths follow the same grammar at every registry


def manifest_target(path: str, reference: str | Digest) -> str:
    """A manifest, by tag or digest.  Raises InvalidReferenceError."""
    if isinstance(reference, str) and not is_tag(reference):
        raise InvalidReferenceError(f"{reference[:120]!r} is not a tag")
    return f"/v2/{_checked(path)}/manifests/{reference}"


def blob_target(path: str, digest: Digest) -> str:
    """A blob.  Raises InvalidReferenceError."""
    return f"/v2/{_checked(path)}/blobs/{digest}"


def uploads_target(path: str) -> str:
    """Where uploads begin.  Raises InvalidReferenceError."""
    return f"/v2/{_checked(path)}/blobs/uploads/"


def mount_target(path: str, digest: Digest, origin: str) -> str:
    """Where a blob of the repository ``origin`` is linked.  Raises InvalidReferenceError."""
    return f"{uploads_target(path)}?mount={digest}&from={_checked(origin)}"


def tags_target(path: str) -> str:
    """The list of tags.  Raises InvalidReferenceError."""
    return f"/v2/{_checked(path)}/tags/list"


def referrers_target(path: str, subject: Digest) -> str:
    """The list of what refers to a manifest.  Raises InvalidReferenceError."""
    return f"/v2/{_checked(path)}/referrers/{subject}"


def signatures_target(path: str, digest: Digest) -> str:
    """The signatures of a manifest, where a registry keeps them.  Raises InvalidReferenceError."""
    return f"/extensions/v2/{_checked(path)}/signatures/{digest}"


def is_path(text: str) -> bool:
    """Whether ``text`` is the path of a repository."""
    try:
        return _checked(text) == text
    except InvalidReferenceError:
        return False


def _checked(path: str) -> str:
    return Named(_ANY_DOMAIN, path).path
