"""``check --repair``, killed or told of errors at its calls: the next one ends well."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from kstore.store import Store
from tests.faults.scenes import Scene
from tests.support.images import random_image, write_oci_layout
from tests.support.stores import listing

pytestmark = [pytest.mark.peer, pytest.mark.slow]

KEPT = random_image(3)
CALLS = ("rename", "link", "linkat", "unlink", "fsync", "fdatasync", "pwrite64", "write", "openat")
DATABASES = {"kstore.db", "damaged.db", "damaged.db-wal", "backup-0.db", "backup-1.db"}
#: Each call is tried at so many of its occurrences, the first ones and then ever rarer.
TRIES = (1, 2, 3, 5, 8, 13, 21)


def lose_a_layer(root: Path) -> None:
    blob = root / "blobs" / "sha256" / KEPT.layers[0].digest.hex
    blob.chmod(0o600)
    blob.write_bytes(b"rot")


def lose_the_database(root: Path) -> None:
    for path in (root / "db").iterdir():
        path.unlink()


def names_of(root: Path) -> list[tuple[str, str]]:
    with Store.open(root) as store:
        return [(str(record.name), str(record.target)) for record in store.names()]


@pytest.mark.parametrize("damage", [lose_a_layer, lose_the_database])
@pytest.mark.parametrize("fault", ["signal=SIGKILL", "error=ENOSPC", "error=EIO"])
def test_a_repair_that_is_stopped_anywhere_is_finished_by_the_next(
    scene: Scene, tmp_path: Path, damage: Callable[[Path], None], fault: str
) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"v1": KEPT})
    happened = 0
    for call, ordinal in itertools.product(CALLS, TRIES):
        with scene.place() as place:
            before = names_of(place.root)
            damage(place.root)
            words = ("--root", place.root, "check", "--repair", "--from", layout)
            run = scene.forks.run(*words, inject=f"{call}:{fault}:when={ordinal}")
            happened += run.injected
            assert "Traceback" not in run.err, (call, ordinal, run.err)
            again = scene.forks.run(*words)
            assert again.code == 0, (call, ordinal, run, again)
            assert names_of(place.root) == before, (call, ordinal)
            assert place.violations() == [] or damage is lose_the_database, (call, ordinal)
            with Store.open(place.root) as store:
                assert not store.check(deep=True).damaged
                store.prune()
            assert listing(place.root / "quarantine") == []
            left = [name for name in listing(place.root / "db") if "spare" not in name]
            assert set(left) <= DATABASES
    assert happened > 10
