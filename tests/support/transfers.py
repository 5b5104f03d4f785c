"""Pulls and pushes in this process, through the copier, by a client without much patience.

::

    events = pull(root, f"{server.host}/team/app:v1", attempts=3)     # -> list[Event]
    events = push(root, "localhost/app:1", f"{server.host}/team/app:v1")

Keyword arguments are fields of RegistrySettings.  One blob at a time unless ``parallel`` says more.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kstore.copier import CopyOptions, copy_image
from kstore.copier.progress import Event
from kstore.reference import Named
from kstore.registry import RegistryClient, RegistrySettings
from kstore.signing.policy import AcceptAnything
from kstore.store import Store
from kstore.streams import Cancel
from kstore.transports.docker import DockerReference, DockerTransport
from kstore.transports.storage import StorageReference, StorageTransport

__all__ = ["Waits", "pull", "push"]

_HASTY = {
    "tls_verify": False,
    "connect_timeout": 10.0,
    "response_timeout": 10.0,
    "idle_timeout": 10.0,
    "attempts": 4,
    "backoff_base": 0.01,
    "backoff_cap": 0.2,
    "connections": 1,
}


class Waits(Cancel):
    """Notes how long a client wants to wait before it tries again, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.check()


def pull(
    root: Path, name: str, *, parallel: int = 1, waits: Waits | None = None, **changes: Any
) -> list[Event]:
    """Pull ``name`` into the store at ``root``; what was told.  Raises what the copier raises."""
    with _sides(root, name, name, waits, changes) as (stored, remote):
        return _copied(remote, stored, parallel)


def push(
    root: Path,
    image: str,
    name: str,
    *,
    parallel: int = 1,
    waits: Waits | None = None,
    **changes: Any,
) -> list[Event]:
    """Push ``image`` of the store at ``root`` to ``name``."""
    with _sides(root, image, name, waits, changes) as (stored, remote):
        return _copied(stored, remote, parallel)


@contextlib.contextmanager
def _sides(
    root: Path, image: str, name: str, waits: Waits | None, changes: dict[str, Any]
) -> Iterator[tuple[StorageReference, DockerReference]]:
    settings = RegistrySettings(**{**_HASTY, **changes})
    docker = DockerTransport(lambda peer: RegistryClient(peer.host, settings, cancel=waits))
    with contextlib.closing(docker), Store.open(root) as store:
        stored = StorageTransport(store).reference(Named.parse(image).with_default_tag())
        yield stored, docker.reference(Named.parse(name))


def _copied(source: Any, destination: Any, parallel: int) -> list[Event]:
    events: list[Event] = []
    lock = threading.Lock()

    def note(event: Event) -> None:
        with lock:
            events.append(event)

    copy_image(source, destination, AcceptAnything(), CopyOptions(parallel=parallel), progress=note)
    return events
