"""How to talk to registries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kstore.errors import RemoteError
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.registry.proxies import Proxies

__all__ = ["RegistrySettings", "not_asked"]


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How to talk to registries.  Times are seconds, sizes bytes.

    ``tls_verify``: False accepts any certificate, and plain HTTP from a registry that does not
    answer over TLS.  ``cert_dir`` holds ``*.crt``, ``*.cert`` and ``*.key`` files and is used
    alone; without it the first existing ``HOST[:PORT]`` directory below ``cert_search`` is.

    ``connect_timeout`` covers connecting and the TLS handshake, ``response_timeout`` the wait for
    a complete response head, ``idle_timeout`` the silence inside a body.  A body that brings less
    than ``minimum_speed`` bytes a second over ``minimum_speed_window`` is given up as well.

    ``attempts`` counts all tries of one request; pauses double from ``backoff_base`` up to
    ``backoff_cap``, which also limits what a registry can ask for with Retry-After.

    ``upload_chunk``: None sends a blob as one stream; a number sends pieces of that many bytes,
    for registries or proxies that limit one request.

    A blob that has come at less than ``slow_speed`` bytes a second for ``slow_after`` seconds, and
    has much left, is fetched in ranges over ``connections`` at once; 1 never does that.

    ``offline``: no connection is made, and what would need one fails.  ``proxies``: the ways out of
    this network; None for none.
    """

    tls_verify: bool = True
    cert_dir: Path | None = None
    cert_search: tuple[Path, ...] = ()
    user_agent: str = "kstore"
    connect_timeout: float = 15.0
    response_timeout: float = 60.0
    idle_timeout: float = 30.0
    minimum_speed: int = 1024
    minimum_speed_window: float = 60.0
    attempts: int = 6
    backoff_base: float = 0.5
    backoff_cap: float = 60.0
    upload_chunk: int | None = None
    connections: int = 4
    slow_speed: int = 32 << 20
    slow_after: float = 1.0
    offline: bool = False
    proxies: Proxies | None = None


def not_asked(doing: str) -> RemoteError:
    """The error of a request that is not made while the network is off; ``doing`` is an
    infinitive that says what it was for."""
    return RemoteError(
        f"cannot {doing}: no server is asked because of --offline",
        hint="run it again without --offline and KSTORE_OFFLINE",
    )
