"""Against the registry of the distribution project."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import AuthError, BlobNotFoundError, DigestMismatchError, UnsupportedError
from kstore.manifest import RawManifest
from kstore.registry import Credentials, RegistryClient
from kstore.streams import BytesStream, VerifiedStream, pump
from tests.support.dockerregistry import DockerRegistry
from tests.unit.registry.conftest import ClientFactory

pytestmark = pytest.mark.peer

LAYER = random.Random(5).randbytes(2_500_000)
CONFIG = b"{}"
# The bcrypt hash of "s3cret-word", cost 5.
HTPASSWD = "ann:$2y$05$abcdefghijklmnopqrstuuEpHRRKIlpAGo.iP7Bpa.htQEJMAAnRe\n"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path_factory.mktemp("open")) as registry:
        yield registry


@pytest.fixture
def client(registry: DockerRegistry, make_client: ClientFactory) -> RegistryClient:
    return make_client(registry.host, response_timeout=10)


def upload(client: RegistryClient, path: str, data: bytes, media_type: str) -> Descriptor:
    blob = Descriptor(media_type, Digest.of(data), len(data))
    client.upload_blob(path, blob, lambda offset: BytesStream(data[offset:]))
    return blob


def push(client: RegistryClient, path: str, tag: str) -> RawManifest:
    config = upload(client, path, CONFIG, mt.OCI_CONFIG)
    layer = upload(client, path, LAYER, mt.OCI_LAYER)
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json()],
    }
    raw = RawManifest.receive(json.dumps(document).encode())
    client.put_manifest(path, tag, raw)
    return raw


def test_an_image_goes_there_and_back(client: RegistryClient) -> None:
    client.ping()
    raw = push(client, "there/and-back", "v1")
    assert client.get_manifest("there/and-back", "v1") == raw
    assert client.get_manifest("there/and-back", raw.digest) == raw
    assert client.head_manifest("there/and-back", "v1") == raw.descriptor
    assert list(client.tags("there/and-back")) == ["v1"]
    assert "there/and-back" in list(client.catalog())
    layer = Descriptor(mt.OCI_LAYER, Digest.of(LAYER), len(LAYER))
    received = bytearray()
    with VerifiedStream(client.open_blob("there/and-back", layer), layer) as stream:
        pump(stream, received.extend)
    assert received == LAYER


def test_a_blob_is_read_from_the_middle(client: RegistryClient) -> None:
    layer = upload(client, "middle", LAYER, mt.OCI_LAYER)
    received = bytearray()
    with client.open_blob("middle", layer, 1_000_000) as download:
        assert download.offset == 1_000_000
        assert download.validator is not None
        pump(download, received.extend)
    assert received == LAYER[1_000_000:]


def test_a_blob_goes_there_in_pieces(registry: DockerRegistry, make_client: ClientFactory) -> None:
    client = make_client(registry.host, upload_chunk=1_000_000, response_timeout=10)
    layer = upload(client, "pieces", LAYER, mt.OCI_LAYER)
    assert client.has_blob("pieces", layer.digest) == len(LAYER)


def test_a_source_that_breaks_leaves_nothing(client: RegistryClient) -> None:
    blob = Descriptor(mt.OCI_LAYER, Digest.of(b"never"), 5)
    with pytest.raises(DigestMismatchError):
        client.upload_blob("broken", blob, lambda offset: BytesStream(b"other"))
    assert client.has_blob("broken", blob.digest) is None


def test_a_blob_is_mounted(client: RegistryClient) -> None:
    layer = upload(client, "mount/origin", LAYER, mt.OCI_LAYER)
    assert client.mount_blob("mount/target", layer.digest, "mount/origin")
    assert client.has_blob("mount/target", layer.digest) == len(LAYER)
    absent = Digest.of(b"absent")
    assert not client.mount_blob("mount/target", absent, "mount/origin")
    with pytest.raises(BlobNotFoundError):
        client.open_blob("mount/target", Descriptor("x/y", absent, 6))


def test_tags_come_in_pages(client: RegistryClient) -> None:
    raw = push(client, "paged", "v0")
    for number in range(1, 5):
        client.put_manifest("paged", f"v{number}", raw)
    assert sorted(client.tags("paged")) == [f"v{number}" for number in range(5)]


def test_a_manifest_is_deleted(client: RegistryClient) -> None:
    raw = push(client, "deleted", "v1")
    client.delete_manifest("deleted", raw.digest)
    assert client.head_manifest("deleted", "v1") is None


def test_a_registry_may_forbid_deleting(tmp_path: Path, make_client: ClientFactory) -> None:
    with DockerRegistry(tmp_path, delete=False) as registry:
        client = make_client(registry.host, response_timeout=10)
        raw = push(client, "kept", "v1")
        with pytest.raises(UnsupportedError):
            client.delete_manifest("kept", raw.digest)


def test_a_password_opens_the_registry(tmp_path: Path, make_client: ClientFactory) -> None:
    with DockerRegistry(tmp_path, auth=HTPASSWD) as registry:
        with pytest.raises(AuthError, match="anonymous"):
            make_client(registry.host).ping()
        with pytest.raises(AuthError, match="given credentials"):
            make_client(registry.host, lambda host, path: Credentials("ann", "wrong")).ping()
        good = make_client(registry.host, lambda host, path: Credentials("ann", "s3cret-word"))
        good.ping()
        raw = push(good, "private", "v1")
        assert good.get_manifest("private", "v1") == raw
