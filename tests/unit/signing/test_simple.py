"""What may stand in a payload."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.digest import Digest
from kstore.signing.claim import BadSignatureError, Claim
from kstore.signing.simple import MAX_PAYLOAD, make_payload, parse_payload

DIGEST = Digest.of(b"manifest")


def document() -> dict[str, Any]:
    return json.loads(make_payload(DIGEST, "a.org/b:1", creator="me", timestamp=5))


def test_a_payload_says_what_it_was_made_of() -> None:
    data = make_payload(DIGEST, "a.org/b:1", creator="kstore 1", timestamp=1700000000)
    assert parse_payload(data) == Claim("a.org/b:1", DIGEST)
    assert json.loads(data)["optional"] == {"creator": "kstore 1", "timestamp": 1700000000}


def _set(*path: str, to: Any = None, drop: bool = False) -> bytes:
    value = document()
    *outer, last = path
    inner = value
    for key in outer:
        inner = inner[key]
    if drop:
        del inner[last]
    else:
        inner[last] = to
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "data",
    [
        _set("optional", to={}),
        _set("optional", "other", to={"deep": [1], "Deep": None}),
        _set("optional", "timestamp", to=5.0),
        _set("optional", "timestamp", to=-1),
        b" \n" + _set("optional", to={}) + b"\n",
    ],
)
def test_whatever_is_optional_is_allowed(data: bytes) -> None:
    assert parse_payload(data) == Claim("a.org/b:1", DIGEST)


BAD = {
    "empty": b"",
    "no JSON": b"nonsense",
    "a list": b"[]",
    "trailing data": json.dumps(document()).encode() + b"{}",
    "a key twice": b'{"optional": {}, ' + json.dumps(document()).encode()[1:],
    "a key twice below": json.dumps(document())
    .replace('"docker-reference"', '"docker-reference": "x", "docker-reference"')
    .encode(),
    "one more key": _set("more", to=1),
    "one more critical key": _set("critical", "more", to=1),
    "one more image key": _set("critical", "image", "more", to=1),
    "one more identity key": _set("critical", "identity", "more", to=1),
    "no optional": _set("optional", drop=True),
    "no critical": _set("critical", drop=True),
    "no type": _set("critical", "type", drop=True),
    "no digest": _set("critical", "image", "docker-manifest-digest", drop=True),
    "no reference": _set("critical", "identity", "docker-reference", drop=True),
    "another type": _set("critical", "type", to="cosign container image signature"),
    "another case": json.dumps(document()).replace('"critical"', '"Critical"').encode(),
    "a digest that is none": _set("critical", "image", "docker-manifest-digest", to="sha256:x"),
    "a path as digest": _set("critical", "image", "docker-manifest-digest", to="sha256:../../x"),
    "a digest of a number": _set("critical", "image", "docker-manifest-digest", to=5),
    "a reference that is null": _set("critical", "identity", "docker-reference", to=None),
    "a creator of a number": _set("optional", "creator", to=5),
    "a timestamp of text": _set("optional", "timestamp", to="5"),
    "a timestamp that is true": _set("optional", "timestamp", to=True),
    "half a second": _set("optional", "timestamp", to=5.5),
    "beyond all time": _set("optional", "timestamp", to=1e300),
    "optional is a list": _set("optional", to=[]),
    "optional is null": _set("optional", to=None),
    "not finite": _set("optional", "x", to=float("nan")),
    "too deep": _set("optional", "x", to=json.loads("[" * 70 + "]" * 70)),
    "too large": _set("optional", "x", to="x" * MAX_PAYLOAD),
    "not UTF-8": json.dumps(document()).replace("me", "\udce4").encode(errors="surrogateescape"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_not_exactly_a_payload_is_refused(what: str) -> None:
    with pytest.raises(BadSignatureError) as raised:
        parse_payload(BAD[what])
    assert len(str(raised.value)) < 400


KEYS = ["critical", "optional", "type", "image", "identity", "docker-manifest-digest", "creator"]
VALUES = st.recursive(
    st.sampled_from([None, True, 1, 0.5, "atomic container signature", str(DIGEST)]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=15,
)


@given(st.binary(max_size=50) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_claim_or_a_bad_signature(data: bytes) -> None:
    with contextlib.suppress(BadSignatureError):
        assert isinstance(parse_payload(data), Claim)
