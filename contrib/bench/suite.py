"""The measurements: every image pulled and pushed by every tool, then a big store."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from contrib.bench import images
from contrib.bench.checks import Image
from contrib.bench.layout import TAG
from contrib.bench.report import Row, Table, render
from contrib.bench.timing import RunError, Timing, measure, summarise
from contrib.bench.tools import (
    Curl,
    Kstore,
    Library,
    PodmanTool,
    Skopeo,
    Tool,
    Trial,
    install_kstore,
    upload,
)
from tests.support.dockerregistry import DockerRegistry

NEEDED = ("docker-registry", "skopeo", "podman", "curl", "openssl")
WHEELS = (("numpy", "pandas"), ("scipy", "pyarrow"))
FAILURES = (RunError, AssertionError, OSError)
QUICK = ("debian", "tiny60")


def builders(cache: Path) -> Mapping[str, Callable[[Path], str]]:
    """Image name to the function that builds it into a layout."""
    root = cache / "debian-root.tar"
    return {
        "debian": lambda layout: images.debian(layout, images.root_tar(root)),
        "pyapp": lambda layout: images.pyapp(layout, images.root_tar(root), WHEELS),
        "tiny60": lambda layout: images.tiny(layout, layers=60),
        "nodeapp": images.many_files,
        "random2g": images.incompressible,
    }


class _Named(Protocol):
    name: str


_T = TypeVar("_T", bound=_Named)


class Bench:
    """What all measurements share: a scratch folder, how often, how long."""

    def __init__(self, scratch: Path, runs: int, limit: float, kstore: Path) -> None:
        self.kstore = kstore
        self._scratch = scratch
        self._runs = runs
        self._limit = limit
        self.failed = False

    @contextmanager
    def room(self) -> Iterator[Path]:
        """A fresh folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="run-", dir=self._scratch) as place:
            yield Path(place)

    def interleave(
        self,
        title: str,
        tools: Sequence[_T],
        work: Callable[[_T, int], Timing | None],
        broken: Mapping[str, str] | None = None,
    ) -> Table:
        """Every tool once, then every tool again: what changes on the machine hits all alike."""
        print(f"{title} ", end="", flush=True)
        timings: dict[str, list[Timing]] = {tool.name: [] for tool in tools}
        failures = dict(broken or {})
        absent: set[str] = set()
        for number in range(self._runs):
            for tool in tools:
                name = tool.name
                if name in failures or name in absent:
                    continue
                try:
                    timing = work(tool, number)
                except FAILURES as error:
                    failures[name] = self.failure(name, error)
                    continue
                if timing is None:
                    absent.add(name)
                else:
                    timings[name].append(timing)
            print(".", end="", flush=True)
        rows = []
        for name in timings:
            if name in failures:
                rows.append(Row(name, None, failures[name]))
            elif name not in absent:
                rows.append(Row(name, summarise(timings[name])))
        print("", *(f"{r.tool} {r.summary.wall:.3f} s" for r in rows if r.summary), sep="  ")
        return Table(title, tuple(rows))

    def failure(self, name: str, error: Exception) -> str:
        """What stands in the table instead of figures; told at once, too."""
        reason = "failed: " + " ".join(str(error).split())[-200:].replace("|", "/")
        self.failed |= name == Kstore.name
        print(f"\n  {name}: {reason}", flush=True)
        return reason

    def time(self, trial: Trial) -> Timing:
        """One run; it counts only when its result is right."""
        try:
            timing = measure(trial.command, self._limit, trial.environ)
            trial.verify(timing.output)
        finally:
            trial.clean()
        return timing

    def pull(self, tool: Tool, image: Image, host: str) -> Timing:
        with self.room() as room:
            return self.time(tool.pull(image, host, room))

    def push(self, tool: Tool, image: Image, host: str) -> Timing | None:
        with self.room() as room, DockerRegistry(room) as empty:
            trial = tool.push(image, host, empty.host, room)
            return None if trial is None else self.time(trial)


def transfers(bench: Bench, built: Sequence[Image], host: str) -> list[Table]:
    """Pull and push of every image by every tool."""
    tools: list[Tool] = [Kstore(bench.kstore), Skopeo(), PodmanTool(), Curl()]
    return [table for image in built for table in _transfers(bench, tools, image, host)]


def _transfers(bench: Bench, tools: Sequence[Tool], image: Image, host: str) -> Iterator[Table]:
    size = sum(file.stat().st_size for file in (image.layout / "blobs/sha256").iterdir())
    size_text = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    about = f"{image.name} ({size_text}, {len(image.blobs) - 1} layers)"
    yield bench.interleave(f"pull {about}", tools, lambda tool, _: bench.pull(tool, image, host))
    yield bench.interleave(
        f"push {about} to an empty registry", tools, lambda tool, _: bench.push(tool, image, host)
    )


def libraries(bench: Bench, count: int, host: str) -> list[Table]:
    """``images`` and ``tag`` in a store of ``count`` different images."""
    with bench.room() as room, ExitStack() as stack:
        names = []
        for number in range(count):
            layout = room / "layouts" / str(number)
            digest = images.tiny(layout, layers=1, seed=number + 1)
            image = Image(f"many/image-{number:04d}", layout, digest)
            upload(image, host)
            names.append(f"{host}/{image.name}:{TAG}")
        tools: list[Library] = [Kstore(bench.kstore), PodmanTool()]
        broken: dict[str, str] = {}
        for tool in tools:
            place = room / tool.name
            place.mkdir()
            stack.callback(tool.close)
            try:
                tool.fill(names, place)
            except FAILURES as error:
                broken[tool.name] = bench.failure(tool.name, error)
        return [
            bench.interleave(
                f"images in a store of {count}",
                tools,
                lambda tool, _: bench.time(tool.list_trial(count)),
                broken,
            ),
            bench.interleave(
                f"tag in a store of {count}",
                tools,
                lambda tool, number: bench.time(tool.tag_trial(names[0], number)),
                broken,
            ),
        ]


def build_images(names: Sequence[str], cache: Path) -> list[Image]:
    """The images, built where the cache does not have them yet."""
    made = []
    for name in names:
        layout = cache / name
        if not layout.exists():
            print(f"building {name} in {layout} ...", flush=True)
        made.append(Image(name, layout, builders(cache)[name](layout)))
    return made


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    known = tuple(builders(Path()))
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description="Measure kstore against other tools.")
    parser.add_argument("--quick", action="store_true", help="two images, three runs, small store")
    parser.add_argument("--images", help=f"comma-separated, of {', '.join(known)} (default: all)")
    parser.add_argument("--runs", type=int, help="runs of everything (default: 5; quick: 3)")
    parser.add_argument(
        "--many", type=int, help="images in the big store (default: 200, quick: 20)"
    )
    parser.add_argument("--limit", type=float, default=300, help="seconds one run may take")
    parser.add_argument("--cache", type=Path, default=home / "kstore-bench")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    options = parser.parse_args(arguments)
    options.names = options.images.split(",") if options.images else list(known)
    if options.quick and not options.images:
        options.names = list(QUICK)
    if unknown := set(options.names) - set(known):
        parser.error(f"unknown image: {', '.join(sorted(unknown))} (known: {', '.join(known)})")
    options.runs = options.runs or (3 if options.quick else 5)
    options.many = options.many or (20 if options.quick else 200)
    return options


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if missing := [name for name in NEEDED if shutil.which(name, path=path) is None]:
        print(f"bench: not installed: {', '.join(missing)}", file=sys.stderr)
        return 1
    try:
        built = build_images(options.names, options.cache)
    except (images.BuildError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="kstore-bench-", dir=options.scratch) as place:
        kstore = install_kstore(Path(place) / "installed")
        bench = Bench(Path(place), options.runs, options.limit, kstore)
        with bench.room() as room, DockerRegistry(room) as source:
            for image in built:
                upload(image, source.host)
            tables = transfers(bench, built, source.host)
            tables += libraries(bench, options.many, source.host)
        versions = [
            tool.version() for tool in (Kstore(bench.kstore), Skopeo(), PodmanTool(), Curl())
        ]
        command = " ".join(["contrib/bench/run.py", *arguments])
        options.output.write_text(render(tables, versions, Path(place), command))
    print(f"written: {options.output}")
    return 1 if bench.failed else 0
