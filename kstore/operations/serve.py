"""Be a registry over the store."""

from __future__ import annotations

from collections.abc import Callable

from kstore.server import AccessLine, RegistryServer, ServeSettings
from kstore.store import Store
from kstore.streams import Cancel

__all__ = ["serve_store"]


def serve_store(
    open_store: Callable[[], Store],
    settings: ServeSettings,
    *,
    ready: Callable[[str], None],
    log: Callable[[AccessLine], None] | None = None,
    cancel: Cancel,
) -> None:
    """Serve until ``cancel``; ``ready`` is told ``HOST:PORT`` once requests are answered.

    Raises InvalidInputError for settings that would expose the store without saying so, RemoteError
    if the address cannot be used, and StorageError if the store cannot.
    """
    with RegistryServer(open_store, settings, log=log) as server:
        open_store().close()  # a store that cannot be used shows before anybody asks for it
        ready(server.address)
        server.serve_forever(cancel)
