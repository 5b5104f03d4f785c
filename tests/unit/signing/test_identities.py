"""Which names a signature is accepted for."""

from __future__ import annotations

import pytest

from kstore.reference import Named
from kstore.signing.identities import (
    ExactReference,
    ExactRepository,
    Identity,
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    RemapIdentity,
)

D = "sha256:" + "a" * 64
E = "sha256:" + "b" * 64
REMAP = RemapIdentity("mirror.example.org/vendor", "vendor.example.org")

CASES = [
    (MatchExact(), "busybox:1", "docker.io/library/busybox:1", True),
    (MatchExact(), "busybox:1", "busybox:1", True),
    (MatchExact(), "busybox:1", "busybox:2", False),
    (MatchExact(), "busybox:1", "busybox", False),
    (MatchExact(), "busybox", "busybox", False),
    (MatchExact(), "busybox:1", f"busybox@{D}", False),
    (MatchExact(), f"busybox@{D}", f"busybox@{D}", True),
    (MatchExact(), f"busybox@{D}", f"busybox@{E}", False),
    (MatchExact(), f"busybox@{D}", "busybox:1", False),
    (MatchExact(), f"busybox:1@{D}", "busybox:1", True),
    (MatchExact(), f"busybox:1@{D}", f"busybox:1@{D}", True),
    (MatchExact(), f"busybox:1@{D}", f"busybox:1@{E}", False),
    (MatchExact(), f"busybox:1@{D}", "busybox:2", False),
    (MatchExact(), "busybox:1", "Busybox:1", False),
    (MatchExact(), "busybox:1", "", False),
    (MatchExact(), None, "busybox:1", False),
    (MatchRepoDigestOrExact(), "busybox:1", "busybox:1", True),
    (MatchRepoDigestOrExact(), "busybox:1", "busybox:2", False),
    (MatchRepoDigestOrExact(), f"busybox@{D}", "busybox:1", True),
    (MatchRepoDigestOrExact(), f"busybox@{D}", f"busybox@{E}", True),
    (MatchRepoDigestOrExact(), f"busybox@{D}", "busybox", False),
    (MatchRepoDigestOrExact(), f"busybox@{D}", "other:1", False),
    (MatchRepoDigestOrExact(), f"busybox:1@{D}", "busybox:1", True),
    (MatchRepoDigestOrExact(), f"busybox:1@{D}", "busybox:2", False),
    (MatchRepoDigestOrExact(), None, "busybox:1", False),
    (MatchRepository(), "busybox:1", "busybox:2", True),
    (MatchRepository(), "busybox:1", "busybox", True),
    (MatchRepository(), "busybox:1", "other:1", False),
    (MatchRepository(), "example.org/a/b:1", "example.org/a:1", False),
    (MatchRepository(), None, "busybox", False),
    (ExactReference(Named.parse("busybox:1")), "other:2", "busybox:1", True),
    (ExactReference(Named.parse("busybox:1")), None, "busybox:1", True),
    (ExactReference(Named.parse("busybox:1")), "busybox:1", "busybox:2", False),
    (ExactReference(Named.parse("busybox:1")), "busybox:1", "no name!", False),
    (ExactRepository(Named.parse("busybox")), None, "busybox:2", True),
    (ExactRepository(Named.parse("busybox")), None, "busybox", True),
    (ExactRepository(Named.parse("busybox")), "busybox:1", "other:1", False),
    (REMAP, "mirror.example.org/vendor/app:1", "vendor.example.org/app:1", True),
    (REMAP, "mirror.example.org/vendor/app:1", "mirror.example.org/vendor/app:1", False),
    (REMAP, "mirror.example.org/vendor/app:1", "vendor.example.org/app:2", False),
    (REMAP, f"mirror.example.org/vendor/app@{D}", "vendor.example.org/app:2", True),
    (REMAP, "mirror.example.org/vendors/app:1", "vendor.example.org/s/app:1", False),
    (REMAP, "mirror.example.org/vendors/app:1", "mirror.example.org/vendors/app:1", True),
    (REMAP, "elsewhere.example.org/app:1", "elsewhere.example.org/app:1", True),
    (REMAP, "mirror.example.org/vendor:1", "vendor.example.org/:1", False),
    (REMAP, None, "vendor.example.org/app:1", False),
    (RemapIdentity("a.org", "b.org"), "a.org/x:1", "b.org/x:1", True),
    (RemapIdentity("a.org", "b.org"), "a.org:5000/x:1", "b.org:5000/x:1", False),
    (RemapIdentity("a.org/x/y", "b.org/z"), "a.org/x/y:1", "b.org/z:1", True),
]


@pytest.mark.parametrize(("identity", "wanted", "signed", "expected"), CASES)
def test_a_name_is_accepted_or_not(
    identity: Identity, wanted: str | None, signed: str, expected: bool
) -> None:
    name = None if wanted is None else Named.parse(wanted)
    assert identity.matches(name, signed) is expected


@pytest.mark.parametrize(
    "identity", list(dict.fromkeys(case[0] for case in CASES)), ids=lambda i: type(i).__name__
)
def test_every_identity_says_what_it_wants(identity: Identity) -> None:
    assert str(identity).startswith("for ")
