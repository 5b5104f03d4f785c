"""A small store with everything in it that commands work on, and these commands.

``Scene`` is made once; each try gets a ``Place`` of its own: a copy of the store, and a directory
for what is written outside of it.  What may differ between two tries of one command (an ID made
from the time) is left out of a ``State``, so that states can be compared.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kstore.blobs import fsync_directory
from kstore.errors import ImageNotFoundError
from kstore.store import Store
from tests.support.faultserver import FaultServer
from tests.support.forkserver import ForkServer, Run
from tests.support.images import layer_tar, random_image, write_oci_layout
from tests.support.stores import listing, named, put_image

__all__ = [
    "FETCHES",
    "OPERATIONS",
    "REPAIRS",
    "Operation",
    "Place",
    "Scene",
    "State",
    "fast_directory",
]

#: What stands in the root of a store, whatever happened to it.
ROOT = [
    "ballast", "blobs", "containers", "db", "index.json", "ingest", "locks", "oci-layout",
    "provenance", "quarantine", "staging", "trash",
]  # fmt: skip
_DATABASE = {"kstore.db", "kstore.db-wal", "kstore.db-shm", "backup-0.db", "backup-1.db"} | {
    f"spare-{n}" for n in range(4)
}

#: What a rebuild keeps of the database before.
_KEPT_DATABASE = {"damaged.db", "damaged.db-wal"}


@contextmanager
def fast_directory() -> Iterator[Path]:
    """A directory in memory where there is one: nobody waits for a disk that is not tested."""
    shared = Path("/dev/shm")
    roomy = os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 1 << 28
    place = shared if roomy else None
    with tempfile.TemporaryDirectory(prefix="kstore-", dir=place) as directory:
        yield Path(directory)


@dataclass(frozen=True, slots=True)
class State:
    """What a user can see: names with image IDs, nameless images, containers, other files; and
    what no blob tells: protected names, signatures."""

    names: tuple[tuple[str, str], ...]
    nameless: frozenset[str]
    containers: tuple[str, ...]
    outside: tuple[tuple[str, bytes], ...]
    untold: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one try of a command happens: its store, and a directory beside it.

    ``settle`` does what else happens to the disk when the command has ended.
    """

    scene: Scene
    root: Path
    outside: Path
    settle: Callable[[], None] = lambda: None

    def state(self, *, volatile: bool = False) -> State:
        """As it is now; ``volatile``: the ID of what ``new`` names is of no interest."""
        with Store.open(self.root) as store:
            images = store.images()
            names = {str(name.name): image.id for image in images for name in image.names}
            nameless = frozenset(image.id for image in images if not image.names)
            containers = tuple(record.name for record in store.containers.all())
            signatures = tuple(store.signatures(random_image(4).raw.digest))
            untold = (*map(str, store.protection.names()), *signatures)
        if volatile and "localhost/new:latest" in names:
            names["localhost/new:latest"] = "?"
        return State(
            tuple(sorted(names.items())),
            nameless,
            containers,
            tuple(sorted(self._outside())),
            untold,
        )

    def _outside(self) -> Iterator[tuple[str, bytes]]:
        for path in self.outside.rglob("*"):
            if path.is_file():
                yield str(path.relative_to(self.outside)), path.read_bytes()
        for tag, (_, data) in self.scene.server.manifests.get("team/pushed", {}).items():
            yield f"pushed:{tag}", data

    def violations(self) -> list[str]:
        """What must hold after any fault, and does not; the store is pruned by it."""
        found: list[str] = []
        try:
            json.loads((self.root / "index.json").read_bytes())
        except ValueError as exc:
            found.append(f"torn: index.json: {exc}")
        with Store.open(self.root) as store:
            report = store.check(deep=True)
            found += [f"damage: {one.detail}" for one in report.problems if not one.garbage]
            found += [f"incomplete: {image.id}" for image in store.images() if not image.complete]
            try:
                if store.find_image("kept").image.id != random_image(3).id:
                    found.append("another image changed")
            except ImageNotFoundError as exc:
                found.append(f"another image is gone: {exc}")
            store.prune(lease_grace=0, all_unused_partials=True, only_images=())
            found += [f"garbage: {one.detail}" for one in store.check().problems]
            boxes = sorted(record.id for record in store.containers.all())
        for directory in ("ingest", "staging", "trash", "quarantine"):
            found += [f"litter: {directory}/{name}" for name in listing(self.root / directory)]
        found += [f"litter: {name}" for name in set(listing(self.root)) ^ set(ROOT)]
        databases = _DATABASE | _KEPT_DATABASE
        found += [f"litter: db/{name}" for name in set(listing(self.root / "db")) - databases]
        if listing(self.root / "containers") != boxes:
            found.append(f"litter: containers {listing(self.root / 'containers')}")
        found += self._pushed_violations()
        return found

    def _pushed_violations(self) -> Iterator[str]:
        image = random_image(3)
        for tag, (_, data) in self.scene.server.manifests.get("team/pushed", {}).items():
            if data != image.raw.data:
                yield f"the registry has another manifest as {tag}"
            for digest in image.blobs:
                if str(digest) not in self.scene.server.blobs.get("team/pushed", {}):
                    yield f"the registry shows {tag} without blob {digest}"


class Scene:
    """See the module's text; ``server`` is the registry of it."""

    def __init__(self, directory: Path, server: FaultServer, forks: ForkServer) -> None:
        self.server = server
        self.forks = forks
        self._directory = directory
        self._pristine = directory / "pristine"
        self.archive = directory / "archive.tar"
        self.rootfs = directory / "rootfs.tar"
        self.layout = directory / "layout"
        self._count = 0
        self._build()

    def _build(self) -> None:
        self.rootfs.write_bytes(layer_tar({"etc/motd": b"hello" * 500, "bin/true": b"x" * 9000}))
        write_oci_layout(self.layout, {"v1": random_image(3)})
        self.server.offer(random_image(2, layer_size=20_000))  # enough to be resumed
        for data in random_image(4).blobs.values():
            self.server.add_blob(data, "team/origin")
        other = self._directory / "other"
        with Store.open(other) as store:
            put_image(store, random_image(5), "loaded")
        self._succeed("--root", other, "save", "-q", "-o", self.archive, "loaded")
        with Store.open(self._pristine) as store:
            put_image(store, random_image(1), "app", "also")
            put_image(store, random_image(3), "kept")
            put_image(store, random_image(3, labels={"same": "layers"}), "gone")
            put_image(store, random_image(4), "dangling", origin=(self.server.host, "team/origin"))
            store.untag(named("dangling"))
            store.protection.add([named("kept")])
            store.add_signatures(random_image(4).raw.digest, [b"signed"])
        self._succeed("--root", self._pristine, "from", "--name", "box", "kept")
        self._succeed("--root", self._pristine, "add", "box", self.rootfs, "/etc/")

    def _succeed(self, *args: object) -> None:
        run = self.forks.run(*args)
        assert run.code == 0, run.err

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A copy of the store, gone afterwards; the registry is as in the beginning."""
        self._count += 1
        directory = self._directory / f"try-{self._count}"
        root, outside = directory / "store", directory / "outside"
        outside.mkdir(parents=True)
        self.copy_store(root)
        self.forget_pushed()
        try:
            yield Place(self, root, outside)
        finally:
            shutil.rmtree(directory)

    def copy_store(self, root: Path) -> None:
        """Make ``root`` a copy of the store."""
        shutil.copytree(self._pristine, root)

    def forget_pushed(self) -> None:
        """Let the registry be as in the beginning."""
        self.server.blobs.pop("team/pushed", None)
        self.server.manifests.pop("team/pushed", None)


@dataclass(frozen=True, slots=True)
class Operation:
    """A command, and what its repetition may say when the first try had done its work.

    ``volatile``: its image's ID depends on the time; ``damage`` happens to the store before;
    ``faults`` are those that are tried, each at ``points`` calls, None for all.
    """

    name: str
    words: Callable[[Place], Sequence[object]]
    again: frozenset[int] = frozenset({0})
    volatile: bool = False
    damage: Callable[[Place], None] | None = None
    faults: tuple[str, ...] | None = None
    points: int | None = None

    def run(
        self, place: Place, *, trace: str = "", inject: str = "", prelude: str = "", **limits: int
    ) -> Run:
        return place.scene.forks.run(
            *("--root", place.root, *self.words(place)),
            trace=trace,
            inject=inject,
            prelude=prelude,
            limits=limits,
        )

    def prepare(self, place: Place) -> None:
        """Let happen to the store what happens before the command."""
        if self.damage is not None:
            self.damage(place)

    def run_many(self, place: Place, count: int) -> list[Run]:
        return place.scene.forks.run_many(count, "--root", place.root, *self.words(place))

    def __str__(self) -> str:
        return self.name


def _operation(name: str, *words: object, command: str | None = None, **more: object) -> Operation:
    def filled(place: Place) -> list[object]:
        parts = {
            "HOST": place.scene.server.host,
            "ARCHIVE": str(place.scene.archive),
            "ROOTFS": str(place.scene.rootfs),
            "LAYOUT": str(place.scene.layout),
            "OUTSIDE": str(place.outside),
        }
        texts = [str(word) for word in words]
        for key, value in parts.items():
            texts = [text.replace(key, value) for text in texts]
        return [command or name, *texts]

    return Operation(name, filled, **more)  # type: ignore[arg-type]


_PLAIN = "--tls-verify=false"
OPERATIONS = (
    _operation("pull", "-q", _PLAIN, "HOST/team/app:v1"),
    _operation("push", "-q", _PLAIN, "kept", "HOST/team/pushed:v1"),
    _operation("tag", "app", "new"),
    _operation("untag", "also", again=frozenset({0, 3})),
    _operation("rmi", "gone", again=frozenset({0, 3})),
    _operation("load", "-q", "ARCHIVE"),
    _operation("save", "-q", "-o", "OUTSIDE/saved.tar", "app", "kept", again=frozenset({0, 4})),
    _operation("import", "-q", "ROOTFS", "new", volatile=True),
    _operation("prune"),
    _operation("commit", "-q", "--timestamp", "0", "box", "new"),
    _operation("check", "--deep"),
)


def _lose_a_layer(place: Place, seed: int = 3) -> None:
    blob = place.root / "blobs" / "sha256" / random_image(seed).layers[0].digest.hex
    blob.chmod(0o600)
    with blob.open("wb") as file:
        file.write(b"rot")
        os.fsync(file.fileno())


def _lose_the_database(place: Place) -> None:
    directory = place.root / "db"
    for path in directory.iterdir():
        path.unlink()
    fsync_directory(directory)


#: What brings a store back that was damaged before.
REPAIRS = tuple(
    _operation(name, "--repair", "--from", "LAYOUT", command="check", damage=damage)
    for name, damage in (("repair", _lose_a_layer), ("rebuild", _lose_the_database))
)
#: A repair that fetches from the registry its image came from; with fewer faults, because most of
#: what it does is what the first of those does.
FETCHES = (
    _operation(
        "refetch",
        *("--repair", _PLAIN),
        command="check",
        damage=partial(_lose_a_layer, seed=4),
        faults=("SIGKILL", "EIO", "ENOSPC"),
        points=20,
    ),
)
