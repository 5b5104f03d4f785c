"""Platforms, and which member of an index suits one best.

Sources: OCI image specification 1.1 ``image-index.md`` (platform object); Go's GOOS/GOARCH names.
"""

from __future__ import annotations

import platform as _host_platform
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from kstore.errors import InvalidInputError
from kstore.values import dataclass

__all__ = ["Platform", "best_match", "host_platform", "wanted_platforms"]

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "armhf": "arm",
    "armel": "arm",
    "loongarch64": "loong64",
}
_ARM_VARIANTS = ("v8", "v7", "v6", "v5")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", re.ASCII)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system, CPU architecture and CPU variant, in Go's spelling.

    ``os_version`` and ``os_features`` are carried along but take no part in choosing.
    """

    os: str
    architecture: str
    variant: str | None = None
    os_version: str | None = None
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse ``OS/ARCH[/VARIANT]``; common spellings (x86_64, aarch64, arm/7) are accepted.

        Raises InvalidInputError for any other shape.
        """
        parts = text.split("/")
        if not 2 <= len(parts) <= 3 or not all(_WORD.match(part) for part in parts):
            raise InvalidInputError(f"platform {text[:100]!r} is not OS/ARCH[/VARIANT]")
        os_name, machine = parts[0].lower(), parts[1].lower()
        variant = parts[2].lower() if len(parts) == 3 else None
        if machine in ("armhf", "armel") and variant is None:
            variant = "v7" if machine == "armhf" else "v6"
        architecture = _ARCHITECTURES.get(machine, machine)
        if architecture in ("arm", "arm64") and variant is not None and variant.isdigit():
            variant = f"v{variant}"
        return cls(os_name, architecture, variant)

    def suits(self, want: Platform) -> bool:
        """Whether an image for this is one for ``want``, as far as is known.

        Variants are not compared: configs often leave them out, or say one that runs as well.
        """
        known = bool(self.architecture)
        return not known or (self.os, self.architecture) == (want.os, want.architecture)

    def __str__(self) -> str:
        text = f"{self.os}/{self.architecture}"
        return f"{text}/{self.variant}" if self.variant else text


def host_platform() -> Platform:
    """The platform images should have to run on this machine (always an OS of ``linux``)."""
    machine = _host_platform.machine().lower()
    if machine.startswith("armv"):
        variant = f"v{machine[4]}" if machine[4:5].isdigit() else None
        return Platform("linux", "arm", variant)
    return Platform("linux", _ARCHITECTURES.get(machine, machine))


def wanted_platforms(want: Platform) -> tuple[Platform, ...]:
    """``want`` and everything that also runs there, best first.

    On arm a known variant runs all lower ones and images that state none; a wish without a variant
    prefers images without one, then the known variants, newest first.  arm64 images may or may not
    spell out their only variant, v8.
    """
    variants: tuple[str | None, ...]
    if want.architecture == "arm":
        if want.variant in _ARM_VARIANTS:
            variants = (*_ARM_VARIANTS[_ARM_VARIANTS.index(want.variant) :], None)
        elif want.variant is None:
            variants = (None, *_ARM_VARIANTS)
        else:
            variants = (want.variant,)
    elif want.architecture == "arm64":
        variants = {None: (None, "v8"), "v8": ("v8", None)}.get(want.variant, (want.variant, None))
    elif want.variant is not None:
        variants = (want.variant, None)
    else:
        variants = (None,)
    return tuple(Platform(want.os, want.architecture, variant) for variant in variants)


def best_match(
    entries: Sequence[T], platforms: Iterable[Platform | None], want: Platform
) -> T | None:
    """The entry of an index that suits ``want`` best, or None.

    ``platforms`` runs parallel to ``entries``; an entry without a platform is the last resort, and
    among equals the first wins.
    """
    ranks = {
        (p.os, p.architecture, p.variant): rank for rank, p in enumerate(wanted_platforms(want))
    }
    best: tuple[int, T] | None = None
    for entry, has in zip(entries, platforms, strict=True):
        rank = len(ranks) if has is None else ranks.get((has.os, has.architecture, has.variant))
        if rank is not None and (best is None or rank < best[0]):
            best = (rank, entry)
    return best[1] if best else None
