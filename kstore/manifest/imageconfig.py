"""The image config: what runs, on which platform, from which layers.

Only views are made here; the bytes are never re-serialised, so unknown keys survive.

Source: OCI image specification 1.1 ``config.md``.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from kstore import strictjson
from kstore.descriptor import text_map
from kstore.digest import Digest
from kstore.errors import InvalidDigestError, InvalidManifestError
from kstore.manifest.raw import MAX_CONFIG_SIZE
from kstore.platforms import Platform
from kstore.values import dataclass

__all__ = ["HistoryEntry", "ImageConfig", "RunConfig", "parse_time"]

_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How to run the image: the ``config`` object of an image config."""

    user: str | None = None
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str | None = None
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    stop_signal: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One step of an image's making, oldest first in :attr:`ImageConfig.history`."""

    created: dt.datetime | None
    created_by: str
    comment: str
    author: str
    empty_layer: bool


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """A read-only view of an image config; ``created`` is None where the config has no date."""

    platform: Platform
    created: dt.datetime | None
    author: str | None
    docker_version: str | None
    run: RunConfig
    diff_ids: tuple[Digest, ...]
    history: tuple[HistoryEntry, ...]

    @classmethod
    def parse(cls, data: bytes, what: str = "image config") -> ImageConfig:
        """Read config bytes (at most 4 MiB); InvalidManifestError naming ``what`` otherwise."""
        value = strictjson.loads(data, what, cap=MAX_CONFIG_SIZE)
        document = strictjson.as_object(value, what)
        rootfs = document.get("rootfs")
        rootfs = {} if rootfs is None else strictjson.as_object(rootfs, f"rootfs of {what}")
        return cls(
            platform=Platform(
                os=strictjson.text_in(document, "os", what) or "",
                architecture=strictjson.text_in(document, "architecture", what) or "",
                variant=strictjson.text_in(document, "variant", what),
                os_version=strictjson.text_in(document, "os.version", what),
            ),
            created=parse_time(document.get("created")),
            author=strictjson.text_in(document, "author", what),
            docker_version=strictjson.text_in(document, "docker_version", what),
            run=_run(document.get("config"), what),
            diff_ids=_diff_ids(rootfs.get("diff_ids"), what),
            history=_history(document.get("history"), what),
        )


def parse_time(value: Any) -> dt.datetime | None:
    """An RFC 3339 time as an aware datetime (UTC), or None if it is absent or not a time.

    Fractions beyond microseconds are cut; Go's zero time (year 1) counts as absent.
    """
    match = _TIME.match(value) if isinstance(value, str) else None
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    micros = (fraction or "0")[:6].ljust(6, "0")
    zone = "+00:00" if zone in "Zz" else zone
    try:
        moment = dt.datetime.fromisoformat(f"{day}T{clock}.{micros}{zone}")
        return None if moment.year <= 1 else moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


def _run(value: Any, what: str) -> RunConfig:
    if value is None:
        return RunConfig()
    config = strictjson.as_object(value, f"config of {what}")
    return RunConfig(
        user=strictjson.text_in(config, "User", what),
        env=strictjson.as_texts(config.get("Env"), f"Env of {what}"),
        entrypoint=strictjson.as_texts(config.get("Entrypoint"), f"Entrypoint of {what}"),
        cmd=strictjson.as_texts(config.get("Cmd"), f"Cmd of {what}"),
        working_dir=strictjson.text_in(config, "WorkingDir", what),
        volumes=_keys(config.get("Volumes"), f"Volumes of {what}"),
        exposed_ports=_keys(config.get("ExposedPorts"), f"ExposedPorts of {what}"),
        stop_signal=strictjson.text_in(config, "StopSignal", what),
        labels=text_map(config.get("Labels"), f"Labels of {what}"),
    )


def _history(value: Any, what: str) -> tuple[HistoryEntry, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidManifestError(f"history of {what} is not a list")
    entries = []
    for number, item in enumerate(value):
        name = f"history entry {number} of {what}"
        entry = strictjson.as_object(item, name)
        entries.append(
            HistoryEntry(
                created=parse_time(entry.get("created")),
                created_by=strictjson.text_in(entry, "created_by", name) or "",
                comment=strictjson.text_in(entry, "comment", name) or "",
                author=strictjson.text_in(entry, "author", name) or "",
                empty_layer=entry.get("empty_layer") is True,
            )
        )
    return tuple(entries)


def _diff_ids(value: Any, what: str) -> tuple[Digest, ...]:
    texts = strictjson.as_texts(value, f"diff_ids of {what}")
    try:
        return tuple(map(Digest.parse, texts))
    except InvalidDigestError as exc:
        raise InvalidManifestError(f"diff_ids of {what}: {exc}") from exc


def _keys(value: Any, what: str) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(sorted(strictjson.as_object(value, what)))
