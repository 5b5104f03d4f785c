"""What the signatures of a Docker schema 1 manifest were made over.

A signed manifest is its payload with a block of signatures put in before the end.  Each signature
says, in its protected header, how many bytes of the document to take (``formatLength``) and what to
put behind them (``formatTail``) to get the payload back; the manifest's digest is the payload's.
The signatures themselves are not checked: nobody trusts the keys they were made with.

Source: Docker image manifest version 2 schema 1, "Signed Manifests"; RFC 7515.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

__all__ = ["signed_payload"]

_MAX_SIGNATURES = 64
_MAX_HEADER = 64 * 1024


def signed_payload(document: dict[str, Any], data: bytes) -> bytes | None:
    """The bytes that were signed; None if ``document`` (the parsed ``data``) is not signed, or its
    signatures do not agree on what they are for."""
    signatures = document.get("signatures")
    if not isinstance(signatures, list) or not 0 < len(signatures) <= _MAX_SIGNATURES:
        return None
    payloads = {_payload(signature, data) for signature in signatures}
    return payloads.pop() if len(payloads) == 1 else None


def _payload(signature: Any, data: bytes) -> bytes | None:
    protected = signature.get("protected") if isinstance(signature, dict) else None
    if not isinstance(protected, str) or len(protected) > _MAX_HEADER:
        return None
    try:
        header = json.loads(_decoded(protected))
        length, tail = header["formatLength"], _decoded(header["formatTail"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(length, int) or not 0 < length <= len(data):
        return None
    return data[:length] + tail


def _decoded(text: str) -> bytes:
    """base64url without padding."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, AttributeError) as exc:
        raise ValueError(text) from exc
