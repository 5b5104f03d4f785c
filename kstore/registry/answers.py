"""What an unwelcome answer means.

Source: OCI distribution specification 1.1, section "Error Codes".
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from kstore.errors import AuthError, KstoreError, RemoteError
from kstore.registry.retry import retry_after
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.registry.messages import Response

__all__ = ["MAX_ERROR_BODY", "TEMPORARY", "Refusal", "encoded_error", "plain_text"]

MAX_ERROR_BODY = 64 * 1024
#: Answers that say: later, perhaps.
TEMPORARY = frozenset({408, 429, 502, 503, 504})

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
_SHOWN = 300
_MAX_ERRORS = 8


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response that is not what was asked for: status, error codes, and the server's words.

    ``own``: it came from the registry itself, not from a host it redirected to.  ``wait``: the
    seconds it asks to be left alone, if it does.
    """

    status: int
    host: str
    codes: frozenset[str]
    words: str | None
    own: bool
    wait: float | None = None

    @classmethod
    def read(cls, response: Response, *, own: bool) -> Refusal:
        """Read (a bounded part of) the body and close."""
        wait = retry_after(response.header("Retry-After"))
        status, host = response.status, response.url.origin.netloc
        codes, words = _explain(response.read_start(MAX_ERROR_BODY))
        return cls(status, host, codes, words, own, wait)

    def error(self, doing: str, *, had_credentials: bool, registry: str) -> KstoreError:
        """The error for a request that was meant to be ``doing`` (a noun phrase)."""
        said = f": {self.words}" if self.words else ""
        if self.own and self.status in (401, 403):
            which = "the given credentials" if had_credentials else "anonymous access"
            return AuthError(
                f"{self.host} refuses {which} for {doing}{said}", hint=f"kstore login {registry}"
            )
        return RemoteError(
            f"{self.host} answered {self.status} to {doing}{said}",
            status=self.status,
            # A signed storage address that has expired answers 4xx; a fresh one may not.
            retryable=self.status in TEMPORARY
            or self.status == 500
            or (not self.own and 400 <= self.status < 500),
        )


def encoded_error(host: str, encoding: str) -> RemoteError:
    """The error for a body that is other bytes because somebody on the way encoded it."""
    return RemoteError(
        f"{host}, or a proxy before it, answers with Content-Encoding {plain_text(encoding)!r},"
        " although the bytes were asked for as they are",
        hint="keep the proxy from compressing what comes from below /v2/",
    )


def plain_text(text: str) -> str:
    """``text`` from outside, made fit for a terminal: one line, no control characters, bounded."""
    clean = " ".join(_CONTROL.sub(" ", text).split())
    return clean if len(clean) <= _SHOWN else clean[:_SHOWN] + "..."


def _explain(body: bytes) -> tuple[frozenset[str], str | None]:
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return frozenset(), None  # pages of proxies say nothing a user wants to read
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list):
        errors = [document]
    codes, words = [], []
    for error in errors[:_MAX_ERRORS]:
        if not isinstance(error, dict):
            continue
        code, message = error.get("code"), error.get("message") or error.get("details")
        if isinstance(code, str) and code:
            codes.append(plain_text(code).upper())
        if isinstance(message, str) and message.strip():
            words.append(plain_text(message))
    return frozenset(codes), (plain_text("; ".join(words or codes)) or None)
