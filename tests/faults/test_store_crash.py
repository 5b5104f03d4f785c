"""A process that dies at any step leaves garbage at worst: never damage, never a lost image."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kstore.store import Store
from tests.support.images import random_image
from tests.support.scripts import command, environment, finished
from tests.support.stores import listing, named, put_image

# Dies before the Nth step that makes something durable or visible; prints the steps if N is 0.
DYING = """
    import os, signal, sys
    from pathlib import Path
    from kstore.store import Store
    from tests.support.images import random_image
    from tests.support.stores import named, put_image

    root, verb, die_at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    steps = 0

    def step(*ignored):
        global steps
        steps += 1
        if steps == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepping(call):
        def wrapper(*arguments, **more):
            step()
            return call(*arguments, **more)
        return wrapper

    with Store.open(root, command=verb) as store:
        for name in ("fsync", "fdatasync", "fchmod"):
            setattr(os, name, stepping(getattr(os, name)))
        for name in ("replace", "rename", "unlink"):
            setattr(Path, name, stepping(getattr(Path, name)))
        store._session.db.connection.set_trace_callback(step)
        if verb == "pull":
            put_image(store, random_image(2), "x", "new")
        elif verb == "remove":
            store.remove_name(named("x"))
        elif verb == "prune":
            store.untag(named("x"))
            store.prune(lease_grace=0, all_unused_partials=True)
    print(steps)
"""


ROOT = [
    "ballast", "blobs", "containers", "db", "index.json", "ingest", "locks", "oci-layout",
    "quarantine", "staging", "trash",
]  # fmt: skip


def prepare(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "x", "y")
        put_image(store, random_image(3), "z")
        store.untag(named("y"))


def die(root: Path, verb: str, at: int) -> None:
    process = subprocess.run(
        command(DYING, str(root), verb, str(at)),
        env=environment(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert process.returncode == -9, process.stderr.decode()


def examine(root: Path, verb: str) -> None:
    """What holds after any crash: nothing is damaged, and pruning leaves no garbage."""
    with Store.open(root) as store:
        report = store.check(deep=True)
        assert not report.damaged, report.problems
        assert all(image.complete for image in store.images())
        assert store.find_image("z").image.id == random_image(3).id
        if store.name(named("x")) is not None:
            assert store.find_image("x").image.id in (random_image(1).id, random_image(2).id)
        store.prune(lease_grace=0, all_unused_partials=True, only_images=())
        assert store.check(deep=True).problems == ()
        assert listing(root / "ingest") == []
        assert listing(root) == ROOT
    finished(DYING, str(root), "pull", "0")  # the next attempt succeeds
    with Store.open(root) as store:
        assert store.find_image("x").image.id == random_image(2).id
        assert store.check(deep=True).problems == ()


def steps_of(root: Path, verb: str) -> int:
    prepare(root)
    return int(finished(DYING, str(root), verb, "0"))


@pytest.mark.parametrize("verb", ["pull", "remove", "prune"])
def test_a_crash_at_some_steps_damages_nothing(verb: str, tmp_path: Path) -> None:
    steps = steps_of(tmp_path / "whole", verb)
    assert steps > 10
    for at in range(2, steps + 1, max(steps // 4, 1)):
        root = tmp_path / str(at)
        prepare(root)
        die(root, verb, at)
        examine(root, verb)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["pull", "remove", "prune"])
def test_a_crash_at_every_step_damages_nothing(verb: str, tmp_path: Path) -> None:
    for at in range(1, steps_of(tmp_path / "whole", verb) + 1):
        root = tmp_path / str(at)
        prepare(root)
        die(root, verb, at)
        examine(root, verb)


def test_a_crash_while_the_store_is_made_is_no_trouble(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from kstore.store import Store
        left = int(sys.argv[2])

        def audit(event, arguments):
            global left
            if event in ("open", "os.mkdir", "os.rename", "sqlite3.connect"):
                if str(arguments[0] if arguments else "").startswith(sys.argv[1]):
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(audit)
        Store.open(Path(sys.argv[1])).close()
    """
    deaths = 0
    for at in range(1, 40, 5):
        root = tmp_path / str(at)
        process = subprocess.run(
            command(code, str(root), str(at)), env=environment(), timeout=30, check=False
        )
        deaths += process.returncode == -9
        with Store.open(root) as store:
            put_image(store, random_image(1), "x")
            assert store.check(deep=True).problems == ()
    assert deaths >= 3
