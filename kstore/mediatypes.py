"""Media types of manifests, configs and layers, and what follows from them.

Sources: OCI image specification 1.1 ``media-types.md``; Docker image manifest version 2 schema 2.
"""

from __future__ import annotations

__all__ = [
    "ARTIFACT_EMPTY",
    "CONFIG_OF",
    "DOCKER_CONFIG",
    "DOCKER_FOREIGN_LAYER",
    "DOCKER_FOREIGN_LAYER_TAR",
    "DOCKER_LAYER",
    "DOCKER_LAYER_TAR",
    "DOCKER_LIST",
    "DOCKER_MANIFEST",
    "DOCKER_SCHEMA1",
    "DOCKER_SCHEMA1_SIGNED",
    "IMAGE_CONFIGS",
    "INDEXES",
    "MANIFESTS",
    "MANIFEST_ACCEPT",
    "OCI_CONFIG",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_LAYER_GZIP",
    "OCI_LAYER_ZSTD",
    "OCI_MANIFEST",
    "OCI_NONDISTRIBUTABLE",
    "OCTET_STREAM",
    "SCHEMA1",
    "is_foreign_layer",
    "is_statement",
    "layer_compression",
    "layer_type",
]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
ARTIFACT_EMPTY = "application/vnd.oci.empty.v1+json"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_TAR = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
DOCKER_FOREIGN_LAYER_TAR = "application/vnd.docker.image.rootfs.foreign.diff.tar"

DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

OCTET_STREAM = "application/octet-stream"

#: Manifests of one image, in schemas this package writes.
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
#: Lists of manifests.
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
#: Docker's first schema, signed or not.
SCHEMA1 = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
#: Config types that describe a runnable image (anything else makes the manifest an artifact).
IMAGE_CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})

#: The type of an image's config by that of its manifest.
CONFIG_OF: dict[str, str] = {OCI_MANIFEST: OCI_CONFIG, DOCKER_MANIFEST: DOCKER_CONFIG}

#: What a client says it understands, most wanted first.
MANIFEST_ACCEPT: tuple[str, ...] = (
    OCI_MANIFEST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    DOCKER_LIST,
    DOCKER_SCHEMA1_SIGNED,
    DOCKER_SCHEMA1,
)

_COMPRESSION: dict[str, str] = {
    OCI_LAYER: "none",
    OCI_LAYER_GZIP: "gzip",
    OCI_LAYER_ZSTD: "zstd",
    OCI_NONDISTRIBUTABLE: "none",
    OCI_NONDISTRIBUTABLE + "+gzip": "gzip",
    OCI_NONDISTRIBUTABLE + "+zstd": "zstd",
    DOCKER_LAYER: "gzip",
    DOCKER_LAYER_TAR: "none",
    DOCKER_FOREIGN_LAYER: "gzip",
    DOCKER_FOREIGN_LAYER_TAR: "none",
}

_OCI_LAYERS = {"none": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}
_DOCKER_LAYERS = {"none": DOCKER_LAYER_TAR, "gzip": DOCKER_LAYER}


#: What cosign attaches in the form of an image: signatures, attestations, lists of contents.
_STATEMENTS = frozenset(
    {
        "application/vnd.dev.cosign.simplesigning.v1+json",
        "application/vnd.dsse.envelope.v1+json",
        "application/vnd.cyclonedx",
        "application/vnd.cyclonedx+json",
        "application/vnd.cyclonedx+xml",
        "application/vnd.syft+json",
        "text/spdx",
        "text/spdx+json",
        "text/spdx+xml",
    }
)


def is_statement(media_type: str) -> bool:
    """Whether a "layer" of this type holds no files but says something about an image."""
    return media_type in _STATEMENTS


def layer_compression(media_type: str) -> str | None:
    """``"none"``, ``"gzip"`` or ``"zstd"`` for a known layer type, None for any other type."""
    return _COMPRESSION.get(media_type)


def layer_type(manifest_type: str, compression: str) -> str | None:
    """The layer media type for ``compression`` inside a manifest of ``manifest_type``.

    None where that family has no such type (zstd in Docker schema 2).
    """
    family = _DOCKER_LAYERS if manifest_type == DOCKER_MANIFEST else _OCI_LAYERS
    return family.get(compression)


def is_foreign_layer(media_type: str) -> bool:
    """Whether registries are not meant to hold this layer (it is fetched from ``urls``)."""
    return media_type.startswith(OCI_NONDISTRIBUTABLE) or media_type in (
        DOCKER_FOREIGN_LAYER,
        DOCKER_FOREIGN_LAYER_TAR,
    )
