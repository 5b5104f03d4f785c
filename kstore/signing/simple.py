"""The payload of a signature: which manifest is vouched for, and under which name.

Source: containers-signature(5), whose form sigstore signatures have, too.  Field names are
case-sensitive, nothing may be added to ``critical``, and everything may be in ``optional`` except a
creator or a time of another type.
"""

from __future__ import annotations

import json
from typing import Any

from kstore import strictjson
from kstore.digest import Digest
from kstore.errors import InvalidDigestError, InvalidManifestError
from kstore.signing.claim import BadSignatureError, Claim

__all__ = ["MAX_PAYLOAD", "make_payload", "parse_payload"]

#: Most bytes of a payload; real ones have some hundred.
MAX_PAYLOAD = 1 << 20

_TYPE = "atomic container signature"
_MAX_TIMESTAMP = 2**63


def make_payload(
    digest: Digest, reference: str, *, creator: str, timestamp: int, kind: str = _TYPE
) -> bytes:
    """The payload for the manifest ``digest`` under the name ``reference``; ``timestamp`` is in
    seconds since 1970, ``kind`` the type of signature."""
    payload = {
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": str(digest)},
            "type": kind,
        },
        "optional": {"creator": creator, "timestamp": timestamp},
    }
    return json.dumps(payload, separators=(",", ":")).encode()


def parse_payload(data: bytes, kind: str = _TYPE, *, bare: bool = False) -> Claim:
    """What a payload claims; BadSignatureError if it is not exactly one of ``kind``.

    ``bare``: ``optional`` may be null.
    """
    try:
        document = strictjson.loads(data, "its payload", cap=MAX_PAYLOAD, exact_keys=True)
    except InvalidManifestError as exc:
        raise BadSignatureError(f"is not in order: {exc.message}") from exc
    if bare and isinstance(document, dict) and document.get("optional", "") is None:
        document["optional"] = {}
    top = _fields(document, "", {"critical": dict, "optional": dict})
    critical = _fields(top["critical"], "critical", {"type": str, "image": dict, "identity": dict})
    image = _fields(critical["image"], "critical.image", {"docker-manifest-digest": str})
    identity = _fields(critical["identity"], "critical.identity", {"docker-reference": str})
    if critical["type"] != kind:
        raise BadSignatureError(f"is of type {critical['type']!r:.100}, not {kind!r}")
    _check_optional(top["optional"])
    try:
        digest = Digest.parse(image["docker-manifest-digest"])
    except InvalidDigestError as exc:
        raise BadSignatureError(f"names a manifest by no digest: {exc.message}") from exc
    return Claim(identity["docker-reference"], digest)


def _fields(value: Any, where: str, fields: dict[str, type]) -> dict[str, Any]:
    """``value`` if it is an object with exactly these fields."""
    where = where or "the payload"
    if not isinstance(value, dict):
        raise BadSignatureError(f"has a payload in which {where} is not an object")
    if value.keys() != fields.keys():
        wrong = sorted(value.keys() ^ fields.keys())[0]
        kind = "an unknown" if wrong in value else "no"
        raise BadSignatureError(f"has a payload with {kind} {wrong!r:.100} in {where}")
    for name, kind_of in fields.items():
        if not isinstance(value[name], kind_of):
            raise BadSignatureError(f"has a payload with a {name!r} of the wrong type")
    return value


def _check_optional(optional: dict[str, Any]) -> None:
    creator, timestamp = optional.get("creator", ""), optional.get("timestamp", 0)
    if not isinstance(creator, str):
        raise BadSignatureError("has a payload whose creator is not text")
    whole = isinstance(timestamp, int) or (isinstance(timestamp, float) and timestamp.is_integer())
    if isinstance(timestamp, bool) or not whole or abs(timestamp) >= _MAX_TIMESTAMP:
        raise BadSignatureError("has a payload whose timestamp is not a whole number")
