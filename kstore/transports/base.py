"""What transports share."""

from __future__ import annotations

from kstore.reference import Named

__all__ = ["name_scopes"]


def name_scopes(named: Named) -> tuple[str, ...]:
    """Policy scopes broader than a docker name: repository, its parents, the host and
    ``*.domain`` wildcards, most specific first."""
    scopes = [named.repository]
    path = named.repository
    while "/" in path:
        path = path.rpartition("/")[0]
        scopes.append(path)
    host = named.domain.partition(":")[0]
    while "." in host:
        host = host.partition(".")[2]
        scopes.append(f"*.{host}")
    return tuple(scopes)
