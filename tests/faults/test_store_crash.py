"""A process that dies at any step leaves garbage at worst: never damage, never a lost image."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kstore.store import Store
from tests.faults.scenes import ROOT, Scene, fast_directory
from tests.support.forkserver import ForkServer, Run
from tests.support.images import random_image
from tests.support.scripts import command, environment, read_line, started
from tests.support.stores import listing, named, put_image

# Dies before the Nth step that makes something durable or visible; prints the steps if N is 0.
DYING = """
    import os, signal
    from pathlib import Path
    from kstore.store import Store
    from tests.support.images import random_image
    from tests.support.stores import named, put_image

    root, verb, die_at = Path({root!r}), {verb!r}, {at}
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
    print(steps, flush=True)
    os._exit(0)
"""

VERBS = ("pull", "remove", "prune")


def prepare(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "x", "y")
        put_image(store, random_image(3), "z")
        store.untag(named("y"))


def attempt(forks: ForkServer, root: Path, verb: str, at: int = 0) -> Run:
    return forks.run(prelude=DYING.format(root=str(root), verb=verb, at=at))


def examine(root: Path, forks: ForkServer) -> None:
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
        assert listing(root) == [name for name in ROOT if name != "provenance"]  # of nothing here
    again = attempt(forks, root, "pull")
    assert again.code == 0, again
    with Store.open(root) as store:
        assert store.find_image("x").image.id == random_image(2).id
        assert store.check(deep=True).problems == ()


def crash_and_examine(verb: str, forks: ForkServer, every: Callable[[int], int]) -> None:
    """Die at the first step, and from there on at each one that is ``every(steps)`` later."""
    with fast_directory() as directory:
        prepare(directory / "whole")
        steps = int(attempt(forks, directory / "whole", verb).out)
        assert steps > 10
        for at in range(1, steps + 1, every(steps)):
            root = directory / str(at)
            prepare(root)
            assert attempt(forks, root, verb, at).code == -9
            examine(root, forks)


@pytest.mark.parametrize("verb", VERBS)
def test_a_crash_at_some_steps_damages_nothing(verb: str, second_fork_server: ForkServer) -> None:
    crash_and_examine(verb, second_fork_server, lambda steps: max(steps // 4, 1))


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_crash_at_every_step_damages_nothing(verb: str, second_fork_server: ForkServer) -> None:
    crash_and_examine(verb, second_fork_server, lambda steps: 1)


HOLDER = """
    import sys, time
    from pathlib import Path
    from kstore.store import Store

    with Store.open(Path(sys.argv[1])) as store:
        store.images()
        print("open", flush=True)
        time.sleep(60)
"""


@pytest.mark.peer
def test_the_next_change_decides_what_a_killed_one_has_done(
    scene: Scene, require_program: Callable[[str], str]
) -> None:
    """Its last bytes may stand in the log without a word in the shared memory that they do."""
    require_program("strace")
    for number in (1, 2, 3):
        with scene.place() as place, started(HOLDER, str(place.root)) as holder:
            assert read_line(holder) == "open"
            inject = f"fdatasync:signal=SIGKILL:when={number}"
            assert scene.forks.run("--root", place.root, "untag", "also", inject=inject).code == -9
            assert scene.forks.run("--root", place.root, "tag", "app", "new").code == 0
            decided = place.state()
            holder.kill()  # so that the log is read anew
            holder.wait()
            assert place.state() == decided
            assert place.violations() == []


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
