"""Which server, and which certificates, a registry's name stands for.

Source of the certificate directories: containers-certs.d(5).
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from kstore.errors import InvalidInputError, StorageError
from kstore.reference import DEFAULT_DOMAIN
from kstore.registry.settings import RegistrySettings
from kstore.registry.urls import Origin, Url
from kstore.values import dataclass

__all__ = ["TlsFiles", "is_address", "is_local", "is_private", "registry_origin", "tls_files"]

_DOCKER_API = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Extra authorities, and (certificate, key) pairs to present."""

    authorities: tuple[Path, ...] = ()
    identities: tuple[tuple[Path, Path], ...] = ()


def registry_origin(host: str, scheme: str) -> Origin:
    """Where the registry ``host[:port]`` is reached; docker.io has a server of another name."""
    name = _DOCKER_API if host == DEFAULT_DOMAIN else host
    return Url.parse(f"{scheme}://{name}/", f"registry {host}").origin


def tls_files(host: str, settings: RegistrySettings) -> TlsFiles:
    """The certificate files for a registry, looked up under the name the user wrote.

    Raises InvalidInputError for a certificate without its key (or the reverse) and for a
    ``cert_dir`` that does not exist.
    """
    if settings.cert_dir is not None:
        if not settings.cert_dir.is_dir():
            raise InvalidInputError(f"certificate directory {settings.cert_dir} does not exist")
        return _read_directory(settings.cert_dir)
    for root in settings.cert_search:
        try:
            found = (root / host).is_dir()
        except PermissionError:
            continue  # another user's directory is as good as none
        if found:
            return _read_directory(root / host)
    return TlsFiles()


def is_address(host: str) -> bool:
    """Whether a host is given as an IP address."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_local(address: str) -> bool:
    """Whether an IP address leads to this machine or link only (or nowhere)."""
    ip = _unmapped(address)
    return ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast


def is_private(address: str) -> bool:
    """Whether an IP address is not reachable from the public internet."""
    return not _unmapped(address).is_global


def _unmapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def _read_directory(directory: Path) -> TlsFiles:
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError as exc:
        raise StorageError(
            f"certificate directory {directory} cannot be read: {exc.strerror}"
        ) from exc
    identities = []
    for name in names:
        stem, _, kind = name.rpartition(".")
        if kind == "cert" and f"{stem}.key" not in names:
            raise InvalidInputError(
                f"certificate {directory / name} has no key {stem}.key beside it",
                hint="an authority's certificate must be named *.crt",
            )
        if kind == "key" and f"{stem}.cert" not in names:
            raise InvalidInputError(f"key {directory / name} has no certificate {stem}.cert")
        if kind == "cert":
            identities.append((directory / name, directory / f"{stem}.key"))
    authorities = (directory / name for name in names if name.endswith(".crt"))
    # Distributions ship links to authorities that come with another package.
    there = tuple(path for path in authorities if path.exists())
    return TlsFiles(there, tuple(identities))
