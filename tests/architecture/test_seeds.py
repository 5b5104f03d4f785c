"""Every name of the two Go packages that this project grew from has a place here.

The names stand in this file; where they went, in contrib/docs/seeds.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping

import pytest

from kstore import images
from tests.architecture.source import CHECKOUT

#: kpod's ``images`` (cri-o 1.0.0-rc2): what it exports, and the fields and methods of its types.
IMAGES = {
    "Package": "",
    "OCIv1ImageManifest": "",
    "DefaultRegistry": "",
    "DockerArchive": "",
    "OCIArchive": "",
    "FindImage": "",
    "FindImageRef": "",
    "FormattedSize": "",
    "GetImagesMatchingFilter": "",
    "InfoAndDigestAndSize": "",
    "MatchesID": "",
    "MatchesReference": "",
    "ParseImageNames": "",
    "PullImage": "",
    "PushImage": "",
    "RemoveImage": "",
    "UntagImage": "",
    "GetContainerCopyData": "",
    "GetImageCopyData": "",
    "ImportCopyDataFromImage": "",
    "GetData": "",
    "ParseFilter": "",
    "FilterParams": "",
    "CopyData": (
        "Type FromImage FromImageID Config Manifest Container ContainerID "
        "MountPoint ImageAnnotations ImageCreatedBy OCIv1 Docker Annotations "
        "Architecture SetArchitecture OS SetOS WorkDir SetWorkDir Save "
        "MakeImageRef"
    ),
    "CopyOptions": (
        "Compression SignaturePolicyPath ReportWriter Store Quiet "
        "DockerRegistryCreds DockerCertPath DockerInsecureSkipTLSVerify "
        "RemoveSignatures SignBy"
    ),
    "CopyRef": (
        "NewImage NewImageSource NewImageDestination DeleteImage "
        "DockerReference StringWithinTransport PolicyConfigurationIdentity "
        "PolicyConfigurationNamespaces Transport"
    ),
    "Data": (
        "ID Tags Digests Digest Comment Created Container Author Config "
        "Architecture OS Annotations CreatedBy Size VirtualSize GraphDriver "
        "RootFS"
    ),
}

#: ``types`` of containers/image, of the same time.
TYPES = {
    "ImageTransport": "Name ParseReference ValidatePolicyConfigurationScope",
    "ImageReference": (
        "Transport StringWithinTransport DockerReference "
        "PolicyConfigurationIdentity PolicyConfigurationNamespaces NewImage "
        "NewImageSource NewImageDestination DeleteImage"
    ),
    "BlobInfo": "Digest Size URLs",
    "ImageSource": "Reference Close GetManifest GetTargetManifest GetBlob GetSignatures",
    "ImageDestination": (
        "Reference Close SupportedManifestMIMETypes SupportsSignatures "
        "ShouldCompressLayers AcceptsForeignLayerURLs PutBlob HasBlob "
        "ReapplyBlob PutManifest PutSignatures Commit"
    ),
    "ManifestTypeRejectedError": "",
    "UnparsedImage": "Reference Close Manifest Signatures",
    "Image": (
        "Reference Close Manifest Signatures ConfigInfo ConfigBlob OCIConfig "
        "LayerInfos EmbeddedDockerReferenceConflicts Inspect "
        "UpdatedImageNeedsLayerDiffIDs UpdatedImage IsMultiImage Size"
    ),
    "ManifestUpdateOptions": "LayerInfos EmbeddedDockerReference ManifestMIMEType InformationOnly",
    "ManifestUpdateInformation": "Destination LayerInfos LayerDiffIDs",
    "ImageInspectInfo": "Tag Created DockerVersion Labels Architecture Os Layers",
    "DockerAuthConfig": "Username Password",
    "SystemContext": (
        "RootForImplicitAbsolutePaths SignaturePolicyPath RegistriesDirPath "
        "DockerCertPath DockerPerHostCertDirPath DockerInsecureSkipTLSVerify "
        "DockerAuthConfig DockerRegistryUserAgent DockerDisableV1Ping "
        "OSTreeTmpDirPath"
    ),
    "ProgressProperties": "Artifact Offset",
    "ErrBlobNotFound": "",
}


def rows(heading: str) -> list[tuple[str, ...]]:
    """The cells of the table below a heading."""
    text = (CHECKOUT / "contrib" / "docs" / "seeds.md").read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


def names(package: Mapping[str, str]) -> Iterator[str]:
    for name, members in package.items():
        yield name
        yield from (f"{name}.{member}" for member in members.split())


def resolve(path: str) -> object:
    """What a dotted path leads to; AttributeError or ImportError if there is nothing."""
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        *above, last = parts[count:]
        for part in above:
            found = getattr(found, part)
        if isinstance(found, type) and last in _annotated(found):
            return found
        return getattr(found, last)
    raise ImportError(path)


def _annotated(kind: type) -> set[str]:
    """Attributes that objects of the class have and the class itself has not."""
    return {name for base in kind.__mro__ for name in vars(base).get("__annotations__", {})}


HEADINGS = {"kpod's `images`": IMAGES, "`types` of containers/image": TYPES}
ROWS = [row for heading in HEADINGS for row in rows(heading)]


@pytest.mark.parametrize("heading", HEADINGS)
def test_every_name_has_its_row(heading: str) -> None:
    assert [row[0].strip("`") for row in rows(heading)] == list(names(HEADINGS[heading]))


def test_no_cell_is_empty() -> None:
    assert [row for row in ROWS if len(row) != 3 or not all(row)] == []


@pytest.mark.parametrize("path", sorted({row[1].strip("`") for row in ROWS}))
def test_every_name_on_the_right_is_there(path: str) -> None:
    assert resolve(path) is not None


@pytest.mark.parametrize("path", ["kstore.images.nothing", "kstore.image.Image.nothing", "no.such"])
def test_a_name_that_is_not_there_would_be_noticed(path: str) -> None:
    with pytest.raises((AttributeError, ImportError)):
        resolve(path)


def test_everything_the_images_module_offers_is_in_the_table() -> None:
    offered = {f"kstore.images.{name}" for name in images.__all__}
    extra = {"kstore.images.NO_NAME"}  # what stood for a missing name was no constant of kpod's
    assert offered - extra <= {row[1].strip("`") for row in ROWS}


def test_everything_the_images_module_offers_is_there_and_described() -> None:
    for name in images.__all__:
        value = getattr(images, name)
        assert not callable(value) or value.__doc__, name
