"""Disks without room for the next byte or the next file, files that may not grow, moving clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.store import Store
from tests.faults.scenes import OPERATIONS, REPAIRS, Operation, Scene
from tests.support.disks import mounted
from tests.support.forkserver import ForkServer
from tests.support.programs import require_program
from tests.support.scripts import finished

_CHANGING = [op for op in (*OPERATIONS, *REPAIRS) if op.name not in ("push", "check")]


@pytest.mark.parametrize("operation", _CHANGING, ids=str)
def test_a_file_that_may_not_grow_is_like_a_full_disk(operation: Operation, scene: Scene) -> None:
    """The limit gives real short writes: what fits is written, the next byte is refused."""
    with scene.place() as place:
        before = place.state()
        operation.prepare(place)
        assert operation.run(place).code == 0
        after = place.state(volatile=operation.volatile)
    codes = []
    for limit in (3000, 8000, 30_000, 200_000):
        with scene.place() as place:
            operation.prepare(place)
            run = operation.run(place, RLIMIT_FSIZE=limit)
            codes.append(run.code)
            assert run.code in (0, 10), run.err
            assert "Traceback" not in run.err
            assert "internal error" not in run.err
            if operation.damage is None or run.code == 0:
                assert place.violations() == []
            if operation.name != "rebuild" or run.code == 0:
                assert place.state(volatile=operation.volatile) in (before, after)
            assert operation.run(place).code in operation.again
            assert place.state(volatile=operation.volatile).names == after.names
            assert place.violations() == []
    assert codes[0] == 10


_FEW_FILES = """
    import os, subprocess, sys
    from pathlib import Path
    from kstore.cli.main import main
    from kstore.store import Store
    from tests.support.cli import run
    from tests.support.images import layer_tar, random_image
    from tests.support.stores import listing, put_image

    disk = Path(sys.argv[1])
    root, rootfs = disk / "store", disk / "rootfs.tar"
    rootfs.write_bytes(layer_tar({"a": b"x" * 20_000}))
    with Store.open(root) as store:
        put_image(store, random_image(1), "kept", "also")

    def take_all_but(free):
        for path in (disk / "filler").iterdir():
            path.unlink()
        while os.statvfs(disk).f_ffree > free:
            (disk / "filler" / os.urandom(8).hex()).touch()

    (disk / "filler").mkdir()
    codes = []
    for free in range(12):
        take_all_but(free)
        imported = run("--root", root, "import", "-q", rootfs, f"new{free}")
        codes.append(imported.code)
        assert imported.code in (0, 10), imported
        assert "internal error" not in imported.err, imported
        if imported.code == 10:
            assert "No space left" in imported.err or "no space left" in imported.err, imported
        listed = run("--root", root, "images", "--format", "{{.Repository}}")
        assert listed.code == 0, listed
        assert "localhost/kept" in listed.out or "kept" in listed.out, listed
    take_all_but(0)
    removed = run("--root", root, "untag", "also")
    assert removed.code == 0, removed
    for path in (disk / "filler").iterdir():
        path.unlink()
    assert run("--root", root, "prune", "--all-partials").code == 0
    with Store.open(root) as store:
        assert store.check(deep=True).problems == ()
        assert listing(root / "ingest") == []
    assert codes[0] == 10 and codes[-1] == 0, codes
    print("ok")
"""


def test_a_disk_without_inodes_fails_an_import_and_keeps_the_store_usable(tmp_path: Path) -> None:
    prefix = mounted("-t", "tmpfs", "-onr_inodes=400,size=32m", "disk", str(tmp_path))
    assert finished(_FEW_FILES, str(tmp_path), prefix=prefix) == "ok"


_LITTLE_ROOM = """
    import os, sys
    from pathlib import Path
    from kstore.store import Store
    from tests.support.cli import run
    from tests.support.images import layer_tar, random_image
    from tests.support.stores import listing, put_image

    disk = Path(sys.argv[1])
    root, rootfs, target = disk / "store", disk / "rootfs.tar", disk / "saved.tar"
    rootfs.write_bytes(layer_tar({"a": os.urandom(200_000)}))
    with Store.open(root) as store:
        put_image(store, random_image(1, layer_size=150_000), "kept", "also")

    def succeed(*words):
        done = run("--root", root, *words)
        assert done.code == 0, (words, done)

    def take_all_but(free):
        filler = disk / "filler"
        filler.unlink(missing_ok=True)
        facts = os.statvfs(disk)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, facts.f_bavail * facts.f_frsize - free))

    codes = []
    for free in (0, 4096, 20_000, 40_000, 70_000, 110_000, 150_000, 250_000, 400_000, 700_000):
        take_all_but(free)
        for words in (("import", "-q", rootfs, f"new{free}"), ("save", "-q", "-o", target, "kept")):
            done = run("--root", root, *words)
            codes.append(done.code)
            assert done.code in (0, 10), done
            assert "internal error" not in done.err, done
            assert target.exists() == (words[0] == "save" and done.code == 0), (free, done)
            target.unlink(missing_ok=True)
            assert listing(disk) == ["filler", "rootfs.tar", "store"], listing(disk)
        succeed("images", "-q")
    take_all_but(0)
    for words in (("untag", "also"), ("rmi", "kept"), ("prune",)):
        succeed(*words)
    (disk / "filler").unlink()
    assert run("--root", root, "prune", "--all-partials").code == 0
    with Store.open(root) as store:
        assert store.check(deep=True).problems == ()
        assert listing(root / "ingest") == []
    assert codes[0] == 10 and codes[-1] == 0, codes
    print("ok")
"""


def test_a_disk_that_is_full_at_any_step_fails_one_command_and_nothing_else(
    tmp_path: Path,
) -> None:
    prefix = mounted("-t", "tmpfs", "-osize=8m", "disk", str(tmp_path))
    assert finished(_LITTLE_ROOM, str(tmp_path), prefix=prefix) == "ok"


#: Another year in which time passes as it does for all, and clocks that are a month off and put on,
#: or back, by a minute whenever somebody looks at them.  (Threads that wait look at them millions
#: of times, and Python knows no year after 2262.)
CLOCKS = {
    "+4000d": "+4000d", "-4000d": "-4000d", "leaping": "+30d i60", "falling": "-30d i-60",
}  # fmt: skip


@pytest.fixture(scope="module", params=CLOCKS)
def other_clock(request: pytest.FixtureRequest) -> Iterator[ForkServer]:
    """Commands with one of these clocks."""
    settings = ["env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"]
    with ForkServer([*settings, require_program("faketime"), "-f", CLOCKS[request.param]]) as forks:
        yield forks


@pytest.mark.peer
def test_the_other_clock_is_days_away(scene: Scene, other_clock: ForkServer) -> None:
    with scene.place() as place:
        assert other_clock.run("--root", place.root, "tag", "app", "new").code == 0
        with Store.open(place.root) as store:
            (change,) = store.name_log(limit=1)
        assert abs(change.at.timestamp() - time.time()) > 86400 / 2


@pytest.mark.peer
@pytest.mark.parametrize("operation", [*OPERATIONS, *REPAIRS], ids=str)
def test_a_clock_that_jumps_changes_nothing(
    operation: Operation, scene: Scene, other_clock: ForkServer
) -> None:
    """A command under a wrong clock, one under the right clock, and a prune under either."""
    with scene.place() as place:
        operation.prepare(place)
        assert operation.run(place).code == 0
        after = place.state(volatile=operation.volatile)
    with scene.place() as place:
        operation.prepare(place)
        run = other_clock.run("--root", place.root, *operation.words(place))
        assert run.code == 0, run.err
        assert place.state(volatile=operation.volatile).names == after.names
        assert operation.run(place).code in operation.again
        for forks in (other_clock, scene.forks):
            assert forks.run("--root", place.root, "prune").code == 0
        assert place.state(volatile=operation.volatile).names == after.names
        assert place.violations() == []
