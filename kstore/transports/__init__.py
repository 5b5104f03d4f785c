"""Ways to reach an image: ``transport:reference``.

:data:`FACTORIES` is the only list of transports; a factory is called, and its modules are imported,
when the first reference of its kind is parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from kstore.errors import InvalidReferenceError, UnsupportedError
from kstore.interfaces import ImageReference, ImageTransport
from kstore.reference import Named
from kstore.streams import Cancel
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.registry import RegistryClient
    from kstore.registry.lookaside import Lookaside
    from kstore.registry.registriesconf import Peer
    from kstore.registry.shortnames import ShortNames
    from kstore.store import Store
    from kstore.transports.docker import DockerTransport
    from kstore.transports.docker_endpoint import DockerDaemonSettings
    from kstore.transports.storage import StorageTransport

__all__ = [
    "FACTORIES",
    "STORE_TRANSPORTS",
    "TransportSettings",
    "Transports",
    "split_transport",
    "validate_policy_scope",
]


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """What transports are made with: the store (opened when a reference needs it), how to reach a
    registry, when to stop.

    ``spool_dir``: where archives that are compressed or come through a pipe are unpacked to.
    ``stdin`` and ``stdout``: what ``-`` means as a file; None where it means nothing.
    ``docker_daemon``: how a Docker daemon is reached, None for its usual socket.
    ``attachments``: of which images a registry itself keeps the sigstore signatures.
    ``lookaside``: where the signatures of a registry's image are kept, None for nowhere.
    ``short_names``: the registry configuration, None for none.
    """

    open_store: Callable[[], Store]
    connect: Callable[[Peer], RegistryClient]
    cancel: Cancel
    spool_dir: Path = Path("/var/tmp")  # noqa: S108 - files without names
    stdin: BinaryIO | None = None
    stdout: BinaryIO | None = None
    docker_daemon: DockerDaemonSettings | None = None
    short_names: Callable[[], ShortNames] | None = None
    attachments: Callable[[Named], bool] = lambda named: False
    lookaside: Callable[[Named], Lookaside] | None = None


def _docker(settings: TransportSettings) -> ImageTransport:
    from kstore.transports.docker import DockerTransport

    return DockerTransport(
        settings.connect,
        settings.short_names,
        attachments=settings.attachments,
        lookaside=settings.lookaside,
    )


def _docker_archive(settings: TransportSettings) -> ImageTransport:
    from kstore.transports.docker_archive import DockerArchiveTransport

    return DockerArchiveTransport(
        settings.spool_dir, stdin=settings.stdin, stdout=settings.stdout, cancel=settings.cancel
    )


def _docker_daemon(settings: TransportSettings) -> ImageTransport:
    from kstore.transports.docker_daemon import DockerDaemonTransport

    return DockerDaemonTransport(
        settings.docker_daemon, spool_dir=settings.spool_dir, cancel=settings.cancel
    )


def _storage(settings: TransportSettings) -> ImageTransport:
    from kstore.transports.storage import StorageTransport

    return StorageTransport(settings.open_store(), settings.cancel)


def _oci(settings: TransportSettings) -> ImageTransport:
    from kstore.transports.oci import OciTransport

    return OciTransport(settings.cancel)


def _oci_archive(settings: TransportSettings) -> ImageTransport:
    from kstore.transports.oci_archive import OciArchiveTransport

    return OciArchiveTransport(
        settings.spool_dir, stdin=settings.stdin, stdout=settings.stdout, cancel=settings.cancel
    )


def _dir(settings: TransportSettings) -> ImageTransport:
    from kstore.transports.dir import DirTransport

    return DirTransport()


def _tarball(settings: TransportSettings) -> ImageTransport:
    from kstore.transports.tarball import TarballTransport

    return TarballTransport(settings.spool_dir, stdin=settings.stdin, cancel=settings.cancel)


_Factory = Callable[[TransportSettings], ImageTransport]

#: Transport name (or alias) to the function that makes it.
FACTORIES: Mapping[str, _Factory] = {
    "dir": _dir,
    "docker": _docker,
    "docker-archive": _docker_archive,
    "docker-daemon": _docker_daemon,
    "kstore": _storage,
    "oci": _oci,
    "oci-archive": _oci_archive,
    "storage": _storage,
    "tarball": _tarball,
}

#: The names of the store's own transport.
STORE_TRANSPORTS = tuple(name for name, make in FACTORIES.items() if make is _storage)

#: Transports of this family that kstore does not have, and the way round.
_MISSING: Mapping[str, str] = {
    "containers-storage": "`podman save IMAGE | kstore load` brings an image of podman's into the"
    " store, and `kstore save IMAGE | podman load` the other way",
}


def split_transport(text: str) -> tuple[str, str] | None:
    """``(transport, reference)`` if ``text`` begins with a known transport's name, else None.

    ``host:5000/image`` and ``image:tag`` are names, not transports; ``docker:24`` is one too (of
    docker's own image), because docker references begin with ``//``.
    """
    name, colon, rest = text.partition(":")
    if not colon:
        return None
    if rest.startswith("//") or (name != "docker" and (name in FACTORIES or name in _MISSING)):
        return name, rest
    return None


def validate_policy_scope(transport: str, scope: str) -> None:
    """Raise InvalidInputError if ``scope`` can never match an image of ``transport``.

    Nothing is known of transports that kstore does not have, so all their scopes may be good.
    """
    factory = FACTORIES.get(transport)
    if factory is None or not scope:
        return
    if factory is _storage:
        from kstore.transports.storage import require_store_scope

        require_store_scope(scope)
        return
    settings = TransportSettings(_nothing, _nothing, Cancel())
    factory(settings).validate_policy_scope(scope)


def _nothing(*_: object) -> NoReturn:
    raise AssertionError("to judge a scope, nothing is opened")


class Transports:
    """The transports of one command, each made once."""

    def __init__(self, settings: TransportSettings) -> None:
        self.settings = settings
        self._made: dict[_Factory, ImageTransport] = {}

    def parse(self, text: str) -> ImageReference:
        """Parse ``transport:reference``; InvalidReferenceError or UnsupportedError otherwise."""
        split = split_transport(text)
        if split is None:
            raise InvalidReferenceError(f"{text[:200]!r} does not begin with a transport")
        name, rest = split
        if name in ("http", "https"):
            raise InvalidReferenceError(
                f"{text[:200]!r} is an address of the web, not an image",
                hint=f"docker:{rest[:200].rstrip('/')}",
            )
        return self.get(name).parse_reference(rest)

    @property
    def docker(self) -> DockerTransport:
        """The one that reaches registries."""
        from kstore.transports.docker import DockerTransport

        transport = self.get("docker")
        assert isinstance(transport, DockerTransport)
        return transport

    @property
    def storage(self) -> StorageTransport:
        """The one that reaches the store."""
        from kstore.transports.storage import StorageTransport

        transport = self.get("kstore")
        assert isinstance(transport, StorageTransport)
        return transport

    def get(self, name: str) -> ImageTransport:
        """The transport called ``name``; InvalidReferenceError or UnsupportedError otherwise."""
        if name in _MISSING:
            raise UnsupportedError(f"transport {name!r} is not supported yet", hint=_MISSING[name])
        factory = FACTORIES.get(name)
        if factory is None:
            known = ", ".join(FACTORIES)
            raise InvalidReferenceError(f"unknown transport {name[:100]!r} (known: {known})")
        if factory not in self._made:
            self._made[factory] = factory(self.settings)
        return self._made[factory]

    def close(self) -> None:
        """Close what the transports keep open."""
        if _docker in self._made:
            self.docker.close()
        self._made.clear()

    def __enter__(self) -> Transports:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
