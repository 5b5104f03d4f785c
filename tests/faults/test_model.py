"""Any sequence of commands, deaths among them, does what a dictionary would."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from kstore.store import Store
from tests.faults.scenes import fast_directory
from tests.support.faultserver import FaultServer
from tests.support.forkserver import ForkServer, Run
from tests.support.images import random_image
from tests.support.stores import named

pytestmark = pytest.mark.peer

#: Images that share layers by threes.
IMAGES = [random_image(n // 3, layer_size=9000, labels={"n": str(n)}) for n in range(6)]
NAMES = [f"localhost/{word}:latest" for word in ("one", "two", "three", "four")]

names = st.sampled_from(NAMES)
numbers = st.integers(0, len(IMAGES) - 1)
#: Where a command dies, if it comes that far.
deaths = st.none() | st.tuples(
    st.sampled_from(["pwrite64", "fdatasync", "fsync", "rename", "unlink", "openat"]),
    st.integers(1, 12),
)


class Commands(RuleBasedStateMachine):
    """``_names`` and ``_images`` are the model: what names mean, and which images are there."""

    server: FaultServer
    forks: ForkServer
    directory: Path

    archives = Bundle("archives")

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[str, int] = {}
        self._images: set[int] = set()
        self._archives = 0
        self._root = self.directory / "store"
        Store.open(self._root).close()

    def teardown(self) -> None:
        with Store.open(self._root) as store:
            assert not store.check(deep=True).damaged
            store.prune(lease_grace=0, all_unused_partials=True, only_images=())
            assert store.check(deep=True).problems == ()
        for path in self.directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for repositories in (self.server.manifests, self.server.blobs):
            repositories.pop("team/pushed", None)

    # ---- commands

    @rule(name=names, number=numbers, death=deaths)
    def pull(self, name: str, number: int, death: tuple[str, int] | None) -> None:
        remote = f"{self.server.host}/team/app:v{number}"
        if self._run(death, {remote: number}, "pull", "-q", "--tls-verify=false", remote):
            self.tag(remote, name, None)
            self._run(None, {remote: None}, "untag", remote)

    @rule(source=names, name=names, death=deaths)
    def tag(self, source: str, name: str, death: tuple[str, int] | None) -> None:
        if source in self._names:
            self._run(death, {name: self._names[source]}, "tag", source, name)
        else:
            self._fails(3, "tag", source, name)

    @rule(name=names, death=deaths)
    def untag(self, name: str, death: tuple[str, int] | None) -> None:
        if name in self._names:
            self._run(death, {name: None}, "untag", name)
        else:
            self._fails(3, "untag", name)

    @rule(name=names, death=deaths)
    def rmi(self, name: str, death: tuple[str, int] | None) -> None:
        if name not in self._names:
            self._fails(3, "rmi", name)
            return
        number = self._names[name]
        last = [one for one, means in self._names.items() if means == number] == [name]
        self._run(death, {name: None}, "rmi", name, gone={number} if last else set())

    @rule(number=numbers, death=deaths)
    def rmi_by_id(self, number: int, death: tuple[str, int] | None) -> None:
        image_id = IMAGES[number].id
        mine = {name: None for name, means in self._names.items() if means == number}
        if number not in self._images:
            self._fails(3, "rmi", f"sha256:{image_id}")
        else:
            self._run(death, mine, "rmi", "--force", f"sha256:{image_id}", gone={number})

    @rule(target=archives, name=names)
    def save(self, name: str) -> object:
        self._archives += 1
        path = self.directory / f"{self._archives}.tar"
        if name not in self._names:
            self._fails(3, "save", "-q", "-o", path, name)
            assert not path.exists()
            return multiple()
        assert self._run(None, {}, "save", "-q", "-o", path, name)
        return path, name, self._names[name]

    @rule(archive=archives, death=deaths)
    def load(self, archive: tuple[Path, str, int], death: tuple[str, int] | None) -> None:
        path, name, number = archive
        self._run(death, {name: number}, "load", "-q", path)

    @rule(name=names, death=deaths)
    def push(self, name: str, death: tuple[str, int] | None) -> None:
        remote = f"{self.server.host}/team/pushed:v1"
        words = ("push", "-q", "--tls-verify=false", name, remote)
        if name not in self._names:
            self._fails(3, *words)
        elif self._run(death, {}, *words):
            image = IMAGES[self._names[name]]
            assert self.server.manifests["team/pushed"]["v1"][1] == image.raw.data
            assert set(map(str, image.blobs)) <= set(self.server.blobs["team/pushed"])

    @rule(death=deaths)
    def prune(self, death: tuple[str, int] | None) -> None:
        nameless = self._images - set(self._names.values())
        self._run(death, {}, "prune", "--all-partials", gone=nameless)

    @rule(death=deaths)
    def check(self, death: tuple[str, int] | None) -> None:
        self._run(death, {}, "check", "--deep")

    # ---- the model

    def _run(
        self,
        death: tuple[str, int] | None,
        moves: dict[str, int | None],
        *words: object,
        gone: set[int] | None = None,
    ) -> bool:
        """A command that moves names and removes images, all or none of it; whether it ended."""
        inject = "" if death is None else f"{death[0]}:signal=SIGKILL:when={death[1]}"
        run = self.forks.run("--root", self._root, *words, inject=inject)
        assert run.code == 0 or (inject and run.code == -9), run
        names = {**self._names, **{name: to for name, to in moves.items() if to is not None}}
        for name in (name for name, to in moves.items() if to is None):
            names.pop(name, None)
        images = (self._images | set(names.values())) - (gone or set())
        if run.code == 0 or self._seen() == (names, images):
            self._names, self._images = names, images
        return run.code == 0

    def _fails(self, code: int, *words: object) -> None:
        run: Run = self.forks.run("--root", self._root, *words)
        assert run.code == code, run

    def _seen(self) -> tuple[dict[str, int], set[int]]:
        numbers = {image.id: number for number, image in enumerate(IMAGES)}
        with Store.open(self._root, read_only=True) as store:
            images = store.images()
            assert all(image.complete for image in images)
            seen = {str(name.name): numbers[one.id] for one in images for name in one.names}
            for name, number in seen.items():
                assert store.name(named(name)) is not None
                assert store.find_image(name).image.id == IMAGES[number].id
            return seen, {numbers[image.id] for image in images}

    @invariant()
    def what_is_there_is_what_should_be(self) -> None:
        assert self._seen() == (self._names, self._images)


@pytest.fixture(scope="module")
def machine() -> Iterator[type[Commands]]:
    with fast_directory() as directory, FaultServer() as server, ForkServer() as forks:
        for number, image in enumerate(IMAGES):
            server.offer(image, tag=f"v{number}")
        Commands.server, Commands.forks, Commands.directory = server, forks, directory
        yield Commands


def _explore(machine: type[Commands], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_some_sequences_of_commands_and_deaths(machine: type[Commands]) -> None:
    _explore(machine, examples=6, steps=12)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_sequences_of_commands_and_deaths(machine: type[Commands]) -> None:
    _explore(machine, examples=15, steps=30)
