"""What a server is told before it starts, and what it tells while it runs."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from kstore.values import dataclass

__all__ = ["AccessLine", "Limits", "ServeSettings"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what clients can make the server spend; times in seconds, sizes in bytes.

    ``patience`` is how long a client may take for a request head, for the next 16 KiB of a body,
    for the next 16 KiB of an answer, and between two requests.  ``upload_age`` is how long an
    upload may rest between two requests.  ``linger`` is how long requests under way may go on when
    the server stops.
    """

    patience: float = 30.0
    connections: int = 64
    uploads: int = 100
    upload_age: float = 3600.0
    page: int = 1000
    linger: float = 2.0


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Where and to whom to serve.

    ``port`` 0 lets the system choose.  ``htpasswd`` is an Apache password file; without it
    everybody who reaches the port may do everything, so an address other machines can reach is
    refused unless ``insecure_no_auth`` says that this is meant.  ``max_upload`` is the largest blob
    taken, in bytes; None leaves free disk space as the only limit.
    """

    host: str = "127.0.0.1"
    port: int = 0
    read_only: bool = False
    htpasswd: Path | None = None
    insecure_no_auth: bool = False
    max_upload: int | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class AccessLine:
    """One request that was answered, or broke off.

    ``status`` is None when no answer could be sent; ``received`` and ``sent`` count body bytes;
    ``error`` is what the answer said, or what went wrong.
    """

    client: str
    user: str | None
    method: str
    path: str
    status: int | None
    received: int
    sent: int
    seconds: float
    error: str | None
