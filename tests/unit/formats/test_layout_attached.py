"""What the entries of a layout are attached to."""

from __future__ import annotations

import json
from collections import Counter

from kstore.digest import Digest
from kstore.formats.layout_attached import attached_entries, subjects_of
from kstore.formats.oci_layout import REF_NAME, LayoutIndex
from kstore.manifest import RawManifest
from tests.support.images import index_of, random_artifact, random_image

IMAGE, OTHER = random_image(1), random_image(2)
SBOM = random_artifact(1, subject=IMAGE.raw.descriptor)
SIGNATURE = f"sha256-{IMAGE.raw.digest.hex}.sig"


class Blobs:
    """The blobs of a layout; counts how often each is read."""

    def __init__(self, *raws: RawManifest) -> None:
        self._blobs = {raw.digest: raw.data for raw in raws}
        self.reads: Counter[Digest] = Counter()

    def read(self, digest: Digest) -> bytes | None:
        self.reads[digest] += 1
        return self._blobs.get(digest)


def layout(*entries: tuple[RawManifest, str | None]) -> LayoutIndex:
    listed = []
    for raw, ref in entries:
        entry = raw.descriptor.to_json()
        listed.append(entry if ref is None else entry | {"annotations": {REF_NAME: ref}})
    document = {"schemaVersion": 2, "manifests": listed}
    return LayoutIndex.parse(json.dumps(document).encode(), "a layout")


def test_each_entry_is_attached_to_what_it_or_its_name_says() -> None:
    index = layout(
        (IMAGE.raw, "app:1"), (SBOM.raw, None), (OTHER.raw, SIGNATURE), (OTHER.raw, "other")
    )
    blobs = Blobs(IMAGE.raw, SBOM.raw, OTHER.raw)
    image = IMAGE.raw.digest
    assert subjects_of(index, blobs.read) == [None, image, image, None]
    assert attached_entries(index, blobs.read) == {1, 2}


def test_what_is_attached_to_a_member_of_an_index_is_no_image() -> None:
    whole = index_of([IMAGE, OTHER])
    index = layout((whole, "app"), (SBOM.raw, None))
    assert attached_entries(index, Blobs(whole, SBOM.raw).read) == {1}


def test_a_manifest_that_many_entries_name_is_read_once() -> None:
    names = [(IMAGE.raw, f"app:{number}") for number in range(1000)]
    blobs = Blobs(IMAGE.raw, SBOM.raw)
    assert attached_entries(layout(*names[:-1], (SBOM.raw, None)), blobs.read) == {999}
    assert blobs.reads == {IMAGE.raw.digest: 1, SBOM.raw.digest: 1}
