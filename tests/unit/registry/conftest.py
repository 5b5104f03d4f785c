"""A misbehaving registry and clients that give up soon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kstore.registry import CredentialLookup, Credentials, RegistryClient, RegistrySettings
from kstore.streams import Cancel
from tests.support.faultserver import FaultServer

ClientFactory = Callable[..., RegistryClient]

_FAST = {
    "tls_verify": False,
    "connect_timeout": 3.0,
    "response_timeout": 1.0,
    "idle_timeout": 0.4,
    "minimum_speed": 1000,
    "minimum_speed_window": 0.6,
    "attempts": 4,
    "backoff_base": 0.01,
    "backoff_cap": 0.3,
}


def fast_settings(**changes: Any) -> RegistrySettings:
    return RegistrySettings(**{**_FAST, **changes})


def always(user: str = "ann", password: str = "s3cret-word") -> CredentialLookup:
    """A lookup that has the same credentials for everything."""
    return lambda host, path: Credentials(user, password)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture
def warnings() -> list[str]:
    """What the clients of this test warned of."""
    return []


@pytest.fixture
def make_client(warnings: list[str]) -> Iterator[ClientFactory]:
    made: list[RegistryClient] = []

    def make(
        server: FaultServer | str,
        lookup: CredentialLookup | None = None,
        *,
        cancel: Cancel | None = None,
        **changes: Any,
    ) -> RegistryClient:
        host = server if isinstance(server, str) else server.host
        client = RegistryClient(
            host, fast_settings(**changes), lookup, cancel=cancel, warn=warnings.append
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(server: FaultServer, make_client: ClientFactory) -> RegistryClient:
    return make_client(server)
