"""policy.json: what is understood, and everything that makes the whole file invalid."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.errors import InvalidInputError
from kstore.reference import Named
from kstore.signing.identities import (
    ExactReference,
    ExactRepository,
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    RemapIdentity,
)
from kstore.signing.policyfile import parse_policy
from kstore.signing.requirements import (
    InsecureAcceptAnything,
    Keys,
    Reject,
    SignedBaseLayer,
    SignedBy,
    SigstoreSigned,
)
from kstore.transports import validate_policy_scope

GPG = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/key"}
SIG = {"type": "sigstoreSigned", "keyPath": "/key"}
KEY = base64.b64encode(b"key").decode()


def parse(document: Any) -> Any:
    return parse_policy(json.dumps(document).encode(), "policy.json", validate_policy_scope)


def only(requirement: Any) -> Any:
    (found,) = parse({"default": [requirement]}).default
    return found


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ({"type": "insecureAcceptAnything"}, InsecureAcceptAnything()),
        ({"type": "reject"}, Reject()),
        (GPG, SignedBy(Keys(("/key",)), MatchRepoDigestOrExact())),
        (
            {**without(GPG, "keyPath"), "keyPaths": ["/a", "/b"]},
            SignedBy(Keys(("/a", "/b")), MatchRepoDigestOrExact()),
        ),
        (
            {**without(GPG, "keyPath"), "keyData": KEY},
            SignedBy(Keys(data=(b"key",)), MatchRepoDigestOrExact()),
        ),
        (
            {**without(GPG, "keyPath"), "keyData": f"{KEY[:2]}\n{KEY[2:]}\r\n"},
            SignedBy(Keys(data=(b"key",)), MatchRepoDigestOrExact()),
        ),
        (
            {**GPG, "keyType": "X509Certificates"},
            SignedBy(Keys(("/key",)), MatchRepoDigestOrExact(), "X509Certificates"),
        ),
        (SIG, SigstoreSigned(Keys(("/key",)), MatchRepoDigestOrExact())),
        (
            {**without(SIG, "keyPath"), "keyDatas": [KEY]},
            SigstoreSigned(Keys(data=(b"key",)), MatchRepoDigestOrExact()),
        ),
        (
            {"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}},
            SignedBaseLayer(MatchExact()),
        ),
    ],
)
def test_requirements_are_understood(requirement: Any, expected: Any) -> None:
    assert only(requirement) == expected
    scopes = {"a.org": [requirement], "b.org": [requirement, GPG]}
    found = parse({"default": [GPG], "transports": {"docker": scopes}}).transports["docker"]
    assert dict(found) == {"a.org": (expected,), "b.org": (expected, only(GPG))}


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ({"type": "matchExact"}, MatchExact()),
        ({"type": "matchRepoDigestOrExact"}, MatchRepoDigestOrExact()),
        ({"type": "matchRepository"}, MatchRepository()),
        (
            {"type": "exactReference", "dockerReference": "busybox:1"},
            ExactReference(Named.parse("busybox:1")),
        ),
        (
            {"type": "exactRepository", "dockerRepository": "a.org/b"},
            ExactRepository(Named.parse("a.org/b")),
        ),
        (
            {"type": "remapIdentity", "prefix": "a.org:5000", "signedPrefix": "b.org/x"},
            RemapIdentity("a.org:5000", "b.org/x"),
        ),
        (
            {"type": "remapIdentity", "prefix": "localhost", "signedPrefix": "b.org"},
            RemapIdentity("localhost", "b.org"),
        ),
    ],
)
def test_identities_are_understood(identity: Any, expected: Any) -> None:
    assert only({**GPG, "signedIdentity": identity}).identity == expected
    assert only({**SIG, "signedIdentity": identity}).identity == expected


FULCIO = {"caPath": "/ca", "oidcIssuer": "https://issuer.test", "subjectEmail": "me@example.org"}


@pytest.mark.parametrize(
    ("requirement", "needs"),
    [
        ({**SIG, "rekorPublicKeyPath": "/rekor"}, "rekor"),
        ({**SIG, "rekorPublicKeyDatas": [KEY]}, "rekor"),
        ({"type": "sigstoreSigned", "fulcio": FULCIO, "rekorPublicKeyData": KEY}, "Fulcio"),
        ({"type": "sigstoreSigned", "pki": {"caRootsPath": "/ca"}}, "authority"),
    ],
)
def test_what_kstore_does_not_check_is_understood_and_said(requirement: Any, needs: str) -> None:
    found = only(requirement)
    assert needs in found.beyond
    assert "accepts no image" in str(found)


def test_scopes_of_transports_nobody_knows_are_taken_as_they_are() -> None:
    document = parse({"default": [GPG], "transports": {"future": {"what ever": [GPG]}}})
    assert list(document.transports["future"]) == ["what ever"]


def test_scopes_that_differ_in_case_are_two() -> None:
    scopes = {"/a": [GPG], "/A": [GPG]}
    assert len(parse({"default": [GPG], "transports": {"dir": scopes}}).transports["dir"]) == 2


def _policy(requirement: Any) -> dict[str, Any]:
    return {"default": [requirement]}


def _identity(**identity: Any) -> dict[str, Any]:
    return _policy({**GPG, "signedIdentity": identity})


BAD: dict[str, Any] = {
    "a list": [],
    "empty": {},
    "no default": {"transports": {}},
    "an unknown key": {"default": [GPG], "more": 1},
    "another case": {"Default": [GPG]},
    "no requirement": {"default": []},
    "a requirement alone": {"default": GPG},
    "null": {"default": None},
    "null as transports": {"default": [GPG], "transports": None},
    "a list of transports": {"default": [GPG], "transports": []},
    "null as scopes": {"default": [GPG], "transports": {"docker": None}},
    "no requirement of a scope": {"default": [GPG], "transports": {"docker": {"": []}}},
    "a text as requirement": _policy("reject"),
    "no type": _policy({"keyPath": "/key"}),
    "an unknown type": _policy({"type": "trust"}),
    "a list as type": _policy({"type": ["reject"]}),
    "more in accept": _policy({"type": "insecureAcceptAnything", "keyPath": "/key"}),
    "more in reject": _policy({"type": "reject", "why": "x"}),
    "more in signedBy": _policy({**GPG, "more": 1}),
    "no key": _policy(without(GPG, "keyPath")),
    "two keys": _policy({**GPG, "keyData": KEY}),
    "no key type": _policy(without(GPG, "keyType")),
    "an unknown key type": _policy({**GPG, "keyType": "gpgkeys"}),
    "an empty path": _policy({**GPG, "keyPath": ""}),
    "a number as path": _policy({**GPG, "keyPath": 5}),
    "no paths": _policy({**without(GPG, "keyPath"), "keyPaths": []}),
    "a path as paths": _policy({**without(GPG, "keyPath"), "keyPaths": "/key"}),
    "data that is not base64": _policy({**without(GPG, "keyPath"), "keyData": "no!"}),
    "null as identity": _policy({**GPG, "signedIdentity": None}),
    "an unknown identity": _identity(type="matchAnything"),
    "more in an identity": _identity(type="matchExact", more=1),
    "no reference": _identity(type="exactReference"),
    "a reference without a tag": _identity(type="exactReference", dockerReference="busybox"),
    "a reference that is none": _identity(type="exactReference", dockerReference="Busy:box:"),
    "a repository that is none": _identity(type="exactRepository", dockerRepository="UPPER"),
    "no prefix": _identity(type="remapIdentity", signedPrefix="b.org"),
    "a prefix with a tag": _identity(
        type="remapIdentity", prefix="a.org/b:1", signedPrefix="b.org"
    ),
    "a short prefix": _identity(type="remapIdentity", prefix="a/b", signedPrefix="b.org"),
    "a prefix that ends in /": _identity(type="remapIdentity", prefix="a.org/", signedPrefix="b"),
    "a signed prefix that is empty": _identity(type="remapIdentity", prefix="a", signedPrefix=""),
    "no sigstore key": _policy({"type": "sigstoreSigned"}),
    "key and fulcio": _policy({**SIG, "fulcio": FULCIO}),
    "fulcio without rekor": _policy({"type": "sigstoreSigned", "fulcio": FULCIO}),
    "fulcio without an authority": _policy(
        {
            "type": "sigstoreSigned",
            "fulcio": without(FULCIO, "caPath"),
            "rekorPublicKeyData": KEY,
        }
    ),
    "more in fulcio": _policy(
        {"type": "sigstoreSigned", "fulcio": {**FULCIO, "x": "y"}, "rekorPublicKeyData": KEY}
    ),
    "two keys of rekor": _policy({**SIG, "rekorPublicKeyPath": "/a", "rekorPublicKeyData": KEY}),
    "pki with rekor": _policy(
        {"type": "sigstoreSigned", "pki": {"caRootsPath": "/ca"}, "rekorPublicKeyPath": "/a"}
    ),
    "pki without roots": _policy({"type": "sigstoreSigned", "pki": {}}),
    "no base layer": _policy({"type": "signedBaseLayer"}),
    "a relative path as scope": {"default": [GPG], "transports": {"dir": {"a": [GPG]}}},
    "the root as scope": {"default": [GPG], "transports": {"oci": {"/": [GPG]}}},
    "a path with dots as scope": {"default": [GPG], "transports": {"dir": {"/a/../b": [GPG]}}},
    "a scope of the store": {"default": [GPG], "transports": {"kstore": {"app": [GPG]}}},
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_not_understood_makes_the_file_invalid(what: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^policy\.json is not a(.* valid trust| JSON)"):
        parse(BAD[what])


@pytest.mark.parametrize("what", [what for what, bad in BAD.items() if [*bad] == ["default"]])
def test_every_scope_is_checked_whichever_is_asked_for(what: str) -> None:
    bad = BAD[what]["default"]
    scopes = {"b.org": [GPG], "c.org": [GPG, SIG], "d.org": [GPG, SIG], "a.org": bad, "e.org": bad}
    with pytest.raises(InvalidInputError, match=r"transports\.docker\.'a\.org'"):
        parse({"default": [GPG], "transports": {"docker": scopes}})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not valid JSON"),
        (b'{"default": [{"type": "reject"}]} {}', "line 1 column 35"),
        (b'{\n"default": [\n', "line 3"),
        (b'{"default": [{"type": "reject"}], "default": [{"type": "reject"}]}', "appears twice"),
        (b'{"default": [{"type": "reject", "type": "insecureAcceptAnything"}]}', "appears twice"),
        (b'{"default": ' + b"[" * 100 + b"]" * 100 + b"}", "nested deeper"),
        (b'\xff{"default": [{"type": "reject"}]}', "not UTF-8"),
    ],
)
def test_what_is_no_json_is_said_with_its_place(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        parse_policy(data, "policy.json")


WORDS = [
    *("default", "transports", "docker", "dir", "", "/a", "type", "keyType", "GPGKeys", "keyPath"),
    *("keyPaths", "keyData", "signedIdentity", "prefix", "signedPrefix", "fulcio", "pki", "a.org"),
    *("signedBy", "sigstoreSigned", "reject", "matchExact", "remapIdentity", "exactReference"),
    *("dockerReference", "dockerRepository", "rekorPublicKeyData", "baseLayerIdentity", KEY),
]
VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1.5, *WORDS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner),
    max_leaves=20,
)


@given(VALUES, st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=5))
def test_whatever_stands_in_a_policy_it_is_understood_or_invalid(value: Any, more: Any) -> None:
    for document in (
        value,
        {"default": [more]},
        {"default": [GPG | more]},
        {"default": [SIG | more]},
    ):
        with contextlib.suppress(InvalidInputError):
            assert parse(document).default
