"""Sigstore attachments and signatures, as programs of others see them.

Debian's skopeo is built without making and verifying sigstore signatures, but carries them; openssl
makes and verifies the signatures proper.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.app import App, RegistryOptions
from kstore.digest import Digest
from kstore.reference import Named
from kstore.settings import load
from kstore.signature import SigstoreSignature, parse_signature
from kstore.signing.claim import Claim
from kstore.signing.sigstore import ANNOTATION, sign, verify
from kstore.store import Store
from tests.support.cli import run
from tests.support.dockerregistry import DockerRegistry
from tests.support.images import random_image
from tests.support.localregistry import LocalRegistry, serve
from tests.support.programs import require_program
from tests.support.sigstorekeys import key_pair
from tests.support.stores import put_image

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

IMAGE = random_image(1)
PATH = "team/app"


@pytest.fixture(params=["docker-registry", "kstore"])
def registry(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[DockerRegistry | LocalRegistry]:
    if request.param == "kstore":
        with serve(tmp_path / "registry") as local:
            yield local
    else:
        with DockerRegistry(tmp_path) as docker:
            yield docker


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "root", command="test") as store:
        put_image(store, IMAGE, "app:1")
    return tmp_path / "root"


def skopeo_copy(tmp_path: Path, source: str, destination: str) -> None:
    """Copy with a skopeo that looks for signatures in registries."""
    directory = tmp_path / "registries.d"
    directory.mkdir(exist_ok=True)
    (directory / "all.yaml").write_text("default-docker:\n  use-sigstore-attachments: true\n")
    command = [
        *(require_program("skopeo"), "--registries.d", str(directory), "--insecure-policy", "copy"),
        *("--src-tls-verify=false", "--dest-tls-verify=false", source, destination),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def push_signed(root: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / "me.private").write_bytes(key_pair("ec")[0])
    pushed = run(
        *("--root", root, "push", "--tls-verify=false", "-q"),
        *("--sign-by-sigstore-private-key", tmp_path / "me.private", "app:1", name),
    )
    assert pushed.code == 0, pushed.err


def signatures_at(root: Path, name: str) -> list[SigstoreSignature]:
    options = RegistryOptions(tls_verify=False, attachments=True)
    with (
        Store.open(root) as store,
        App(load({}, root=root)).transports(store, options) as transports,
        transports.docker.reference(Named.parse(name)).open_source() as source,
    ):
        found = [parse_signature(data, "it") for data in source.read_signatures()]
    assert all(isinstance(each, SigstoreSignature) for each in found)
    return [each for each in found if isinstance(each, SigstoreSignature)]


def test_skopeo_carries_what_kstore_attached(
    registry: DockerRegistry | LocalRegistry, root: Path, tmp_path: Path
) -> None:
    name = f"{registry.host}/{PATH}:1"
    push_signed(root, name, tmp_path)
    skopeo_copy(tmp_path, f"docker://{name}", f"dir:{tmp_path}/out")
    kept = (tmp_path / "out/signature-1").read_bytes()
    assert [parse_signature(kept, "it")] == signatures_at(root, name)
    assert not (tmp_path / "out/signature-2").exists()


def test_kstore_verifies_what_skopeo_attached(
    registry: DockerRegistry | LocalRegistry, root: Path, tmp_path: Path
) -> None:
    first, second = (f"{registry.host}/{path}:1" for path in (PATH, "other/place"))
    push_signed(root, first, tmp_path)
    skopeo_copy(tmp_path, f"docker://{first}", f"docker://{second}")
    (carried,) = signatures_at(root, second)
    assert verify(carried, [key_pair("ec")[1]]) == Claim(first, IMAGE.raw.digest)


def test_signatures_stand_beside_those_that_skopeo_attached(
    registry: DockerRegistry | LocalRegistry, root: Path, tmp_path: Path
) -> None:
    first, second = (f"{registry.host}/{path}:1" for path in (PATH, "other/place"))
    push_signed(root, first, tmp_path)
    skopeo_copy(tmp_path, f"docker://{first}", f"docker://{second}")
    push_signed(root, second, tmp_path)
    skopeo_copy(tmp_path, f"docker://{first}", f"docker://{second}")  # nothing is attached twice
    claims = [verify(each, [key_pair("ec")[1]]) for each in signatures_at(root, second)]
    assert [claim.docker_reference for claim in claims] == [first, second]


@pytest.mark.parametrize("kind", ["ec", "ec384", "rsa"])
def test_openssl_verifies_what_kstore_signed(kind: str, tmp_path: Path) -> None:
    private, public = key_pair(kind)
    signature = sign(private, None, IMAGE.raw.digest, "x.test/app:1")
    for name, data in (
        ("key.pub", public),
        ("payload", signature.payload),
        ("signature", base64.b64decode(signature.annotations[ANNOTATION])),
    ):
        (tmp_path / name).write_bytes(data)
    openssl(tmp_path, "-verify", "key.pub", "-signature", "signature", "payload")


@pytest.mark.parametrize("kind", ["ec", "ec521", "rsa"])
def test_kstore_verifies_what_openssl_signed(kind: str, tmp_path: Path) -> None:
    private, public = key_pair(kind)
    critical = {
        "identity": {"docker-reference": "x.test/app:1"},
        "image": {"docker-manifest-digest": str(IMAGE.raw.digest)},
        "type": "cosign container image signature",
    }
    payload = json.dumps({"critical": critical, "optional": None}).encode()
    (tmp_path / "key").write_bytes(private)
    (tmp_path / "payload").write_bytes(payload)
    openssl(tmp_path, "-sign", "key", "-out", "signature", "payload")
    made = base64.b64encode((tmp_path / "signature").read_bytes()).decode()
    claim = verify(SigstoreSignature(payload, {ANNOTATION: made}), [public])
    assert claim == Claim("x.test/app:1", Digest.of(IMAGE.raw.data))


def openssl(directory: Path, *arguments: str) -> None:
    command = [require_program("openssl"), "dgst", "-sha256", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr or done.stdout
