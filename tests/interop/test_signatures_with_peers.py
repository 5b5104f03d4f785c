"""Signatures that kstore and other programs leave for each other: in directories, in lookasides,
made by podman, and brought along by ``sync``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.signing.simple import make_payload
from tests.support.cli import run
from tests.support.gpgkeys import GpgHome
from tests.support.images import AMD64, ARM64, index_of, random_image
from tests.support.localregistry import serve
from tests.support.podman import Podman
from tests.support.programs import require_program

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

MEMBERS = [random_image(1, platform=AMD64), random_image(2, platform=ARM64)]
INDEX = index_of(MEMBERS)
#: As what images are signed that go from place to place.
VENDOR = "vendor.example.org/app"
PATH = "team/app"


@dataclass(frozen=True)
class World:
    """A registry with an index and its images, a key, and where the signatures are."""

    host: str
    home: GpgHome
    alice: str
    config: Path
    lookaside: Path

    @property
    def policy(self) -> Path:
        return self.config / "containers/policy.json"

    def sign(self, tag: str, digest: Digest) -> None:
        """Sign what is at the registry, as nobody's tool does it."""
        payload = make_payload(digest, f"{VENDOR}:{tag}", creator="test", timestamp=1)
        place = self.lookaside / f"{PATH}@sha256={digest.hex}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "signature-1").write_bytes(self.home.sign(payload, self.alice))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The world; both programs find it in their settings."""
    config, lookaside = tmp_path / "config", tmp_path / "lookaside"
    (config / "containers/registries.d").mkdir(parents=True)
    (config / "containers/registries.d/all.yaml").write_text(
        f"default-docker:\n  lookaside: {lookaside.as_uri()}\n"
    )
    with serve(tmp_path / "registry") as registry, GpgHome() as home:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
        monkeypatch.setenv("GNUPGHOME", str(home.path))
        alice = home.make("Alice <alice@example.org>")
        (tmp_path / "alice.gpg").write_bytes(home.export(alice))
        signed = {
            "type": "signedBy",
            "keyType": "GPGKeys",
            "keyPath": str(tmp_path / "alice.gpg"),
            "signedIdentity": {"type": "exactRepository", "dockerRepository": VENDOR},
        }
        policy = {
            "default": [{"type": "reject"}],
            "transports": {"docker": {"": [signed]}, "dir": {"": [signed]}},
        }
        (config / "containers/policy.json").write_text(json.dumps(policy))
        for tag, member in enumerate(MEMBERS, 1):
            registry.push(PATH, str(tag), member)
        assert registry.push_manifest(PATH, "both", INDEX).status == 201
        yield World(registry.host, home, alice, config, lookaside)


def by_skopeo(world: World, *arguments: str, trusting: bool = False) -> None:
    policy = ["--insecure-policy"] if trusting else ["--policy", str(world.policy)]
    registries_d = str(world.config / "containers/registries.d")
    verb, *rest = arguments
    tls = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    command = [require_program("skopeo"), *policy, "--registries.d", registries_d, verb, *tls]
    done = subprocess.run(
        [*command, *rest],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def by_kstore(world: World, *arguments: str, trusting: bool = False) -> None:
    verb, *rest = arguments
    policy = ["--insecure-policy"] if trusting else ["--policy", str(world.policy)]
    done = run(
        *("--root", world.config / "none", verb, "-q", "--tls-verify=false", *policy, *rest),
    )
    assert done.code == 0, done.err


TOOLS = {"skopeo": by_skopeo, "kstore": by_kstore}


def signatures(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*signature-*")}


@pytest.mark.parametrize(
    "order", [("skopeo", "kstore", "skopeo"), ("kstore", "skopeo", "kstore")], ids="-".join
)
def test_a_signed_index_goes_from_hand_to_hand_through_directories_and_a_lookaside(
    world: World, tmp_path: Path, order: tuple[str, str, str]
) -> None:
    source, mirror = f"docker://{world.host}/{PATH}:both", f"docker://{world.host}/mirror:both"
    first, last = tmp_path / "first", tmp_path / "last"
    sign, carry, fetch = (TOOLS[name] for name in order)
    identity = ("--sign-by", world.alice, "--sign-identity", f"{VENDOR}:both")
    sign(world, "copy", "--all", *identity, source, f"dir:{first}", trusting=True)
    carry(world, "copy", "--all", f"dir:{first}", mirror)
    fetch(world, "copy", "--all", mirror, f"dir:{last}")
    assert len(signatures(first)) == 3
    assert signatures(last) == signatures(first)


def test_what_podman_signed_is_trusted(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registries = tmp_path / "registries.conf"
    registries.write_text(f'[[registry]]\nlocation = "{world.host}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(registries))
    name = f"{world.host}/{PATH}"
    world.lookaside.mkdir()
    with Podman(tmp_path / "podman") as podman:
        podman.run(
            *("image", "sign", "--all", "--sign-by", world.alice),
            *("--directory", str(world.lookaside), f"docker://{name}:both"),
        )
    verify = ("--root", tmp_path / "none", "verify", "--tls-verify=false")
    key = ("--key", tmp_path / "alice.gpg")
    good = run(*verify, *key, f"docker://{name}:both")
    assert good.code == 0, good.err
    other = run(*verify, *key, f"docker://{name}:1")
    assert (other.code, "not trusted" in other.err) == (7, True), "it was signed by another name"


@pytest.mark.parametrize(
    ("syncing", "reading"), [("skopeo", "kstore"), ("kstore", "skopeo")], ids=["theirs", "ours"]
)
def test_what_one_synchronised_the_other_takes_with_its_signatures(
    world: World, tmp_path: Path, syncing: str, reading: str
) -> None:
    for tag, member in enumerate(MEMBERS, 1):
        world.sign(str(tag), member.raw.digest)
    place = tmp_path / "place"
    if syncing == "skopeo":
        by_skopeo(
            world,
            "sync",
            *("--src", "docker", "--dest", "dir"),
            *(f"{world.host}/{PATH}", str(place)),
        )
    else:
        by_kstore(world, "sync", f"docker://{world.host}/{PATH}", f"dir:{place}")
    for tag in ("1", "2"):
        assert list(signatures(place / f"app:{tag}")) == ["signature-1"]
        TOOLS[reading](
            world, "copy", f"dir:{place}/app:{tag}", f"docker://{world.host}/mirror:{tag}"
        )
    by_kstore(world, "sync", f"docker://{world.host}/mirror", f"dir:{tmp_path}/last")
    assert signatures(tmp_path / "last/mirror:2") == signatures(place / "app:2")
