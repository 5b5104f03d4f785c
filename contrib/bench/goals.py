"""What kstore is meant to reach, and whether the figures say that it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from contrib.bench.bench import OWN
from contrib.bench.results import Measured, Table, select
from contrib.bench.tools.curl import Curl
from contrib.bench.tools.kstore import ConfiguredKstore

SMALL, MANY, HUGE = 100, 1_000, 10_000  # images in a store
ENTRIES = 1_000  # of registries.conf and of the trust policy
MEMORY = 80.0  # MB
ALL_IMAGES = ("debian", "pyapp", "nodeapp", "tiny60", "random2g")
APPLICATIONS = ("pyapp", "nodeapp")

Value = Callable[[Sequence[Measured]], float | None]


@dataclass(frozen=True, slots=True)
class Goal:
    """A value that must not be above ``limit`` (or, with ``least``, not below)."""

    text: str
    limit: float
    value: Value
    unit: str = "x"
    least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit

    @property
    def bound(self) -> str:
        return f"{'>=' if self.least else '<='} {self.limit:g} {self.unit}"


def all_goals() -> Iterator[Goal]:
    for image in ALL_IMAGES:
        factor = 1.25 if image == "debian" else 1.0
        yield _beside(f"pull {image}", "skopeo", factor, f"pull-{image}")
    for image in APPLICATIONS:
        yield _beside(f"pull {image}", "podman", 0.05, f"pull-{image}")
    yield _beside("pull random2g", Curl.name, 1.5, "pull-random2g")
    for tool, factor in (("skopeo", 0.8), ("podman", 0.15)):
        for image in ALL_IMAGES:
            yield _beside(f"push {image}, empty registry", tool, factor, f"push-{image}")
    for image in ALL_IMAGES:
        what = f"push {image}, the registry has everything"
        yield _beside(what, "podman", 2.0, f"again-{image}")
    for verb in ("images", "tag", "untag"):
        yield _beside(f"{verb}, store of {SMALL:,}", "podman", 1.5, f"{verb}-{SMALL}")
    yield _beside(f"images, store of {MANY:,}", "podman", 0.02, f"images-{MANY}")
    yield _than_itself("images", MANY, SMALL, 3)
    yield _than_itself("filter", HUGE, MANY, 2)
    per_image = _quotient(
        _each(_wall(f"filter-{HUGE}", OWN), HUGE), _each(_wall(f"filter-{MANY}", "podman"), MANY)
    )
    yield Goal(f"images --filter, an image of {HUGE:,} / podman's of {MANY:,}", 0.1, per_image)
    for kind in ("name", "ID", "prefix"):
        once = _each(_wall(f"find-{kind}", OWN), 1_000, unit=1e-3)
        yield Goal(f"find_image by {kind}, store of {HUGE:,}", 1.0, once, "ms")
    yield _beside("commit of 300 MB", "buildah", 0.5, "commit-300")
    yield Goal(f"images, store of {HUGE:,}", 1.0, _wall(f"images-{HUGE}", OWN), "s")
    for verb, tool, factor in (
        ("save", "podman", 0.5),
        ("save", "skopeo", 1.0),
        ("load", "podman", 0.3),
        ("load", "skopeo", 0.6),
        ("copy-oci", "skopeo", 0.7),
        ("copy-dir", "skopeo", 0.7),
    ):
        yield _beside(f"{verb} pyapp", tool, factor, f"{verb}-pyapp")
    times = _quotient(_wall("gzip-pyapp", "skopeo"), _wall("gzip-pyapp", OWN))
    yield Goal("gzip of plain layers: throughput / skopeo's", 3.0, times, least=True)
    for verb in ("pull", "images", "inspect"):
        what = f"what {ENTRIES:,} registries and scopes of a policy add to {verb}"
        yield Goal(what, 10.0, _more(f"configured-{verb}"), "ms")
    yield Goal("peak memory of every measured kstore command", MEMORY, _memory, "MB")


def _beside(text: str, tool: str, factor: float, key: str) -> Goal:
    return Goal(f"{text} / {tool}", factor, _quotient(_wall(key, OWN), _wall(key, tool)))


def _than_itself(verb: str, larger: int, smaller: int, factor: float) -> Goal:
    name = "images" if verb == "images" else "images --filter"
    return Goal(
        f"{name}, store of {larger:,} / of {smaller:,}",
        factor,
        _quotient(_wall(f"{verb}-{larger}", OWN), _wall(f"{verb}-{smaller}", OWN)),
    )


def _wall(key: str, tool: str) -> Value:
    def value(found: Sequence[Measured]) -> float | None:
        table = select(found, key)
        summary = table.summary(tool) if table else None
        return summary.wall if summary else None

    return value


def _each(whole: Value, count: int, unit: float = 1.0) -> Value:
    """What one of ``count`` took, in ``unit`` seconds."""

    def value(found: Sequence[Measured]) -> float | None:
        seconds = whole(found)
        return None if seconds is None else seconds / count / unit

    return value


def _quotient(above: Value, below: Value) -> Value:
    def value(found: Sequence[Measured]) -> float | None:
        numerator, denominator = above(found), below(found)
        return numerator / denominator if numerator is not None and denominator else None

    return value


def _more(key: str) -> Value:
    """Milliseconds that kstore takes longer with a long configuration."""
    with_it, without = _wall(key, ConfiguredKstore.name), _wall(key, OWN)

    def value(found: Sequence[Measured]) -> float | None:
        more, less = with_it(found), without(found)
        return None if more is None or less is None else (more - less) * 1e3

    return value


def _memory(found: Sequence[Measured]) -> float | None:
    own = (_own_memory(each.table) for each in found)
    return max((value for value in own if value is not None), default=None)


def _own_memory(table: Table) -> float | None:
    summary = table.summary(OWN)
    return summary.memory if summary else None
