"""The command line: which stages with which images, how often; then the page."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from contrib.bench import images
from contrib.bench.bench import Bench, Plan
from contrib.bench.checks import Image
from contrib.bench.goals import HUGE, MANY, SMALL
from contrib.bench.machine import origin
from contrib.bench.report import render
from contrib.bench.results import Measured, keep, load
from contrib.bench.stages import ALONE, PER_IMAGE, STAGES, WITHOUT_IMAGES, Input
from contrib.bench.timing import RunError
from contrib.bench.tools.kstore import install_kstore
from contrib.bench.tools.skopeo import upload
from tests.support.dockerregistry import DockerRegistry

NEEDED = ("docker-registry", "skopeo", "podman", "buildah", "curl", "openssl")
WHEELS = (("numpy", "pandas"), ("scipy", "pyarrow"))


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
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description="Measure kstore against other tools.")
    add = parser.add_argument
    add("--only", type=_some(STAGES), default=list(STAGES), help=f"stages, of {','.join(STAGES)}")
    known = list(builders(Path()))
    add("--images", type=_some(known), default=known, help=f"images, of {','.join(known)}")
    add("--runs", type=int, default=7, help="runs of everything (default: 7)")
    add(
        "--peer-runs",
        type=_fewer,
        default={},
        metavar="TOOL=N,...",
        help="fewer runs of slow tools with big images and big stores, such as podman=3",
    )
    add("--commit", help="measure this commit (default: the checkout as it is)")
    add("--small", type=int, default=SMALL, help="images in the small store")
    add("--many", type=int, default=MANY, help="images in the big store")
    add("--huge", type=int, default=HUGE, help="images in the store that only kstore gets")
    add("--limit", type=float, default=300, help="seconds one run may take")
    add("--budget", type=float, default=120, help="minutes after which no new round begins")
    add("--assemble", action="store_true", help="measure nothing; write the page of what is kept")
    add("--cache", type=Path, default=home / "kstore-bench", help="built images, filled stores")
    add("--results", type=Path, help="where measured tables are kept (default: CACHE/results)")
    add("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    add("--output", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    options = parser.parse_args(arguments)
    options.results = options.results or options.cache / "results"
    return options


def _some(known: Sequence[str] | Mapping[str, object]) -> Callable[[str], list[str]]:
    def chosen(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return names

    return chosen


def _fewer(text: str) -> dict[str, int]:
    pairs = [entry.partition("=") for entry in text.split(",")]
    if any(not number.isdecimal() or int(number) < 1 for _, _, number in pairs):
        raise argparse.ArgumentTypeError(f"TOOL=N is expected, not {text}")
    return {name: int(number) for name, _, number in pairs}


def needed(options: argparse.Namespace) -> list[str]:
    """The chosen images that the chosen stages use."""
    names, stages = options.images, set(options.only)
    if stages & PER_IMAGE:
        return list(names)
    return [name for name in names if name in ALONE] or names[:1] if stages - WITHOUT_IMAGES else []


def measure_all(options: argparse.Namespace, arguments: Sequence[str]) -> bool:
    """Measures and keeps the chosen stages' tables; whether everything of kstore's worked."""
    begun = time.monotonic()
    plan = Plan(options.runs, options.peer_runs, options.limit, begun + options.budget * 60)
    built = build_images(needed(options), options.cache)
    with tempfile.TemporaryDirectory(prefix="kstore-bench-", dir=options.scratch) as place:
        scratch = Path(place)
        kstore = install_kstore(scratch / "installed", options.commit)
        about = origin(scratch, kstore, options.commit, arguments)
        bench = Bench(scratch, plan)
        with bench.room() as room, DockerRegistry(room) as source:
            for image in built:
                upload(image, source.host)
            given = Input(
                *(built, source.host, kstore, options.cache),
                *(options.small, options.many, options.huge),
            )
            for name in options.only:
                if plan.over():
                    print(f"the budget is used up: {name} is not measured")
                    continue
                for table in STAGES[name](bench, given):
                    keep(options.results, Measured(table, about))
                    if plan.over():
                        print(f"the budget is used up: {name} ends here")
                        break
    print(f"measured in {(time.monotonic() - begun) / 60:.1f} minutes, everything included")
    return not bench.failed


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if missing := [name for name in NEEDED if shutil.which(name, path=path) is None]:
        print(f"bench: not installed: {', '.join(missing)}", file=sys.stderr)
        return 1
    try:
        worked = options.assemble or measure_all(options, arguments)
    except (images.BuildError, RunError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    found = load(options.results)
    if not found:
        print(f"bench: nothing was measured yet ({options.results})", file=sys.stderr)
        return 1
    options.output.write_text(render(found))
    print(f"written: {options.output}")
    return 0 if worked else 1
