"""Synchronising what belongs to images: referrers, signatures, and what the policy says by now."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kstore.app import App, RegistryOptions, TrustOptions
from kstore.copier import CopyOptions
from kstore.digest import Digest
from kstore.errors import PolicyRejectedError, UnsupportedError
from kstore.image import TrustPolicy
from kstore.operations.referrers import list_referrers
from kstore.operations.sync import Synced, SyncOptions, sync_images
from kstore.registry import RegistryClient, RegistrySettings
from kstore.settings import load
from kstore.signing.sigstore import sign
from kstore.store import Store
from kstore.transports import Transports
from kstore.transports.attachments import attach_signatures
from tests.support.attachments import SIGNATURES, cosign_attachment, cosign_tag
from tests.support.faultserver import FaultServer
from tests.support.images import index_of, random_artifact, random_image
from tests.support.localregistry import LocalRegistry, serve
from tests.support.sigstorekeys import key_pair
from tests.support.stores import named, put_artifact, put_image

IMAGE, OTHER = random_image(1), random_image(2)
SBOM = random_artifact(1, subject=IMAGE.raw.descriptor)
LATER = random_artifact(2, subject=IMAGE.raw.descriptor)
SIGNED = cosign_attachment(b"it is signed", SIGNATURES)
SIG = cosign_tag(IMAGE.raw.digest, "sig")
LIST = f"sha256-{IMAGE.raw.digest.hex}"
PATH = "team/app"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    with serve(tmp_path / "registry") as registry:
        registry.push(PATH, "1", IMAGE)
        registry.push(PATH, "2", OTHER)
        registry.push(PATH, str(SBOM.raw.digest), SBOM)
        registry.push(PATH, SIG, SIGNED)
        registry.log.clear()
        yield registry


@contextlib.contextmanager
def opened(root: Path, **registry: Any) -> Iterator[tuple[Transports, Transports]]:
    app = App(load({}, root=root))
    with (
        app.open_store("sync") as store,
        app.transports(store, RegistryOptions(tls_verify=False, **registry)) as transports,
    ):
        yield transports, transports


def sync(root: Path, source: str, destination: str, **options: Any) -> list[Synced]:
    registry = {"attachments": options.pop("attachments", None)}
    results = sync_images(
        lambda: opened(root, **registry), source, destination, SyncOptions(**options)
    )
    return list(results)


def statuses(results: list[Synced]) -> list[str]:
    return [result.status for result in results]


def found(root: Path, text: str) -> set[Digest]:
    with opened(root) as (transports, _):
        return {each.descriptor.digest for each in list_referrers(transports, text)}


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("docker://{faulty.host}/copy", "/app:1"),
        ("oci:{path}/layout", ":app:1"),
        ("kstore:x.example/copy", "/app:1"),
    ],
    ids=["registry", "layout", "store"],
)
def test_what_is_attached_comes_along_and_only_what_is_new_comes_again(
    root: Path,
    registry: LocalRegistry,
    faulty: FaultServer,
    tmp_path: Path,
    place: str,
    name: str,
) -> None:
    source = f"docker://{registry.host}/{PATH}"
    target = place.format(faulty=faulty, path=tmp_path)
    results = sync(root, source, target, with_referrers=True)
    assert statuses(results) == ["copied", "copied"], "attachments are no images"
    assert found(root, f"{target}{name}") == {SBOM.raw.digest, SIGNED.raw.digest}
    assert statuses(sync(root, source, target, with_referrers=True)) == ["unchanged"] * 2

    registry.push(PATH, str(LATER.raw.digest), LATER)
    rehearsed = sync(root, source, target, with_referrers=True, dry_run=True)
    assert statuses(rehearsed) == ["pending", "unchanged"]
    assert LATER.raw.digest not in found(root, f"{target}{name}")
    assert statuses(sync(root, source, target, with_referrers=True)) == ["copied", "unchanged"]
    assert LATER.raw.digest in found(root, f"{target}{name}")


@pytest.mark.parametrize(
    ("options", "tags"), [({}, ["1"]), ({"copying": CopyOptions(instances="all")}, ["1", LIST])]
)
def test_an_index_of_what_refers_to_an_image_is_a_tag_like_others_only_for_those_who_take_all(
    root: Path, faulty: FaultServer, tmp_path: Path, options: dict[str, Any], tags: list[str]
) -> None:
    for image, tag in ((IMAGE, "1"), (SBOM, None)):
        for data in image.blobs.values():
            faulty.add_blob(data)
        faulty.add_manifest(image.raw.data, image.raw.media_type, tag=tag)
    index = index_of([SBOM])
    faulty.add_manifest(index.data, index.media_type, tag=LIST)
    results = sync(root, f"docker://{faulty.host}/team/app", f"oci:{tmp_path}/layout", **options)
    assert [(result.source.rpartition(":")[2], result.status) for result in results] == [
        (tag, "copied") for tag in tags
    ]


@pytest.mark.parametrize("source", ["kstore:", "oci:{0}/layout"])
def test_attachments_of_a_store_and_of_a_layout_are_no_images_of_their_own(
    root: Path, faulty: FaultServer, tmp_path: Path, source: str
) -> None:
    with Store.open(root) as store:
        put_image(store, IMAGE, "quay.io/me/app:1")
        put_artifact(store, SBOM)
        put_artifact(store, SIGNED, f"quay.io/me/app:{SIG}")
    sync(root, "kstore:", f"oci:{tmp_path}/layout", with_referrers=True)
    target = f"docker://{faulty.host}/copy"
    results = sync(root, source.format(tmp_path), target, with_referrers=True)
    assert [result.destination for result in results] == [f"{target}/app:1"]
    assert found(root, f"{target}/app:1") == {SBOM.raw.digest, SIGNED.raw.digest}


@pytest.mark.parametrize(
    ("source", "target"), [("kstore:", "dir:{0}/out"), ("dir:{0}/in", "kstore:")]
)
def test_a_place_without_attachments_is_refused_before_anything_moves(
    root: Path, tmp_path: Path, source: str, target: str
) -> None:
    with Store.open(root) as store:
        put_image(store, IMAGE, "quay.io/me/app:1")
    sync(root, "kstore:", f"dir:{tmp_path}/in")
    with pytest.raises(UnsupportedError, match="nothing can be attached"):
        sync(root, source.format(tmp_path), target.format(tmp_path), with_referrers=True)
    assert not (tmp_path / "out").exists()


# ---- the policy


def policy(tmp_path: Path, *requirements: dict[str, Any], default: str = "reject") -> TrustPolicy:
    file = tmp_path / "policy.json"
    document: dict[str, Any] = {"default": [{"type": default}]}
    if requirements:
        document["transports"] = {"docker": {"": list(requirements)}}
    file.write_text(json.dumps(document))
    return App(load({})).trust_policy(TrustOptions(policy=file))


@pytest.mark.parametrize("rehearsed", [False, True])
def test_an_image_that_is_there_must_still_be_trusted(
    root: Path, registry: LocalRegistry, tmp_path: Path, rehearsed: bool
) -> None:
    source, target = f"docker://{registry.host}/{PATH}:1", "kstore:x.example/copy"
    assert statuses(sync(root, source, target)) == ["copied"]
    (result,) = sync(root, source, target, policy=policy(tmp_path), dry_run=rehearsed)
    assert (result.status, type(result.error)) == ("failed", PolicyRejectedError)
    with Store.open(root) as store:
        assert store.name(named("x.example/copy/app:1")) is not None, "what is there stays"


def test_a_rehearsal_tells_which_images_would_be_refused(
    root: Path, registry: LocalRegistry, tmp_path: Path
) -> None:
    source = f"docker://{registry.host}/{PATH}:1"
    (result,) = sync(root, source, "kstore:", policy=policy(tmp_path), dry_run=True)
    assert isinstance(result.error, PolicyRejectedError)


def test_an_image_that_is_there_is_not_read_where_everything_is_accepted(
    root: Path, faulty: FaultServer, tmp_path: Path
) -> None:
    for data in IMAGE.blobs.values():
        faulty.add_blob(data)
    faulty.add_manifest(IMAGE.raw.data, IMAGE.raw.media_type, tag="1")
    source, target = f"docker://{faulty.host}/team/app:1", "kstore:x.example/copy"
    accepting = policy(tmp_path, default="insecureAcceptAnything")
    sync(root, source, target, policy=accepting)
    read = len(faulty.seen("GET", "/manifests/"))
    assert statuses(sync(root, source, target, policy=accepting)) == ["unchanged"]
    assert len(faulty.seen("GET", "/manifests/")) == read


@pytest.mark.parametrize(
    ("checked", "with_referrers", "brought"),
    [(True, False, True), (False, True, True), (False, False, False)],
)
def test_a_signature_that_was_added_later_is_brought_to_those_who_ask_for_signatures(
    root: Path,
    registry: LocalRegistry,
    tmp_path: Path,
    checked: bool,
    with_referrers: bool,
    brought: bool,
) -> None:
    private, public = key_pair("ec")
    (tmp_path / "key.pub").write_bytes(public)
    wanted = {
        "type": "sigstoreSigned",
        "keyPath": str(tmp_path / "key.pub"),
        "signedIdentity": {"type": "matchRepository"},
    }
    digest, source = OTHER.raw.digest, f"docker://{registry.host}/{PATH}:2"
    trust = policy(tmp_path, wanted if checked else {"type": "insecureAcceptAnything"})
    wishes: dict[str, Any] = {"policy": trust, "with_referrers": with_referrers}
    told = []
    for _ in range(2):
        made = sign(private, None, digest, f"{registry.host}/{PATH}:2")
        with RegistryClient(registry.host, RegistrySettings(tls_verify=False)) as client:
            attach_signatures(client, PATH, digest, [made.to_bytes()])
        for _ in range(2):
            told += statuses(sync(root, source, "kstore:", attachments=True, **wishes))
    assert told == ["copied", "unchanged", "copied" if brought else "unchanged", "unchanged"]
    with Store.open(root) as store:
        assert len(store.signatures(digest)) == 1 + brought
