"""The stages: what is measured, with which tools, and what must be ready before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from contrib.bench import images, seed
from contrib.bench.bench import Bench, Work
from contrib.bench.checks import Image
from contrib.bench.goals import ENTRIES, HUGE, MANY, SMALL
from contrib.bench.results import Table
from contrib.bench.timing import Timing
from contrib.bench.tools import Kind, Tool, Trial
from contrib.bench.tools.buildah import BuildahTool
from contrib.bench.tools.curl import Curl
from contrib.bench.tools.kstore import ConfiguredKstore, Kstore
from contrib.bench.tools.podman import PodmanTool
from contrib.bench.tools.skopeo import Skopeo, write_docker_archive, write_plain_dir
from tests.support.dockerregistry import DockerRegistry

_HEAVY = 100_000_000  # bytes of an image that slow tools need not take as often as the others


@dataclass(frozen=True, slots=True)
class Input:
    """What stages work with: the images, a registry that has them, and how big stores are."""

    images: Sequence[Image]
    host: str
    kstore: Path
    cache: Path
    small: int = SMALL
    many: int = MANY
    huge: int = HUGE

    @property
    def own(self) -> Kind:
        return Kind(Kstore.name, partial(Kstore, self.kstore))

    @property
    def configured(self) -> Kind:
        make = partial(ConfiguredKstore, self.kstore, ENTRIES)
        return Kind(ConfiguredKstore.name, make)

    def image(self, name: str) -> Image:
        """The image that a stage prefers, or another one."""
        return next((image for image in self.images if image.name == name), self.images[0])


_SKOPEO, _PODMAN, _CURL, _BUILDAH = (
    Kind(tool.name, tool) for tool in (Skopeo, PodmanTool, Curl, BuildahTool)
)


def pull(bench: Bench, given: Input, image: Image) -> Iterator[Table]:
    """Into an empty store."""
    yield bench.interleave(
        _work("pull", image, "pull {}"),
        [given.own, _SKOPEO, _PODMAN, _CURL],
        lambda kind, _: bench.fresh(kind, lambda tool: tool.pull(image, given.host)),
    )


def push(bench: Bench, given: Input, image: Image) -> Iterator[Table]:
    """To a registry that is empty."""

    def once(tool: Tool, _: int) -> Timing | None:
        with bench.room() as room, DockerRegistry(room) as empty:
            trial = tool.push(image, given.host, empty.host)
            return None if trial is None else bench.time(trial)

    with bench.crew([given.own, _SKOPEO, _PODMAN], _having(image, given)) as tools:
        yield bench.interleave(_work("push", image, "push {} to an empty registry"), tools, once)


def again(bench: Bench, given: Input, image: Image) -> Iterator[Table]:
    """To a registry that already has it: each tool has a registry of its own."""
    hosts: dict[str, str] = {}

    def trial(tool: Tool, _: int = 0) -> Trial | None:
        return tool.push(image, given.host, hosts[tool.name])

    with bench.room() as room, ExitStack() as stack:

        def prepare(tool: Tool) -> None:
            tool.fill([image.named(given.host)])
            place = room / tool.name
            place.mkdir()
            hosts[tool.name] = stack.enter_context(DockerRegistry(place)).host
            if first := trial(tool):
                bench.time(first)

        with bench.crew([given.own, _SKOPEO, _PODMAN], prepare) as tools:
            work = _work("again", image, "push {} to a registry that has everything")
            yield bench.interleave(replace(work, heavy=False), tools, trial)


def many(bench: Bench, given: Input) -> Iterator[Table]:
    """Stores of many images: listing, filtering, and names in the small one."""
    both = [given.own, _PODMAN]
    yield from _library(bench, given, given.small, both, names=True)
    yield from _library(bench, given, given.many, both)
    yield from _library(bench, given, given.huge, [given.own])


def _library(
    bench: Bench, given: Input, count: int, kinds: Sequence[Kind], *, names: bool = False
) -> Iterator[Table]:
    first: dict[str, str] = {}
    label = f"bench.number={count // 2}"
    heavy, store = count > SMALL, f"in a store of {count:,}"

    def prepare(tool: Tool) -> None:
        with bench.room() as room:
            first[tool.name] = seed.fill(tool, count, room, given.cache)[0]

    def new(number: int) -> str:
        return f"bench.local/tag:{number}"

    with bench.crew(kinds, prepare) as tools:
        for key, title, run in (
            ("images", f"images {store}", lambda tool, _: tool.images(count)),
            ("filter", f"images --filter label=... {store}", lambda t, _: t.images(1, label)),
        ):
            yield bench.interleave(Work(f"{key}-{count}", title, heavy), tools, run)
        if names:
            yield bench.interleave(
                Work(f"tag-{count}", f"tag {store}"),
                tools,
                lambda tool, number: tool.tag(first[tool.name], new(number)),
            )
            yield bench.interleave(
                Work(f"untag-{count}", f"untag {store}"),
                tools,
                lambda tool, number: tool.untag(first[tool.name], new(number)),
            )


def find(bench: Bench, given: Input) -> Iterator[Table]:
    """Single images of a big store, found inside one process."""

    def prepare(tool: Tool) -> None:
        with bench.room() as room:
            seed.fill(tool, given.huge, room, given.cache)

    def once(tool: Tool, kind: str) -> Timing | None:
        trial = tool.find(kind)
        return None if trial is None else bench.inside(trial)

    with bench.crew([given.own], prepare) as tools:
        for kind in ("name", "ID", "prefix"):
            title = f"find_image by {kind}, 1,000 times, in a store of {given.huge:,}"
            yield bench.interleave(
                Work(f"find-{kind}", title), tools, lambda tool, _, kind=kind: once(tool, kind)
            )


def commit(bench: Bench, given: Input) -> Iterator[Table]:
    """A container's files as an image."""
    tree = images.writable_layer(given.cache / "writable-layer")
    yield bench.interleave(
        Work("commit-300", "commit of a writable layer of 300 MB", size=images.LAYER_SIZE),
        [given.own, _BUILDAH],
        lambda kind, _: bench.fresh(kind, lambda tool: tool.commit(tree)),
    )


def save(bench: Bench, given: Input) -> Iterator[Table]:
    """A docker-archive written, and one read."""
    image = given.image("pyapp")
    kinds = [given.own, _SKOPEO, _PODMAN]

    def write(tool: Tool, _: int) -> Timing | None:
        with bench.room() as room:
            trial = tool.save(image, given.host, room / "archive.tar")
            return None if trial is None else bench.time(trial)

    with bench.crew(kinds, _having(image, given)) as tools:
        yield bench.interleave(_work("save", image, "save {} to a docker-archive"), tools, write)
    with bench.room() as room:
        archive = room / "archive.tar"
        write_docker_archive(image, archive)
        yield bench.interleave(
            _work("load", image, "load {} from a docker-archive"),
            kinds,
            lambda kind, _: bench.fresh(kind, lambda tool: tool.load(image, archive)),
        )


def copy(bench: Bench, given: Input) -> Iterator[Table]:
    """Copies between folders, as they are and with gzip on the way."""
    image = given.image("pyapp")
    for kind in ("oci", "dir"):
        work = _work(f"copy-{kind}", image, f"copy {{}}, oci: to {kind}:")
        yield _copied(bench, given, work, image, image.source, kind)
    with bench.room() as room:
        plain = room / "plain"
        write_plain_dir(image, plain)
        size = sum(file.stat().st_size for file in plain.iterdir())
        work = _work("gzip", image, "copy {} with plain layers, dir: to oci: with gzip", size)
        yield _copied(bench, given, work, image, f"dir:{plain}", "oci")


def _copied(bench: Bench, given: Input, work: Work, image: Image, source: str, kind: str) -> Table:
    return bench.interleave(
        work,
        [given.own, _SKOPEO],
        lambda made, _: bench.fresh(made, lambda tool: tool.copy(image, source, kind)),
    )


def configured(bench: Bench, given: Input) -> Iterator[Table]:
    """What a long registries.conf and a long trust policy cost."""
    image = given.image("debian")
    work: Mapping[str, Callable[[Tool], Trial | None]] = {
        "pull": lambda tool: tool.pull(image, given.host),
        "images": lambda tool: tool.images(1),
        "inspect": lambda tool: tool.inspect(image.named(given.host)),
    }
    with bench.crew([given.own, given.configured], _having(image, given)) as tools:
        for verb, ask in work.items():
            title = f"{verb}, one image that is there, with {ENTRIES:,} registries and scopes"
            yield bench.interleave(
                Work(f"configured-{verb}", title), tools, lambda tool, _, ask=ask: ask(tool)
            )


def _for_each_image(
    stage: Callable[[Bench, Input, Image], Iterator[Table]],
) -> Callable[[Bench, Input], Iterator[Table]]:
    return lambda bench, given: (
        table for image in given.images for table in stage(bench, given, image)
    )


PER_IMAGE = {"pull", "push", "again"}
WITHOUT_IMAGES = {"many", "find", "commit"}  # these make what they work with
ALONE = ("pyapp", "debian")  # what the other stages work with, where they are chosen

#: Name of a stage -> what measures it, a table at a time.
STAGES: Mapping[str, Callable[[Bench, Input], Iterator[Table]]] = {
    "pull": _for_each_image(pull),
    "push": _for_each_image(push),
    "again": _for_each_image(again),
    "many": many,
    "find": find,
    "commit": commit,
    "save": save,
    "copy": copy,
    "configured": configured,
}


def _work(stem: str, image: Image, title: str, size: int | None = None) -> Work:
    bytes_text = f"{image.size / 1e6:.1f} MB" if image.size >= 1e6 else f"{image.size / 1e3:.0f} kB"
    layers = len(image.blobs) - 1
    about = f"{image.name} ({bytes_text}, {layers} {'layer' if layers == 1 else 'layers'})"
    return Work(f"{stem}-{image.name}", title.format(about), image.size > _HEAVY, size)


def _having(image: Image, given: Input) -> Callable[[Tool], None]:
    return lambda tool: tool.fill([image.named(given.host)])
