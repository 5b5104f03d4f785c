"""Every command in a store that is damaged, somebody else's, in a bad place, or busy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.races import prune_during
from tests.faults.scenes import OPERATIONS, REPAIRS, Operation, Place, Scene
from tests.support.forkserver import ForkServer
from tests.support.images import random_image

operations = pytest.mark.parametrize("operation", [*OPERATIONS, *REPAIRS], ids=str)
_ERROR = 10


def blob_files(root: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (root / "blobs" / "sha256").iterdir()}


def pages_of(database: Path) -> Iterator[int]:
    """Some pages of the database, the first and the last ones among them."""
    count = database.stat().st_size // 4096
    yield from sorted({0, 1, 2, count // 3, count // 2, count - 2, count - 1})


def damage(place: Place, page: int) -> None:
    with (place.root / "db" / "kstore.db").open("r+b") as file:
        file.seek(page * 4096)
        file.write(os.urandom(4096))


def files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_a_damaged_database_deletes_nothing_and_is_named(
    operation: Operation, scene: Scene
) -> None:
    ended = set()
    with scene.place() as place:
        pages = list(pages_of(place.root / "db" / "kstore.db"))
    for page in pages:
        with scene.place() as place:
            damage(place, page)
            before = blob_files(place.root)
            run = operation.run(place)
            ended.add(run.code)
            assert "Traceback" not in run.err
            assert "internal error" not in run.err
            lost = set(before) - set(blob_files(place.root))
            if operation.name not in ("rmi", "prune"):
                assert lost == set()
            elif run.code != 0:
                assert lost == set(), run
    assert _ERROR in ended, ended


def test_a_damaged_database_is_repaired_together_with_a_damaged_blob(scene: Scene) -> None:
    repair = REPAIRS[0]
    with scene.place() as place:
        before = place.state()
        pages = list(pages_of(place.root / "db" / "kstore.db"))
    for page in pages:
        with scene.place() as place:
            repair.prepare(place)
            damage(place, page)
            run = repair.run(place)
            assert run.code == 0, (page, run)
            assert place.state() == before
            assert place.violations() == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_a_blob_whose_file_is_gone_is_named_or_not_needed(
    operation: Operation, scene: Scene
) -> None:
    """The image it belonged to cannot be read; everything else goes on, and the rest stays."""
    gone = random_image(3).layers[0].digest
    with scene.place() as place:
        (place.root / "blobs" / "sha256" / gone.hex).unlink()
        run = operation.run(place)
        assert run.code in (0, 5, _ERROR), run
        assert "internal error" not in run.err
        if operation.name in ("push", "save", "check"):
            assert run.code != 0
            assert gone.hex[:12] in run.err + run.out
        if operation.name == "save":
            assert list(place.outside.iterdir()) == []
        if operation.name == "push":
            assert scene.server.manifests.get("team/pushed", {}) == {}
        assert scene.forks.run("--root", place.root, "images").code == 0


@pytest.mark.parametrize("operation", REPAIRS, ids=str)
def test_a_blob_whose_file_is_gone_is_brought_back(operation: Operation, scene: Scene) -> None:
    gone = random_image(3).layers[1].digest
    with scene.place() as place:
        before = place.state()
        operation.prepare(place)
        (place.root / "blobs" / "sha256" / gone.hex).unlink()
        run = operation.run(place)
        assert run.code == 0, run
        assert f"Repaired: blob {gone}" in run.out
        assert place.state() == before
        assert place.violations() == []


@pytest.mark.root
@operations
def test_a_store_of_somebody_else_is_refused(operation: Operation, scene: Scene) -> None:
    with scene.place() as place:
        for path in (place.root, place.outside, *place.root.parents[:2]):
            path.chmod(0o755)
        operation.prepare(place)
        before = files(place.root)
        run = operation.run(place, prelude="import os; os.setgid(65534); os.setuid(65534)")
        assert run.code == _ERROR, run
        assert "belongs to user root (0), and this is user" in run.err
        assert files(place.root) == before


@operations
def test_a_store_on_a_network_file_system_is_refused(operation: Operation, scene: Scene) -> None:
    prelude = (
        "from kstore.store import filesystem; filesystem.file_system_kind = lambda path: 'nfs4'"
    )
    with scene.place() as place:
        operation.prepare(place)
        before = files(place.root)
        run = operation.run(place, prelude=prelude)
        assert run.code == _ERROR, run
        assert "is on a network file system (nfs4)" in run.err
        assert files(place.root) == before


@operations
def test_a_prune_at_the_same_time_takes_nothing_away(
    operation: Operation, scene: Scene, second_fork_server: ForkServer
) -> None:
    assert list(prune_during(scene, second_fork_server, operation.name)) == []


@operations
def test_the_same_command_many_times_at_once_is_done_once(
    operation: Operation, scene: Scene
) -> None:
    with scene.place() as place:
        operation.prepare(place)
        assert operation.run(place).code == 0
        after = place.state(volatile=operation.volatile)
    with scene.place() as place:
        operation.prepare(place)
        runs = operation.run_many(place, 6)
        assert {run.code for run in runs} <= operation.again, runs
        assert 0 in {run.code for run in runs}
        now = place.state(volatile=operation.volatile)
        assert (now.names, now.containers, now.outside) == (
            after.names,
            after.containers,
            after.outside,
        )
        assert place.violations() == []
