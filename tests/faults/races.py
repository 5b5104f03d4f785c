"""Two commands in one store, the first of them stopped at the worst place.

Nothing depends on how fast anything is: the first command waits at the named function until the
second one has ended.  Each race gives what was wrong in the end; ``prelude`` makes a build with a
defect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from kstore.errors import StorageError
from tests.faults.scenes import OPERATIONS, REPAIRS, Place, Scene
from tests.support.forkserver import ForkServer, Run
from tests.support.images import random_image
from tests.support.pulls import wait_until

__all__ = ["RACES", "prune_during"]

_PAUSE = """
import importlib, os, time

module, _, path = {where!r}.partition(":")
owner = importlib.import_module(module)
*parents, name = path.split(".")
for parent in parents:
    owner = getattr(owner, parent)
as_usual = getattr(owner, name)

def paused(*args, **kwargs):
    if not os.path.exists({paused!r}):
        open({paused!r}, "w").close()
        while not os.path.exists({go!r}):
            time.sleep(0.002)
    return as_usual(*args, **kwargs)

setattr(owner, name, paused)
"""


@contextmanager
def _paused(
    place: Place, second: ForkServer, where: str, words: Sequence[object], prelude: str
) -> Iterator[Future[Run]]:
    """The command ``words``, waiting at ``where`` inside the block; afterwards it goes on."""
    paused, go = place.outside / "paused", place.outside / "go"
    pause = _PAUSE.format(where=where, paused=str(paused), go=str(go))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            second.run, "--root", place.root, *words, prelude=f"{prelude}\n{pause}"
        )
        try:
            wait_until(lambda: paused.exists() or running.done(), 30)
            assert paused.exists(), running.result()
            yield running
        finally:
            go.touch()


_OPERATIONS = {operation.name: operation for operation in (*OPERATIONS, *REPAIRS)}


def _words(name: str, place: Place) -> Sequence[object]:
    return _OPERATIONS[name].words(place)


def _race(
    scene: Scene,
    second: ForkServer,
    prelude: str,
    *,
    stopped: tuple[str, Sequence[object] | str],
    meanwhile: Sequence[Sequence[object] | str],
    before: Callable[[Place], object] = lambda place: None,
    code: int = 0,
) -> Iterator[str]:
    """``stopped``: where, and which command; ``meanwhile``: the commands that run then, and end
    with ``code``."""
    with scene.place() as place:
        before(place)
        where, first = stopped
        words = _words(first, place) if isinstance(first, str) else first
        with _paused(place, second, where, words, prelude) as running:
            for other in meanwhile:
                said = _words(other, place) if isinstance(other, str) else other
                run = scene.forks.run("--root", place.root, *said, prelude=prelude)
                if run.code != code:
                    yield f"{said[0]} meanwhile: {run.code} {run.err}"
        run = running.result()
        if run.code != 0:
            yield f"{words[0]}: {run.code} {run.err}{run.out}"
        yield from place.violations()


_PRUNE = ("prune", "--all-partials")
_NO_GRACE = """
from kstore.store import Store
prune = Store.prune
Store.prune = lambda self, **more: prune(self, **{**more, "lease_grace": 0.0})
"""


def prune_between_name_and_row(scene: Scene, second: ForkServer, prelude: str) -> Iterator[str]:
    where = "kstore.store.leases:sync_names"
    yield from _race(
        scene, second, prelude + _NO_GRACE, stopped=(where, "pull"), meanwhile=[_PRUNE]
    )


def prune_between_blobs_and_image(scene: Scene, second: ForkServer, prelude: str) -> Iterator[str]:
    where = "kstore.store.leases:publish"
    yield from _race(
        scene, second, prelude + _NO_GRACE, stopped=(where, "pull"), meanwhile=[_PRUNE]
    )


def pull_between_look_and_removal(scene: Scene, second: ForkServer, prelude: str) -> Iterator[str]:
    """The prune has seen a file without a row; a pull gives it one before it is removed."""

    def orphan(place: Place) -> None:
        for digest, data in random_image(2, layer_size=20_000).blobs.items():
            Path(place.root, "blobs", "sha256", digest.hex).write_bytes(data)

    yield from _race(
        scene,
        second,
        prelude,
        stopped=("kstore.store.gc:sweep", _PRUNE),
        meanwhile=["pull"],
        before=orphan,
    )


def removal_during_a_push(scene: Scene, second: ForkServer, prelude: str) -> Iterator[str]:
    words = ("push", "-q", "--tls-verify=false", "gone", f"{scene.server.host}/team/raced:v1")
    yield from _race(
        scene,
        second,
        prelude + _NO_GRACE,
        stopped=("kstore.transports.storage:StorageSource.open_blob", words),
        meanwhile=["rmi", _PRUNE],
    )


def removal_during_a_save(scene: Scene, second: ForkServer, prelude: str) -> Iterator[str]:
    with scene.place() as elsewhere:
        words = ("save", "-q", "-o", elsewhere.outside / "saved.tar", "gone")
        yield from _race(
            scene,
            second,
            prelude + _NO_GRACE,
            stopped=("kstore.transports.storage:StorageSource.open_blob", words),
            meanwhile=["rmi", _PRUNE],
        )


def listing_during_a_commit(scene: Scene, second: ForkServer, prelude: str) -> Iterator[str]:
    """The pull waits inside its transaction, so whoever waits for it waits for ever."""
    yield from _race(
        scene,
        second,
        prelude,
        stopped=("kstore.store.catalog:Writer.bump_generation", "pull"),
        meanwhile=[("images",), ("inspect", "kept"), ("history", "kept")],
    )


def two_prunes(scene: Scene, second: ForkServer, prelude: str) -> Iterator[str]:
    where = "kstore.store.gc:sweep"
    yield from _race(scene, second, prelude, stopped=(where, _PRUNE), meanwhile=[_PRUNE])


def removal_between_lookup_and_tag(scene: Scene, second: ForkServer, prelude: str) -> Iterator[str]:
    """The tag may fail, for the image is gone then; it must not point at nothing."""
    for violation in _race(
        scene,
        second,
        prelude,
        stopped=("kstore.store.naming:tag", ("tag", "gone", "new")),
        meanwhile=["rmi", _PRUNE],
    ):
        if not violation.startswith("tag: 3 "):
            yield violation


def tag_during_a_check(scene: Scene, second: ForkServer, prelude: str) -> Iterator[str]:
    """The check has read index.json, and not yet what should be in it."""
    where = "kstore.store.layout:render_index"
    yield from _race(scene, second, prelude, stopped=(where, ("check",)), meanwhile=["tag"])


def removal_during_a_check(scene: Scene, second: ForkServer, prelude: str) -> Iterator[str]:
    """The check knows which manifests there are, and reads the first of them."""
    where = "kstore.store.check:read_manifest"
    meanwhile = ["rmi", _PRUNE]
    yield from _race(
        scene, second, prelude + _NO_GRACE, stopped=(where, ("check",)), meanwhile=meanwhile
    )


def prune_during(scene: Scene, second: ForkServer, name: str) -> Iterator[str]:
    """A prune without any grace, while the command is about to change something first."""
    where = "kstore.store.session:Session.write"
    yield from _race(
        scene,
        second,
        _NO_GRACE,
        stopped=(where, name),
        meanwhile=[_PRUNE],
        before=_OPERATIONS[name].prepare,
        # Without a database, a prune does not know what is garbage.
        code=StorageError.exit_code if name == "rebuild" else 0,
    )


RACES: dict[str, Callable[[Scene, ForkServer, str], Iterator[str]]] = {
    race.__name__.replace("_", " "): race
    for race in (
        prune_between_name_and_row,
        prune_between_blobs_and_image,
        pull_between_look_and_removal,
        removal_during_a_push,
        removal_during_a_save,
        listing_during_a_commit,
        two_prunes,
        removal_between_lookup_and_tag,
        tag_during_a_check,
        removal_during_a_check,
    )
}
