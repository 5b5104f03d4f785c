"""Sigstore signatures: made here, verified here, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kstore.digest import Digest
from kstore.errors import InvalidInputError, PolicyRejectedError
from kstore.signature import parse_signature
from kstore.signing.claim import BadSignatureError, Claim
from kstore.signing.sigstore import ANNOTATION, SigstoreSigner, sign, verify
from tests.support.sigstorekeys import KINDS, key_pair, signed

DIGEST = Digest.of(b"a manifest")
NAME = "quay.io/team/app:1"


def payload(**changes: Any) -> dict[str, Any]:
    """What cosign would sign, with changes at the top."""
    document = {
        "critical": {
            "identity": {"docker-reference": NAME},
            "image": {"docker-manifest-digest": str(DIGEST)},
            "type": "cosign container image signature",
        },
        "optional": None,
    }
    return {**document, **changes}


def critical(**changes: Any) -> dict[str, Any]:
    """The same with changes in its critical part."""
    return payload(critical={**payload()["critical"], **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_by_a_key_claims_what_was_signed(kind: str) -> None:
    private, public = key_pair(kind)
    signature = sign(private, None, DIGEST, NAME)
    assert verify(signature, [public]) == Claim(NAME, DIGEST)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_payload_is_no_longer_what_was_signed(kind: str) -> None:
    private, public = key_pair(kind)
    signature = sign(private, None, DIGEST, NAME)
    changed = replace(signature, payload=signature.payload.replace(b"team", b"evil"))
    with pytest.raises(BadSignatureError, match="was not made with the accepted key"):
        verify(changed, [public])


def test_a_signature_survives_the_form_in_which_it_is_kept() -> None:
    private, public = key_pair("ec")
    signature = SigstoreSigner(private, None).sign(DIGEST, NAME)
    kept = parse_signature(signature.to_bytes(), "a signature")
    assert kept == signature
    assert verify(signature, [public]).manifest_digest == DIGEST


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ec"])
def test_a_key_of_another_kind_does_not_fit(kind: str) -> None:
    with pytest.raises(BadSignatureError, match="was not made with the accepted key"):
        verify(sign(key_pair("ec")[0], None, DIGEST, NAME), [key_pair(kind)[1]])


def test_one_of_several_keys_is_enough_and_none_of_them_is_not() -> None:
    signature = sign(key_pair("ec")[0], None, DIGEST, NAME)
    others = [key_pair("other")[1], key_pair("rsa")[1]]
    assert verify(signature, [*others, key_pair("ec")[1]]) == Claim(NAME, DIGEST)
    with pytest.raises(BadSignatureError, match="any of the accepted keys"):
        verify(signature, others)


def test_without_any_key_nothing_is_accepted() -> None:
    with pytest.raises(PolicyRejectedError, match="no public key"):
        verify(signed(b"{}"), [])


def test_a_key_that_cannot_be_read_is_no_reason_to_go_on() -> None:
    with pytest.raises(InvalidInputError):
        verify(signed(b"{}"), [key_pair("ec")[1], b"no key"])


def test_the_payload_is_not_looked_at_before_its_signature_is_good() -> None:
    for data in (b"\xff not JSON", json.dumps(payload()).encode()):
        with pytest.raises(BadSignatureError, match="was not made with the accepted key"):
            verify(replace(signed(b"something else"), payload=data), [key_pair("ec")[1]])


@pytest.mark.parametrize(
    "annotations",
    [{}, {ANNOTATION: ""}, {ANNOTATION: "%%"}, {ANNOTATION: "AAAA"}, {ANNOTATION: "ü"}],
    ids=["none", "empty", "not-base64", "not-a-signature", "not-ascii"],
)
def test_without_a_proper_signature_there_is_none(annotations: dict[str, str]) -> None:
    with pytest.raises(BadSignatureError):
        verify(replace(signed(b"{}"), annotations=annotations), [key_pair("ec")[1]])


@pytest.mark.parametrize(
    "optional",
    [None, {}, {"creator": "x", "timestamp": 5}, {"timestamp": 5.0}, {"anything": [1, "two"]}],
    ids=["null", "empty", "usual", "float", "more"],
)
def test_what_is_optional_may_be_anything(optional: Any) -> None:
    data = json.dumps(payload(optional=optional)).encode()
    assert verify(signed(data), [key_pair("ec")[1]]) == Claim(NAME, DIGEST)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        payload(more=1),
        {"critical": payload()["critical"]},
        payload(critical=[]),
        payload(optional="text"),
        payload(optional={"creator": 5}),
        payload(optional={"timestamp": "now"}),
        payload(optional={"timestamp": 1.5}),
        payload(optional={"timestamp": True}),
        payload(optional={"timestamp": 1e300}),
        critical(more=1),
        critical(type="atomic container signature"),
        critical(type=None),
        critical(image={}),
        critical(image={"docker-manifest-digest": "sha256:0"}),
        critical(image={"docker-manifest-digest": None}),
        critical(image={"docker-manifest-digest": str(DIGEST), "more": 1}),
        critical(identity={"docker-reference": 5}),
        critical(identity={"docker-reference": NAME, "more": 1}),
        critical(identity=NAME),
    ],
    ids=str,
)
def test_a_good_signature_of_something_else_is_not_accepted(document: Any) -> None:
    with pytest.raises(BadSignatureError, match="of something else than an image"):
        verify(signed(json.dumps(document).encode()), [key_pair("ec")[1]])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "{}",
        lambda text: text[:-1],
        lambda text: text.replace('"optional"', '"Optional"'),
        lambda text: text.replace('"type"', '"type": "x", "type"'),
        lambda text: text.replace("null", "NaN"),
    ],
    ids=["trailing", "cut", "spelling", "twice", "not-a-number"],
)
def test_json_that_could_mean_two_things_is_not_accepted(change: Any) -> None:
    data = change(json.dumps(payload())).encode()
    with pytest.raises(BadSignatureError, match="of something else than an image"):
        verify(signed(data), [key_pair("ec")[1]])
