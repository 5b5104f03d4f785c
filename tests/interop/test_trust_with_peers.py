"""The same policy, signature and reference: skopeo and kstore come to the same verdict.

Policies and signatures are made here; skopeo and kstore each copy the image from a registry on
loopback, whose signatures are in a lookaside directory.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kstore.app import App, RegistryOptions, SigningOptions, TrustOptions
from kstore.copier import CopyOptions
from kstore.digest import Digest
from kstore.errors import InvalidInputError, PolicyRejectedError
from kstore.operations.copy import copy
from kstore.operations.standalone import sign_file, verify_file
from kstore.settings import Settings, load
from kstore.signing.simple import make_payload
from kstore.store import Store
from tests.support.gpgkeys import GpgHome
from tests.support.images import AMD64, ARM64, index_of, random_image
from tests.support.localregistry import serve
from tests.support.podman import Podman
from tests.support.programs import require_program

pytestmark = [pytest.mark.peer, pytest.mark.timeout(300)]

IMAGE = random_image(1)
OTHER = random_image(2)
MEMBERS = [random_image(3, platform=AMD64), random_image(4, platform=ARM64)]
INDEX = index_of(MEMBERS)
VENDOR = "vendor.example.org/app"


@dataclass(frozen=True)
class World:
    """A registry with images, keys, and a lookaside directory for every set of signatures."""

    place: Path
    host: str
    home: GpgHome
    alice: str
    bob: str
    expired: str

    @property
    def repository(self) -> str:
        return f"{self.host}/team/app"

    def key(self, name: str) -> Path:
        """The file of a public key."""
        file = self.place / f"{name}.gpg"
        if not file.exists():
            file.write_bytes(self.home.export(getattr(self, name), armor=name != "bob"))
        return file

    def signed(self, key: str, reference: str, digest: Digest = IMAGE.raw.digest) -> bytes:
        payload = make_payload(digest, reference, creator="test", timestamp=1)
        at = "20200101T000000" if key == "expired" else None
        return self.home.sign(payload, getattr(self, key), at=at)

    def lookaside(self, name: str, *signatures: tuple[Digest, list[bytes]]) -> Path:
        """A registries.d for which these are the signatures."""
        directory = self.place / "registries.d" / name
        if not directory.exists():
            directory.mkdir(parents=True)
            files = self.place / "lookaside" / name
            for digest, items in signatures:
                at = files / f"team/app@sha256={digest.hex}"
                at.mkdir(parents=True)
                for number, data in enumerate(items, 1):
                    (at / f"signature-{number}").write_bytes(data)
            text = f"docker:\n  {self.host}:\n    lookaside: {files.as_uri()}\n"
            (directory / "test.yaml").write_text(text)
        return directory


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("trust")
    with serve(place / "registry") as registry, GpgHome() as home:
        registry.push("team/app", "1", IMAGE)
        for member in MEMBERS:
            registry.push("team/app", str(member.raw.digest), member)
        assert registry.push_manifest("team/app", "index", INDEX).status == 201
        yield World(
            place,
            registry.host,
            home,
            alice=home.make("Alice <alice@example.org>"),
            bob=home.make("Bob <bob@example.org>", kind="rsa2048"),
            expired=home.make("Exp <exp@example.org>", expires="1d", at="20200101T000000"),
        )


# ---- the verdicts


def by_skopeo(
    world: World, reference: str, policy: Path, registries_d: Path, target: Path, *more: str
) -> bool:
    command = [require_program("skopeo"), "--policy", policy, "--registries.d", registries_d]
    command += ["copy", "--quiet", "--src-tls-verify=false", *more, reference, f"dir:{target}"]
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == 0:
        return True
    reasons = ("rejected", "policy", "signature", "Signature", "Invalid", "Unknown")
    assert any(word in done.stderr for word in reasons), done.stderr
    return False


def settings(registries_d: Path, root: Path) -> Settings:
    return replace(load({}, root=root), registries_d=(registries_d,), policy_files=())


def by_kstore(
    world: World, reference: str, policy: Path, registries_d: Path, target: Path, **wishes: Any
) -> bool:
    app = App(settings(registries_d, target.parent / "root"))
    trust = app.trust_policy(TrustOptions(policy=policy))

    def no_store() -> Store:
        raise AssertionError("no store is needed")

    with app.transports(no_store, RegistryOptions(tls_verify=False)) as transports:
        source, destination = transports.parse(reference), transports.parse(f"dir:{target}")
        try:
            copy(source, destination, CopyOptions(**wishes), policy=trust)
        except (PolicyRejectedError, InvalidInputError):
            assert not target.exists()
            return False
    return True


def verdict(world: World, tmp_path: Path, reference: str, policy: Any, registries_d: Path) -> bool:
    """What both say; it must be the same."""
    file = tmp_path / "policy.json"
    file.write_text(policy if isinstance(policy, str) else json.dumps(policy))
    ours = by_kstore(world, reference, file, registries_d, tmp_path / "ours")
    theirs = by_skopeo(world, reference, file, registries_d, tmp_path / "theirs")
    assert ours == theirs
    return ours


# ---- the table


SIGNATURES = {
    "none": lambda w: [],
    "tag": lambda w: [w.signed("alice", f"{w.repository}:1")],
    "other tag": lambda w: [w.signed("alice", f"{w.repository}:2")],
    "digest": lambda w: [w.signed("alice", f"{w.repository}@{IMAGE.raw.digest}")],
    "bare name": lambda w: [w.signed("alice", w.repository)],
    "vendor": lambda w: [w.signed("alice", f"{VENDOR}:1")],
    "no name": lambda w: [w.signed("alice", "UPPER case")],
    "stranger": lambda w: [w.signed("bob", f"{w.repository}:1")],
    "expired": lambda w: [w.signed("expired", f"{w.repository}:1")],
    "other image": lambda w: [w.signed("alice", f"{w.repository}:1", OTHER.raw.digest)],
    "no payload": lambda w: [w.home.sign(b"{}", w.alice)],
    "bad, then good": lambda w: [
        w.signed("bob", f"{w.repository}:1"),
        w.signed("alice", f"{w.repository}:1"),
    ],
    "two": lambda w: [
        w.signed("alice", f"{w.repository}:1"),
        w.signed("bob", f"{w.repository}:1"),
    ],
}

IDENTITIES: dict[str, Any] = {
    "by default": lambda w: None,
    "matchExact": lambda w: {"type": "matchExact"},
    "matchRepository": lambda w: {"type": "matchRepository"},
    "exactReference": lambda w: {
        "type": "exactReference",
        "dockerReference": f"{w.repository}:1",
    },
    "exactRepository": lambda w: {"type": "exactRepository", "dockerRepository": VENDOR},
    "remapIdentity": lambda w: {
        "type": "remapIdentity",
        "prefix": f"{w.host}/team",
        "signedPrefix": "vendor.example.org",
    },
}

REFERENCES = {"tag": ":1", "digest": f"@{IMAGE.raw.digest}"}
IDENTITY_CASES = [
    (identity, signature, reference)
    for identity in IDENTITIES
    for signature in ("tag", "other tag", "digest", "bare name", "vendor")
    for reference in REFERENCES
]
#: What must come out, so that both being wrong in the same way shows: the accepted ones.
ACCEPTED = {
    *(("by default", "tag", ref) for ref in REFERENCES),
    ("by default", "other tag", "digest"),
    ("by default", "digest", "digest"),
    ("matchExact", "tag", "tag"),
    ("matchExact", "digest", "digest"),
    *(("matchRepository", sig, ref) for sig in SIGNATURES for ref in REFERENCES),
    *(("exactReference", "tag", ref) for ref in REFERENCES),
    *(("exactRepository", "vendor", ref) for ref in REFERENCES),
    *(("remapIdentity", "vendor", ref) for ref in REFERENCES),
} - {("matchRepository", "vendor", ref) for ref in REFERENCES}


def requirement(world: World, key: str = "alice", **more: Any) -> dict[str, Any]:
    return {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(world.key(key)), **more}


def scoped(world: World, *requirements: Any, scope: str | None = None) -> dict[str, Any]:
    name = world.repository if scope is None else scope
    return {
        "default": [{"type": "reject"}],
        "transports": {"docker": {name: list(requirements)}},
    }


def lookaside(world: World, signature: str) -> Path:
    return world.lookaside(
        signature.replace(" ", "-"), (IMAGE.raw.digest, SIGNATURES[signature](world))
    )


@pytest.mark.parametrize(("identity", "signature", "reference"), IDENTITY_CASES)
def test_identities_are_matched_as_skopeo_does(
    world: World, tmp_path: Path, identity: str, signature: str, reference: str
) -> None:
    wanted = IDENTITIES[identity](world)
    more = {} if wanted is None else {"signedIdentity": wanted}
    policy = scoped(world, requirement(world, **more))
    name = f"docker://{world.repository}{REFERENCES[reference]}"
    found = verdict(world, tmp_path, name, policy, lookaside(world, signature))
    assert found == ((identity, signature, reference) in ACCEPTED)


def _unreadable(world: World) -> Any:
    return {**requirement(world), "keyPath": str(world.place / "gone.gpg")}


def _no_key(world: World) -> Any:
    file = world.place / "empty.gpg"
    file.write_bytes(b"")
    return {**requirement(world), "keyPath": str(file)}


def _data(world: World) -> Any:
    data = base64.b64encode(world.key("bob").read_bytes()).decode()
    return {"type": "signedBy", "keyType": "GPGKeys", "keyData": data}


ACCEPT = {"type": "insecureAcceptAnything"}
REJECT = {"type": "reject"}

#: Name -> (policy, signatures, whether both accept).
POLICY_CASES: dict[str, tuple[Any, str, bool]] = {
    "accept": (lambda w: scoped(w, ACCEPT), "none", True),
    "accept what is badly signed": (lambda w: scoped(w, ACCEPT), "stranger", True),
    "reject": (lambda w: scoped(w, REJECT), "tag", False),
    "unsigned": (lambda w: scoped(w, requirement(w)), "none", False),
    "by a stranger": (lambda w: scoped(w, requirement(w)), "stranger", False),
    "of another image": (lambda w: scoped(w, requirement(w)), "other image", False),
    "of no name": (lambda w: scoped(w, requirement(w)), "no name", False),
    "no payload": (lambda w: scoped(w, requirement(w)), "no payload", False),
    "expired": (lambda w: scoped(w, requirement(w, "expired")), "expired", False),
    "one of two": (lambda w: scoped(w, requirement(w)), "bad, then good", True),
    "both wanted, one there": (
        lambda w: scoped(w, requirement(w), requirement(w, "bob")),
        "tag",
        False,
    ),
    "both wanted, both there": (
        lambda w: scoped(w, requirement(w), requirement(w, "bob")),
        "two",
        True,
    ),
    "accept and signed": (lambda w: scoped(w, ACCEPT, requirement(w)), "none", False),
    "signed and reject": (lambda w: scoped(w, requirement(w), REJECT), "tag", False),
    "a key in the policy": (lambda w: scoped(w, _data(w)), "stranger", True),
    "a key that is gone": (lambda w: scoped(w, _unreadable(w)), "tag", False),
    "a key that is none": (lambda w: scoped(w, _no_key(w)), "tag", False),
    "another kind of key": (
        lambda w: scoped(w, requirement(w) | {"keyType": "X509Certificates"}),
        "tag",
        False,
    ),
    "a base layer": (
        lambda w: scoped(
            w, {"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}
        ),
        "tag",
        False,
    ),
    "the tag's own rule": (lambda w: scoped(w, ACCEPT, scope=f"{w.repository}:1"), "none", True),
    "another tag's rule": (lambda w: scoped(w, ACCEPT, scope=f"{w.repository}:2"), "none", False),
    "the folder's rule": (lambda w: scoped(w, ACCEPT, scope=f"{w.host}/team"), "none", True),
    "the host's rule": (lambda w: scoped(w, ACCEPT, scope=w.host), "none", True),
    "half a folder's rule": (lambda w: scoped(w, ACCEPT, scope=f"{w.host}/te"), "none", False),
    "the host without port": (
        lambda w: scoped(w, ACCEPT, scope=w.host.partition(":")[0]),
        "none",
        False,
    ),
    "a wildcard": (lambda w: scoped(w, ACCEPT, scope="*.0.0.1"), "none", True),
    "a wildcard of too much": (lambda w: scoped(w, ACCEPT, scope="*.1.0.0.1"), "none", False),
    "the transport's rule": (lambda w: scoped(w, ACCEPT, scope=""), "none", True),
    "another transport's rule": (
        lambda w: {"default": [REJECT], "transports": {"dir": {"": [ACCEPT]}}},
        "none",
        False,
    ),
    "the narrower rule counts": (
        lambda w: {
            "default": [ACCEPT],
            "transports": {"docker": {w.host: [ACCEPT], w.repository: [REJECT]}},
        },
        "none",
        False,
    ),
    "the default": (lambda w: {"default": [ACCEPT]}, "none", True),
    "an unknown transport": (
        lambda w: {"default": [ACCEPT], "transports": {"future": {"x y": [REJECT]}}},
        "none",
        True,
    ),
    "no default": (lambda w: {"transports": {}}, "none", False),
    "an unknown key": (lambda w: {"default": [ACCEPT], "x": 1}, "none", False),
    "another case": (lambda w: {"Default": [ACCEPT]}, "none", False),
    "an empty list": (lambda w: scoped(w), "none", False),
    "an unknown type": (lambda w: scoped(w, {"type": "trust"}), "none", False),
    "more than the type": (lambda w: scoped(w, {**ACCEPT, "x": 1}), "none", False),
    "two ways to say a key": (
        lambda w: scoped(w, {**requirement(w), "keyData": "eA=="}),
        "tag",
        False,
    ),
    "no way to say a key": (
        lambda w: scoped(w, {"type": "signedBy", "keyType": "GPGKeys"}),
        "tag",
        False,
    ),
    "an identity that is unknown": (
        lambda w: scoped(w, requirement(w, signedIdentity={"type": "matchAll"})),
        "tag",
        False,
    ),
    "a reference without a tag": (
        lambda w: scoped(
            w,
            requirement(
                w, signedIdentity={"type": "exactReference", "dockerReference": w.repository}
            ),
        ),
        "tag",
        False,
    ),
    "a relative scope of dir": (
        lambda w: {"default": [ACCEPT], "transports": {"dir": {"x": [ACCEPT]}}},
        "none",
        False,
    ),
    "trailing data": (
        lambda w: '{"default": [{"type": "insecureAcceptAnything"}]} x',
        "none",
        False,
    ),
    "a key twice": (
        lambda w: (
            '{"default": [{"type": "reject"}], "default": [{"type": "insecureAcceptAnything"}]}'
        ),
        "none",
        False,
    ),
}


@pytest.mark.parametrize("case", POLICY_CASES)
def test_policies_are_understood_as_skopeo_does(world: World, tmp_path: Path, case: str) -> None:
    policy, signature, expected = POLICY_CASES[case]
    name = f"docker://{world.repository}:1"
    found = verdict(world, tmp_path, name, policy(world), lookaside(world, signature))
    assert found is expected


def test_the_table_is_as_large_as_it_was_promised() -> None:
    assert len(POLICY_CASES) + len(IDENTITY_CASES) >= 60


@pytest.mark.parametrize(
    ("signed", "whole", "expected"),
    [
        ("both", True, True),
        ("both", False, True),
        ("first", True, False),
        ("first", False, True),
        ("index", True, False),
        ("index", False, False),
    ],
)
def test_indexes_are_checked_by_their_members_as_skopeo_does(
    world: World, tmp_path: Path, signed: str, whole: bool, expected: bool
) -> None:
    name = f"{world.repository}:index"
    digests = {
        "both": [member.raw.digest for member in MEMBERS],
        "first": [MEMBERS[0].raw.digest],
        "index": [INDEX.digest],
    }[signed]
    made = [(digest, [world.signed("alice", name, digest)]) for digest in digests]
    registries_d = world.lookaside(f"index-{signed}", *made)
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(scoped(world, requirement(world))))
    wishes: dict[str, Any] = {"instances": "all"} if whole else {"platform": AMD64}
    ours = by_kstore(world, f"docker://{name}", policy, registries_d, tmp_path / "ours", **wishes)
    more = ["--all"] if whole else ["--multi-arch=system"]
    theirs = by_skopeo(world, f"docker://{name}", policy, registries_d, tmp_path / "theirs", *more)
    assert ours == theirs == expected


# ---- each signs for the other


def env(world: World, home: Path) -> dict[str, str]:
    return {**os.environ, "GNUPGHOME": str(world.home.path), "HOME": str(home)}


def signing_world(world: World, tmp_path: Path) -> tuple[Path, Path]:
    """A registries.d with a lookaside of its own, and a policy that wants alice's signature."""
    registries_d = world.lookaside(f"writing-{tmp_path.name}")
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(scoped(world, requirement(world), scope=world.host)))
    return registries_d, policy


def signed_by_kstore(world: World, registries_d: Path, tmp_path: Path, target: str) -> None:
    place = replace(settings(registries_d, tmp_path / "root"), gnupg_home=world.home.path)
    app = App(place)
    with (
        app.open_store("test") as store,
        app.transports(store, RegistryOptions(tls_verify=False)) as transports,
    ):
        copy(
            transports.parse(f"docker://{world.repository}:1"),
            transports.parse(f"docker://{target}"),
            CopyOptions(
                signers=app.signers(SigningOptions(("alice@example.org",))),
                remove_signatures=True,
            ),
        )


def test_what_skopeo_signs_kstore_accepts(world: World, tmp_path: Path) -> None:
    registries_d, policy = signing_world(world, tmp_path)
    target = f"{world.host}/by/skopeo:1"
    command = [require_program("skopeo"), "--insecure-policy", "--registries.d", registries_d]
    command += ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--sign-by"]
    command += [world.alice, f"docker://{world.repository}:1", f"docker://{target}"]
    run(command, env(world, tmp_path))
    assert by_kstore(world, f"docker://{target}", policy, registries_d, tmp_path / "ours")


def test_what_kstore_signs_skopeo_accepts(world: World, tmp_path: Path) -> None:
    registries_d, policy = signing_world(world, tmp_path)
    target = f"{world.host}/by/kstore:1"
    signed_by_kstore(world, registries_d, tmp_path, target)
    assert by_skopeo(world, f"docker://{target}", policy, registries_d, tmp_path / "theirs")
    assert by_kstore(world, f"docker://{target}", policy, registries_d, tmp_path / "ours")
    unsigned = f"docker://{world.repository}:1"
    assert not by_skopeo(world, unsigned, policy, registries_d, tmp_path / "unsigned")


def test_podman_pulls_what_kstore_signed_and_refuses_what_nobody_did(
    world: World, tmp_path: Path
) -> None:
    registries_d, policy = signing_world(world, tmp_path)
    target = f"{world.host}/by/podman:1"
    signed_by_kstore(world, registries_d, tmp_path, target)
    config = tmp_path / "home/.config/containers"
    config.mkdir(parents=True)
    (config / "registries.d").symlink_to(registries_d)
    own = {"HOME": str(tmp_path / "home"), "GNUPGHOME": str(world.home.path)}
    with Podman(tmp_path / "podman") as podman:

        def pull(name: str) -> subprocess.CompletedProcess[str]:
            command = [*podman.command, "pull", "--tls-verify=false"]
            return subprocess.run(
                [*command, "--signature-policy", str(policy), name],
                capture_output=True,
                text=True,
                env={**podman.environment(), **own},
                timeout=120,
                check=False,
            )

        good = pull(target)
        assert good.returncode == 0, good.stderr
        bad = pull(f"{world.repository}:1")
        assert bad.returncode != 0
        assert "signature was required" in bad.stderr


def test_standalone_signatures_go_both_ways(world: World, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(IMAGE.raw.data)
    app = App(replace(load({}, root=tmp_path / "root"), gnupg_home=world.home.path))
    (signer,) = app.signers(SigningOptions((world.alice,)))
    sign_file(manifest, "example.org/app:1", signer, tmp_path / "ours")
    skopeo = require_program("skopeo")
    arguments = [manifest, "example.org/app:1", world.alice]
    run([skopeo, "standalone-verify", *arguments, tmp_path / "ours"], env(world, tmp_path))
    run(
        [skopeo, "standalone-sign", *arguments, "--output", tmp_path / "theirs"],
        env(world, tmp_path),
    )
    found = verify_file(
        manifest,
        "example.org/app:1",
        world.alice,
        tmp_path / "theirs",
        gnupg_home=world.home.path,
    )
    assert (found.fingerprint, found.digest) == (world.alice, IMAGE.raw.digest)


def run(command: list[Any], environ: dict[str, str]) -> None:
    done = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        env=environ,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
