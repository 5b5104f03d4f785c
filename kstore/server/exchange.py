"""What a handler works with: one request, the store, and what all connections share."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from kstore.digest import Digest
from kstore.errors import InvalidDigestError, InvalidReferenceError
from kstore.reference import Named
from kstore.server.htpasswd import Accounts
from kstore.server.http import Request
from kstore.server.names import repositories_for
from kstore.server.responses import Refusal
from kstore.server.sessions import Uploads
from kstore.server.settings import ServeSettings
from kstore.store import Lease, Store
from kstore.values import dataclass

__all__ = ["Exchange", "Service", "digest_of", "meanings_of"]


@dataclass(frozen=True, slots=True)
class Service:
    """What all connections of a server share.

    ``uploads`` are the open sessions, and ``lease_id`` is the server's lease, which keeps uploaded
    blobs until their manifest arrives; None while serving read-only.
    """

    settings: ServeSettings
    accounts: Accounts | None
    uploads: Uploads | None
    lease_id: int | None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request on its way to an answer, in the thread of its connection."""

    request: Request
    service: Service
    open_store: Callable[[], Store]

    @property
    def store(self) -> Store:
        """The connection's own store; opened by the first request that needs it."""
        return self.open_store()

    @property
    def uploads(self) -> Uploads:
        """The open upload sessions."""
        if self.service.uploads is None:
            raise _read_only()
        return self.service.uploads

    def lease(self) -> Lease:
        """The server's lease, for use in this thread."""
        if self.service.lease_id is None:
            raise _read_only()
        return self.store.join_lease(self.service.lease_id)


def digest_of(text: str) -> Digest:
    """Parse a digest of a URL; Refusal DIGEST_INVALID."""
    try:
        return Digest.parse(text)
    except InvalidDigestError as exc:
        raise Refusal(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", exc.message) from exc


def meanings_of(path: str) -> tuple[Named, ...]:
    """The repositories a path may mean, most wanted first; Refusal NAME_INVALID."""
    try:
        return repositories_for(path)
    except InvalidReferenceError as exc:
        raise Refusal(HTTPStatus.BAD_REQUEST, "NAME_INVALID", exc.message) from exc


def _read_only() -> Refusal:
    return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only")
