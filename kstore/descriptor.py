"""Descriptors: what is known about a blob.

Source: OCI image specification 1.1 ``descriptor.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any

from kstore.digest import Digest
from kstore.errors import InvalidDigestError, InvalidManifestError
from kstore.platforms import Platform
from kstore.strictjson import as_texts, check_spelling, text_in
from kstore.values import dataclass

__all__ = ["MAX_BLOB_SIZE", "BlobHint", "Descriptor", "text_map"]

#: No honest blob is larger (8 EiB is where signed 64-bit sizes end; SQLite stores those).
MAX_BLOB_SIZE = 2**63 - 1

_FIELDS = {
    name.casefold(): name
    for name in ("mediaType", "digest", "size", "annotations", "urls", "platform", "artifactType")
}
_PLATFORM_FIELDS = {
    name: name for name in ("os", "architecture", "variant", "os.version", "os.features")
}

_NO_ANNOTATIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob that exists somewhere: its type, digest and size in bytes.

    ``urls`` are remembered because they are part of the manifest, and never fetched from.
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=lambda: _NO_ANNOTATIONS, hash=False)
    urls: tuple[str, ...] = ()
    platform: Platform | None = None
    artifact_type: str | None = None

    @classmethod
    def from_json(cls, value: Any, what: str) -> Descriptor:
        """Build a descriptor from parsed JSON; ``what`` names it in errors.

        A missing media type, which some tools leave out, becomes ``""``.  Raises
        InvalidManifestError for a missing digest or size, and for any wrong field.
        """
        if not isinstance(value, dict):
            raise InvalidManifestError(f"{what} is not a descriptor")
        check_spelling(value, _FIELDS, what)
        try:
            digest = Digest.parse(value.get("digest", ""))
        except InvalidDigestError as exc:
            raise InvalidManifestError(f"{what} has a bad digest: {exc}") from exc
        size = value.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_BLOB_SIZE:
            raise InvalidManifestError(f"{what} ({digest}) has no valid size in bytes")
        return cls(
            media_type=text_in(value, "mediaType", what) or "",
            digest=digest,
            size=size,
            annotations=text_map(value.get("annotations"), f"annotations of {what}"),
            urls=as_texts(value.get("urls"), f"urls of {what}"),
            platform=_platform(value.get("platform"), what),
            artifact_type=text_in(value, "artifactType", what),
        )

    def to_json(self) -> dict[str, Any]:
        """The descriptor as a JSON object, keys in the specification's order."""
        result: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.urls:
            result["urls"] = list(self.urls)
        if self.annotations:
            result["annotations"] = dict(self.annotations)
        if self.platform is not None:
            result["platform"] = _platform_json(self.platform)
        if self.artifact_type is not None:
            result["artifactType"] = self.artifact_type
        return result


@dataclass(frozen=True, slots=True)
class BlobHint:
    """What a destination is told about a blob before it sees the bytes; None means unknown.

    ``kind`` is ``"layer"`` or ``"config"``; ``index`` is a layer's position, base first.
    ``origins`` are repositories (``registry/path``) known to hold the blob, likeliest first.
    """

    digest: Digest | None
    size: int | None
    media_type: str
    kind: str = "layer"
    index: int | None = None
    origins: tuple[str, ...] = ()


def text_map(value: Any, what: str) -> Mapping[str, str]:
    """A JSON object of texts as a read-only mapping; None counts as empty.

    Raises InvalidManifestError naming ``what`` for anything else.
    """
    if value is None:
        return _NO_ANNOTATIONS
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise InvalidManifestError(f"{what} is not a map of texts")
    return MappingProxyType(value)


def _platform(value: Any, what: str) -> Platform | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidManifestError(f"platform of {what} is not an object")
    check_spelling(value, _PLATFORM_FIELDS, f"platform of {what}")
    return Platform(
        os=text_in(value, "os", what) or "",
        architecture=text_in(value, "architecture", what) or "",
        variant=text_in(value, "variant", what),
        os_version=text_in(value, "os.version", what),
        os_features=as_texts(value.get("os.features"), f"os.features of {what}"),
    )


def _platform_json(platform: Platform) -> dict[str, Any]:
    result: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        result["os.version"] = platform.os_version
    if platform.os_features:
        result["os.features"] = list(platform.os_features)
    if platform.variant:
        result["variant"] = platform.variant
    return result
