"""One place for each transport: empty at first, then filled, read, written and looked at.

::

    with PLACES["oci"](tmp_path) as place:
        place.fill(image)                     # by the means of the tests, not by kstore's writers
        place.reference.open_source()
        place.visible()                       # compares equal while nothing changed

A place is filled from the specifications' side, so that a mistake kstore makes both in reading and
in writing does not go unseen.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from kstore import mediatypes as mt
from kstore.errors import NotFoundError
from kstore.interfaces import DestinationTraits, ImageReference
from kstore.manifest import RawManifest
from kstore.registry import RegistryClient, RegistrySettings
from kstore.registry.registriesconf import Peer
from kstore.store import Store
from kstore.streams import Cancel, Closing
from kstore.transports import Transports, TransportSettings
from kstore.transports.docker_endpoint import DockerDaemonSettings
from tests.conformance.daemon import KeepingDocker
from tests.support.dockertars import modern_docker, tar_of
from tests.support.images import TestImage, write_oci_layout
from tests.support.localregistry import serve
from tests.support.stores import put_image, put_index

__all__ = ["PLACES", "Place"]

Members = Sequence[TestImage]


class Place(Closing):
    """Where images of one transport are; its class says what the transport's form can keep.

    ``written``: it can be written to.  ``named``: it holds several images, by name.  ``manifests``:
    the manifest comes back byte for byte, and layers as they were compressed.  ``indexes``: an
    index can be put there.  ``sparse``: an index comes back although members are missing.
    ``families``: the types of manifests it can be filled with.  ``blobs``: a second image finds the
    blobs of the first.  ``replaced``: an image of the same name is replaced.  ``deletes``: images
    can be deleted.
    """

    transport: ClassVar[str]
    written: ClassVar[bool] = True
    named: ClassVar[bool] = True
    manifests: ClassVar[bool] = True
    indexes: ClassVar[bool] = True
    sparse: ClassVar[bool] = True
    families: ClassVar[frozenset[str]] = mt.MANIFESTS | mt.INDEXES
    blobs: ClassVar[bool] = False
    replaced: ClassVar[bool] = True
    deletes: ClassVar[bool] = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory / self.transport
        self.directory.mkdir(parents=True)
        self.cancel = Cancel()
        self._stack = ExitStack()
        self.transports = self._stack.enter_context(Transports(self._settings()))

    def _settings(self) -> TransportSettings:
        return TransportSettings(
            lambda: self.store, self._connect, self.cancel, spool_dir=self.directory.parent
        )

    def _connect(self, peer: Peer) -> RegistryClient:
        hasty = RegistrySettings(tls_verify=False, attempts=2, backoff_base=0.01)
        return RegistryClient(peer.host, hasty, cancel=self.cancel)

    @cached_property
    def store(self) -> Store:
        return self._stack.enter_context(Store.open(self.directory / "store", command="test"))

    def text(self, name: str) -> str:
        """What follows the transport in the reference of the image ``name`` of this place."""
        raise NotImplementedError

    def named_reference(self, name: str) -> ImageReference:
        return self.transports.parse(f"{self.transport}:{self.text(name)}")

    @property
    def reference(self) -> ImageReference:
        """The image this place is about."""
        return self.named_reference("team/app:1")

    def traits(self) -> DestinationTraits | None:
        """What the place takes while it is empty; None if nothing."""
        if not self.written:
            return None
        with self.reference.open_destination() as destination:
            return destination.traits

    def fill(self, image: TestImage) -> None:
        """Put the image there."""
        raise NotImplementedError

    def fill_index(self, raw: RawManifest, members: Members) -> None:
        """Put an index there, where the transport has indexes."""
        raise NotImplementedError

    def visible(self) -> object:
        """Everything a user could find, and what must not be left behind."""
        files = [path for path in self.directory.rglob("*") if path.is_file()]
        directories = {path for path in self.directory.rglob("*") if path.is_dir()}
        return directories, {path: path.read_bytes() for path in files}

    def is_there(self) -> bool:
        """Whether the image of :attr:`reference` can be opened."""
        try:
            self.reference.open_source().close()
        except NotFoundError:
            return False
        return True

    def close(self) -> None:
        self._stack.close()


class DirPlace(Place):
    transport = "dir"
    named = False

    @property
    def _path(self) -> Path:
        return self.directory / "image"

    def text(self, name: str) -> str:
        return str(self._path)

    def fill(self, image: TestImage) -> None:
        self._write({"manifest.json": image.raw.data, **_named_blobs(image)})

    def fill_index(self, raw: RawManifest, members: Members) -> None:
        files = {"manifest.json": raw.data}
        for member in members:
            files[f"{member.raw.digest.hex}.manifest.json"] = member.raw.data
            files |= _named_blobs(member)
        self._write(files)

    def _write(self, files: Mapping[str, bytes]) -> None:
        self._path.mkdir()
        (self._path / "version").write_text("Directory Transport Version: 1.1\n")
        for name, data in files.items():
            (self._path / name).write_bytes(data)


def _named_blobs(image: TestImage) -> dict[str, bytes]:
    return {digest.hex: data for digest, data in image.blobs.items()}


class OciPlace(Place):
    transport = "oci"
    blobs = True

    @property
    def _layout(self) -> Path:
        return self.directory / "layout"

    def text(self, name: str) -> str:
        return f"{self._layout}:{name}"

    def fill(self, image: TestImage) -> None:
        write_oci_layout(self._layout, {"team/app:1": image})

    def fill_index(self, raw: RawManifest, members: Members) -> None:
        write_oci_layout(self._layout, {"team/app:1": (raw, members)})


class OciArchivePlace(OciPlace):
    transport = "oci-archive"
    blobs = False
    replaced = False
    deletes = False

    def text(self, name: str) -> str:
        return f"{self.directory / 'images.tar'}:{name}"

    def fill(self, image: TestImage) -> None:
        super().fill(image)
        self._pack()

    def fill_index(self, raw: RawManifest, members: Members) -> None:
        super().fill_index(raw, members)
        self._pack()

    def _pack(self) -> None:
        files = sorted(path for path in self._layout.rglob("*") if path.is_file())
        packed = {str(path.relative_to(self._layout)): path.read_bytes() for path in files}
        (self.directory / "images.tar").write_bytes(tar_of(packed))
        shutil.rmtree(self._layout)


class DockerArchivePlace(Place):
    transport = "docker-archive"
    indexes = False
    families = mt.MANIFESTS
    replaced = False
    deletes = False

    def text(self, name: str) -> str:
        return f"{self.directory / 'images.tar'}:{name}"

    def fill(self, image: TestImage) -> None:
        (self.directory / "images.tar").write_bytes(tar_of(modern_docker({"team/app:1": image})))


class TarballPlace(Place):
    transport = "tarball"
    written = False
    named = False
    manifests = False
    indexes = False
    families = frozenset({mt.OCI_MANIFEST})
    deletes = False

    _names: Sequence[str] = ("0.tar", "1.tar", "2.tar")

    def text(self, name: str) -> str:
        return ":".join(str(self.directory / name) for name in self._names)

    def fill(self, image: TestImage) -> None:
        for name, layer in zip(self._names, image.layers, strict=True):
            (self.directory / name).write_bytes(image.blobs[layer.digest])
            os.utime(self.directory / name, (1_700_000_000, 1_700_000_000))


class StorePlace(Place):
    transport = "kstore"
    sparse = False
    blobs = True

    def text(self, name: str) -> str:
        return f"localhost/{name}"

    def fill(self, image: TestImage) -> None:
        put_image(self.store, image, self.text("team/app:1"))

    def fill_index(self, raw: RawManifest, members: Members) -> None:
        put_index(self.store, raw, members, self.text("team/app:1"))

    def visible(self) -> object:
        """Blobs that were finished may stay, and so may what is there of others: they are resumed
        and pruned."""
        staged = [path for name in ("staging", "trash") for path in (self._root / name).iterdir()]
        return self.store.images(), self.store.names(), staged

    @property
    def _root(self) -> Path:
        return self.store.root


class RegistryPlace(Place):
    transport = "docker"
    blobs = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.registry = self._stack.enter_context(serve(self.directory / "registry"))

    def text(self, name: str) -> str:
        return f"//{self.registry.host}/{name}"

    def fill(self, image: TestImage) -> None:
        self.registry.push("team/app", "1", image)

    def fill_index(self, raw: RawManifest, members: Members) -> None:
        for member in members:
            self.registry.push("team/app", str(member.raw.digest), member)
        assert self.registry.push_manifest("team/app", "1", raw).status == 201

    def visible(self) -> object:
        tags = self.registry.ask("GET", "/v2/team/app/tags/list")
        manifest = self.registry.ask("GET", "/v2/team/app/manifests/1")
        listed = tags.json.get("tags")
        return listed or [], manifest.body if manifest.status == 200 else None


class DaemonPlace(Place):
    transport = "docker-daemon"
    manifests = False
    indexes = False
    families = frozenset({mt.DOCKER_MANIFEST})
    deletes = False

    def __init__(self, directory: Path) -> None:
        self.docker = KeepingDocker()
        super().__init__(directory)
        self._stack.enter_context(self.docker)

    def _settings(self) -> TransportSettings:
        return TransportSettings(
            lambda: self.store,
            self._connect,
            self.cancel,
            spool_dir=self.directory.parent,
            docker_daemon=DockerDaemonSettings(host=self.docker.host),
        )

    def text(self, name: str) -> str:
        return name

    def fill(self, image: TestImage) -> None:
        self.docker.load(tar_of(modern_docker({"docker.io/team/app:1": image})))

    def visible(self) -> object:
        return dict(self.docker.images)


PLACES: Mapping[str, type[Place]] = {
    place.transport: place
    for place in (
        RegistryPlace,
        StorePlace,
        OciPlace,
        OciArchivePlace,
        DirPlace,
        DockerArchivePlace,
        DaemonPlace,
        TarballPlace,
    )
}
