"""Sigstore signatures beside their image in a registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.app import App, RegistryOptions
from kstore.copier import CopyOptions, copy_image
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import InvalidManifestError, KstoreError, RemoteError, UnsupportedError
from kstore.interfaces import ImageReference
from kstore.manifest import RawManifest
from kstore.reference import Named
from kstore.registry import RegistryClient, RegistrySettings
from kstore.settings import load
from kstore.signature import SigstoreSignature, SimpleSignature, parse_signature
from kstore.signing.policy import AcceptAnything
from kstore.signing.sigstore import SigstoreSigner, sign, verify
from kstore.store import Store
from kstore.transports import Transports
from kstore.transports.attachments import (
    HOLDER,
    MAX_SIGNATURES,
    attach_signatures,
    read_attached_signatures,
)
from tests.support.faultserver import Fault, FaultServer
from tests.support.images import ARM64, index_of, random_image
from tests.support.localregistry import LocalRegistry, serve
from tests.support.sigstorekeys import key_pair
from tests.support.stores import put_image, put_index

IMAGE, OTHER = random_image(1), random_image(2, platform=ARM64)
SIGNED = IMAGE.raw.digest
TAG = f"sha256-{SIGNED.hex}.sig"
PATH = "team/app"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    with serve(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def client(registry: LocalRegistry) -> Iterator[RegistryClient]:
    with RegistryClient(registry.host, RegistrySettings(tls_verify=False)) as client:
        yield client


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root", command="test") as store:
        yield store


@pytest.fixture
def transports(store: Store) -> Iterator[Transports]:
    """Transports for which registries keep signatures."""
    options = RegistryOptions(tls_verify=False, attachments=True)
    with App(load({}, root=store.root)).transports(store, options) as transports:
        yield transports


@pytest.fixture
def faulty() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def signature(kind: str = "ec", name: str = "x.test/team/app:1") -> bytes:
    return sign(key_pair(kind)[0], None, SIGNED, name).to_bytes()


def push_signed(
    transports: Transports, image: str, target: ImageReference, **wishes: object
) -> RawManifest:
    signer = SigstoreSigner(key_pair("ec")[0], None)
    options = CopyOptions(signers=(signer,), instances="all", **wishes)
    source = transports.storage.parse_reference(image)
    return copy_image(source, target, AcceptAnything(), options).raw


def test_an_image_without_attachments_has_no_signatures(client: RegistryClient) -> None:
    assert read_attached_signatures(client, PATH, SIGNED) == ()
    assert read_attached_signatures(client, PATH, Digest.of(b"x", "sha512")) == ()


def test_what_was_attached_is_read_again(client: RegistryClient) -> None:
    first, second = signature(), signature("other")
    attach_signatures(client, PATH, SIGNED, [first])
    attach_signatures(client, PATH, SIGNED, [second])
    assert read_attached_signatures(client, PATH, SIGNED) == (first, second)


def test_nothing_is_attached_twice(client: RegistryClient) -> None:
    one = signature()
    attach_signatures(client, PATH, SIGNED, [one])
    before = client.get_manifest(PATH, TAG)
    attach_signatures(client, PATH, SIGNED, [one])
    assert client.get_manifest(PATH, TAG) == before


def test_the_attachment_is_an_image_whose_config_counts_its_layers(
    client: RegistryClient, registry: LocalRegistry
) -> None:
    for kind in ("ec", "other"):
        attach_signatures(client, PATH, SIGNED, [signature(kind)])
    manifest = json.loads(client.get_manifest(PATH, TAG).data)
    assert manifest["config"]["mediaType"] == mt.OCI_CONFIG
    config = registry.ask("GET", f"/v2/{PATH}/blobs/{manifest['config']['digest']}").json
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]


def test_a_signature_of_another_kind_is_not_attached(client: RegistryClient) -> None:
    with pytest.raises(UnsupportedError, match="sigstore signatures alone"):
        attach_signatures(client, PATH, SIGNED, [SimpleSignature(b"\x90\x0d\x03").to_bytes()])
    assert client.head_manifest(PATH, TAG) is None


def hold(registry: LocalRegistry, *layers: dict[str, object]) -> None:
    """Put a manifest with these layers where signatures belong."""
    config = b"{}"
    registry.push_blob(PATH, config)
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": Descriptor(mt.OCI_CONFIG, Digest.of(config), 2).to_json(),
        "layers": list(layers),
    }
    raw = RawManifest.receive(json.dumps(document).encode(), mt.OCI_MANIFEST)
    answer = registry.push_manifest(PATH, TAG, raw)
    assert answer.status == 201, answer


def test_a_flood_of_signatures_is_refused_before_one_is_fetched(
    client: RegistryClient, registry: LocalRegistry
) -> None:
    layer = Descriptor("x/y", registry.push_blob(PATH, b"payload"), 7).to_json()
    hold(registry, *[layer] * (MAX_SIGNATURES + 1))
    registry.log.clear()
    with pytest.raises(InvalidManifestError, match="129 signatures"):
        read_attached_signatures(client, PATH, SIGNED)
    assert not [line for line in registry.log if "/blobs/" in line.path]


def test_a_huge_signature_is_refused_before_it_is_fetched(
    client: RegistryClient, registry: LocalRegistry
) -> None:
    data = b"x" * ((8 << 20) + 1)
    hold(registry, Descriptor("x/y", registry.push_blob(PATH, data), len(data)).to_json())
    with pytest.raises(InvalidManifestError, match="8388609 bytes"):
        read_attached_signatures(client, PATH, SIGNED)


def test_something_else_under_the_tag_is_refused(
    client: RegistryClient, registry: LocalRegistry
) -> None:
    registry.push(PATH, "1", IMAGE)
    assert registry.push_manifest(PATH, TAG, index_of([IMAGE])).status == 201
    with pytest.raises(InvalidManifestError, match="should hold signatures"):
        read_attached_signatures(client, PATH, SIGNED)
    with pytest.raises(InvalidManifestError, match="should hold signatures"):
        attach_signatures(client, PATH, SIGNED, [signature()])


def signatures_manifest(
    signature: SigstoreSignature, subject: Descriptor, artifact_type: str = HOLDER
) -> tuple[RawManifest, bytes]:
    """A referrer that holds a signature as newer cosigns make it, and the blob of its config."""
    config = b"{}"
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": Descriptor(artifact_type, Digest.of(config), len(config)).to_json(),
        "layers": [
            Descriptor(
                signature.media_type,
                Digest.of(signature.payload),
                len(signature.payload),
                signature.annotations,
            ).to_json()
        ],
        "subject": subject.to_json(),
    }
    return RawManifest.receive(json.dumps(document).encode(), mt.OCI_MANIFEST), config


def refer(
    client: RegistryClient,
    registry: LocalRegistry,
    kind: str,
    subject: Descriptor = IMAGE.raw.descriptor,
    artifact_type: str = HOLDER,
) -> bytes:
    """Let a referrer hold a signature; it, in the form in which it is kept."""
    made = sign(key_pair(kind)[0], None, SIGNED, "x.test/team/app:1")
    raw, config = signatures_manifest(made, subject, artifact_type)
    for data in (config, made.payload):
        registry.push_blob(PATH, data)
    client.put_manifest(PATH, raw.digest, raw)
    return made.to_bytes()


def test_signatures_are_also_read_from_referrers(
    client: RegistryClient, registry: LocalRegistry
) -> None:
    referred = [refer(client, registry, kind) for kind in ("ec", "other")]
    refer(client, registry, "ec384", artifact_type="x/other")
    refer(client, registry, "ec521", subject=OTHER.raw.descriptor)
    tagged = signature("ed25519")
    attach_signatures(client, PATH, SIGNED, [tagged, referred[0]])
    found = read_attached_signatures(client, PATH, SIGNED)
    assert found[0] == tagged
    assert sorted(found) == sorted([tagged, *referred]), "each once"


def test_a_referrer_that_is_another_images_is_not_believed(faulty: FaultServer) -> None:
    made = sign(key_pair("ec")[0], None, SIGNED, "x.test/team/app:1")
    raw, config = signatures_manifest(made, OTHER.raw.descriptor)
    for data in (config, made.payload):
        faulty.add_blob(data)
    faulty.add_manifest(raw.data, raw.media_type)
    entry = Descriptor(raw.media_type, raw.digest, len(raw.data), artifact_type=HOLDER)
    index = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [entry.to_json()]}
    faulty.add_manifest(json.dumps(index).encode(), mt.OCI_INDEX, tag=f"sha256-{SIGNED.hex}")
    with RegistryClient(faulty.host, RegistrySettings(tls_verify=False)) as client:
        assert read_attached_signatures(client, PATH, SIGNED) == ()
        assert read_attached_signatures(client, PATH, OTHER.raw.digest) == ()


def test_a_flood_of_referrers_with_signatures_is_refused(
    client: RegistryClient, registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kstore.transports.attachments.MAX_SIGNATURES", 1)
    for kind in ("ec", "other"):
        refer(client, registry, kind)
    with pytest.raises(InvalidManifestError, match="more than 1 manifests"):
        read_attached_signatures(client, PATH, SIGNED)


def test_a_pushed_image_is_signed_as_what_it_is_pushed_as(
    registry: LocalRegistry, store: Store, transports: Transports
) -> None:
    put_image(store, IMAGE, "app")
    name = f"{registry.host}/{PATH}:1"
    push_signed(transports, "app", transports.docker.reference(Named.parse(name)))
    with transports.docker.reference(Named.parse(name)).open_source() as source:
        (kept,) = source.read_signatures()
    found = parse_signature(kept, "it")
    assert isinstance(found, SigstoreSignature)
    claim = verify(found, [key_pair("ec")[1]])
    assert (claim.docker_reference, claim.manifest_digest) == (name, SIGNED)


def test_another_identity_is_signed_where_it_is_asked_for(
    registry: LocalRegistry, store: Store, transports: Transports
) -> None:
    put_image(store, IMAGE, "app")
    target = transports.docker.reference(Named.parse(f"{registry.host}/{PATH}:1"))
    push_signed(transports, "app", target, sign_identity=Named.parse("x.test/other:2"))
    found = parse_signature(target.open_source().read_signatures()[0], "it")
    assert isinstance(found, SigstoreSignature)
    assert verify(found, [key_pair("ec")[1]]).docker_reference == "x.test/other:2"


def test_each_member_of_an_index_is_signed_and_so_is_the_index(
    registry: LocalRegistry, store: Store, transports: Transports
) -> None:
    both = index_of([IMAGE, OTHER])
    put_index(store, both, [IMAGE, OTHER], "both")
    target = transports.docker.reference(Named.parse(f"{registry.host}/{PATH}:1"))
    push_signed(transports, "both", target)
    with target.open_source() as source:
        for digest in (None, IMAGE.raw.digest, OTHER.raw.digest):
            (kept,) = source.read_signatures(digest)
            found = parse_signature(kept, "it")
            assert isinstance(found, SigstoreSignature)
            claim = verify(found, [key_pair("ec")[1]])
            assert claim.manifest_digest == (digest or both.digest)


def test_copies_between_registries_carry_attached_signatures(
    registry: LocalRegistry, store: Store, transports: Transports
) -> None:
    put_image(store, IMAGE, "app")
    here, there = (
        transports.docker.reference(Named.parse(f"{registry.host}/{path}:1"))
        for path in (PATH, "other/place")
    )
    push_signed(transports, "app", here)
    copy_image(here, there, AcceptAnything())
    assert there.open_source().read_signatures() == here.open_source().read_signatures() != ()


def test_an_image_is_not_visible_under_its_name_before_it_is_signed(
    faulty: FaultServer, store: Store, transports: Transports
) -> None:
    put_image(store, IMAGE, "app")
    faulty.fault(Fault(status=403), "PUT", f"/manifests/{TAG}")
    with pytest.raises(KstoreError):
        push_signed(transports, "app", _at(transports, faulty))
    assert "1" not in faulty.manifests[PATH]
    push_signed(transports, "app", _at(transports, faulty))
    assert faulty.manifests[PATH]["1"][1] == IMAGE.raw.data


def _at(transports: Transports, server: FaultServer) -> ImageReference:
    return transports.docker.reference(Named.parse(f"{server.host}/{PATH}:1"))


def test_attachments_are_not_looked_for_unless_they_are_wanted(
    faulty: FaultServer, store: Store
) -> None:
    faulty.add_manifest(IMAGE.raw.data, IMAGE.raw.media_type, PATH, "1")
    options = RegistryOptions(tls_verify=False)
    with App(load({}, root=store.root)).transports(store, options) as transports:
        reference = _at(transports, faulty)
        assert list(reference.open_source().read_signatures()) == []
        assert not faulty.seen("GET", ".sig")
        put_image(store, IMAGE, "app")
        with pytest.raises(UnsupportedError, match="cannot keep sigstore signatures"):
            push_signed(transports, "app", reference)
    assert not faulty.seen("PUT", "/manifests/")


def test_a_registry_that_fails_is_not_taken_for_one_without_signatures(
    faulty: FaultServer, store: Store, transports: Transports
) -> None:
    faulty.add_manifest(IMAGE.raw.data, IMAGE.raw.media_type, PATH, "1")
    faulty.fault(Fault(status=418), "GET", ".sig")
    with pytest.raises(RemoteError), _at(transports, faulty).open_source() as source:
        source.read_signatures()
