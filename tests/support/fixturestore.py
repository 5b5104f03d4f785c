"""A store of five images that differ in what matters when images are told apart.

==  ==========================================  ==================================================
A   docker.io/library/alpine:latest             small and complete, like Alpine Linux's own
B   docker.io/library/alpine:3.20,              labels, two names; its ID begins as A's does
    localhost/foobar:latest
C   (none)
D   localhost:5000/team/app:v1                  one layer more on A's base; a registry with a port
E   quay.io/other/myalpine:latest               its name ends like A's; it is the first in the store
==  ==========================================  ==================================================

::

    shelf = fill_store(store)
    shelf.a.id, shelf.image("b").raw.digest
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.manifest import RawManifest
from kstore.store import Store
from tests.support.images import AMD64, TestImage, compress
from tests.support.layers import directory, file, layer, symlink
from tests.support.stores import put_image

#: How the IDs begin: A's and B's alike for three digits.
ID_STARTS = {"a": "a1b", "b": "a1b", "c": "c3d", "d": "d4e", "e": "e5f"}

NAMES: Mapping[str, tuple[str, ...]] = {
    "e": ("quay.io/other/myalpine:latest",),
    "a": ("docker.io/library/alpine:latest",),
    "b": ("docker.io/library/alpine:3.20", "localhost/foobar:latest"),
    "c": (),
    "d": ("localhost:5000/team/app:v1",),
}

_BASE = layer(
    directory("bin"),
    file("bin/busybox", b"\x7fELF busybox", mode=0o755),
    symlink("bin/sh", "/bin/busybox"),
    directory("etc"),
    file("etc/alpine-release", b"3.20.0\n"),
    file("etc/os-release", b"ID=alpine\n"),
    directory("lib"),
    directory("lib/apk"),
)


@dataclass(frozen=True)
class FixtureStore:
    """The store and its images; by the letters above."""

    store: Store
    a: TestImage
    b: TestImage
    c: TestImage
    d: TestImage
    e: TestImage

    def image(self, letter: str) -> TestImage:
        image = getattr(self, letter)
        assert isinstance(image, TestImage)
        return image

    def letter(self, image_id: str) -> str:
        """Which image has this ID."""
        return next(letter for letter in NAMES if self.image(letter).id == image_id)

    def fill(self, text: str) -> str:
        """``{a}`` is A's ID, ``{a_m}`` the hex of its manifest's digest, and so on."""
        words = {letter: self.image(letter).id for letter in NAMES}
        words |= {f"{letter}_m": self.image(letter).raw.digest.hex for letter in NAMES}
        return text.format(**words)


def fill_store(store: Store) -> FixtureStore:
    """Put the five images into an empty store."""
    for letter, names in NAMES.items():
        put_image(store, images()[letter], *names)
    return described(store)


def described(store: Store) -> FixtureStore:
    """A store that was filled before."""
    return FixtureStore(store, **images())


@cache
def images() -> Mapping[str, TestImage]:
    """The five images; the same bytes every time."""
    return {
        "a": _image("a", 1, {}, _BASE),
        "b": _image("b", 2, {"vendor": "acme", "args": "a=x,y", "empty": ""}, _layer("b")),
        "c": _image("c", 3, {"vendor": "other"}, _layer("c")),
        "d": _image("d", 4, {}, _BASE, _layer("app")),
        "e": _image("e", 5, {}, _layer("e")),
    }


def _layer(content: str) -> bytes:
    return layer(directory("srv"), file(f"srv/{content}", content.encode()))


def _image(letter: str, month: int, labels: Mapping[str, str], *layers: bytes) -> TestImage:
    """Made in a month of 2024; its ID begins as it shall."""
    made = f"2024-{month:02}-01T00:00:00Z"
    steps: list[dict[str, Any]] = [
        {"created": made, "created_by": f"ADD layer {number}"} for number in range(len(layers))
    ]
    last = {"created": made, "created_by": 'CMD ["/bin/sh"]', "comment": "the last step"}
    packed = [compress(each, "gzip") for each in layers]
    config = _with_id(
        {
            "created": made,
            "author": f"maker of {letter}",
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "Labels": dict(labels)},
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(each)) for each in layers]},
            "history": [*steps, {**last, "empty_layer": True}],
        },
        ID_STARTS[letter],
    )
    blobs = tuple(Descriptor(mt.OCI_LAYER_GZIP, Digest.of(blob), len(blob)) for blob in packed)
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": Descriptor(mt.OCI_CONFIG, Digest.of(config), len(config)).to_json(),
        "layers": [blob.to_json() for blob in blobs],
        "annotations": {"letter": letter},
    }
    return TestImage(
        raw=RawManifest.receive(json.dumps(document).encode(), mt.OCI_MANIFEST),
        blobs={Digest.of(blob): blob for blob in (*packed, config)},
        config=config,
        layers=blobs,
        platform=AMD64,
    )


def _with_id(config: dict[str, Any], start: str) -> bytes:
    """The config, with a key more that makes its digest begin with these hex digits."""
    for number in count():
        data = json.dumps({**config, "x-number": number}).encode()
        if Digest.of(data).hex.startswith(start):
            return data
    raise AssertionError("unreachable")
