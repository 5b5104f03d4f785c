"""Catalogs with many images: rows only, without the files, in one transaction.

Good for what only asks the catalog (listings, lookups, plans of queries), far faster than storing
every image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.manifest import ImageConfig, Manifest, RawManifest, parse
from kstore.reference import Named
from kstore.store import Store
from kstore.store.catalog import NameRow, Writer


@dataclass(frozen=True, slots=True)
class CatalogImage:
    """An image to record: number ``number`` of its kind, made at ``number`` minutes after 2020."""

    number: int
    names: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    platform: tuple[str, str] = ("linux", "amd64")

    @property
    def config(self) -> bytes:
        day, minute = divmod(self.number, 24 * 60)
        month, day = divmod(day, 28)
        return json.dumps(
            {
                "created": f"2020-{month + 1:02}-{day + 1:02}"
                f"T{minute // 60:02}:{minute % 60:02}:00Z",
                "os": self.platform[0],
                "architecture": self.platform[1],
                "config": {"Labels": dict(self.labels)},
                "rootfs": {"type": "layers", "diff_ids": [str(self._layer)]},
            }
        ).encode()

    @property
    def id(self) -> str:
        return Digest.of(self.config).hex

    @property
    def manifest(self) -> RawManifest:
        config = self.config
        document = {
            "schemaVersion": 2,
            "mediaType": mt.OCI_MANIFEST,
            "config": Descriptor(mt.OCI_CONFIG, Digest.of(config), len(config)).to_json(),
            "layers": [Descriptor(mt.OCI_LAYER_GZIP, self._layer, 1000).to_json()],
        }
        return RawManifest.receive(json.dumps(document).encode(), mt.OCI_MANIFEST)

    @property
    def _layer(self) -> Digest:
        return Digest.of(f"layer {self.number}".encode())


def fill_catalog(store: Store, images: Iterable[CatalogImage]) -> None:
    """Record ``images`` as if they had been pulled."""
    facts = (store.root / "oci-layout").stat()
    with store._session.write() as db:
        writer = Writer(db)
        for image in images:
            raw = image.manifest
            view = parse(raw)
            assert isinstance(view, Manifest)
            for blob in view.blobs:
                writer.put_blob(blob.digest, facts, blob.media_type)
            writer.put_blob(raw.digest, facts, raw.media_type)
            image_id = writer.put_image(view.config.digest, ImageConfig.parse(image.config))
            writer.put_manifest(raw, view, image_id)
            writer.measure_image(image_id)
            for name in image.names:
                row = NameRow(raw.digest, raw.digest)
                writer.move_name(Named.parse(name).with_default_tag(), row, "test")
