"""Copies between a registry and the store: indexes, names by digest, facts about layers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.app import App, RegistryOptions
from kstore.copier import CopyOptions, CopyResult, copy_image
from kstore.digest import Digest
from kstore.errors import DigestMismatchError, ImageNotFoundError
from kstore.manifest import parse_image
from kstore.operations.pull import pull_image
from kstore.operations.push import push_image
from kstore.platforms import Platform, host_platform
from kstore.settings import load
from kstore.signing.policy import AcceptAnything
from kstore.store import Store
from kstore.transports import Transports
from tests.support.images import TestImage, index_of, random_image
from tests.support.localregistry import LocalRegistry, serve

HERE = host_platform()
ELSEWHERE = Platform("linux", "s390x")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store", command="test") as store:
        yield store


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    with serve(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def transports(store: Store) -> Iterator[Transports]:
    app = App(load({}, root=store.root))
    with app.transports(store, RegistryOptions(tls_verify=False)) as transports:
        yield transports


def copied(transports: Transports, source: str, to: str, **options) -> CopyResult:
    facts = transports.storage.store.layer_facts
    return copy_image(
        transports.parse(source),
        transports.parse(to),
        AcceptAnything(),
        CopyOptions(**options),
        facts=facts,
    )


def offer_index(registry: LocalRegistry, images: list[TestImage]) -> bytes:
    for image in images:
        registry.push("team/app", str(image.raw.digest), image)
    index = index_of(images)
    assert registry.push_manifest("team/app", "v1", index).status == 201
    return index.data


def members() -> list[TestImage]:
    return [
        random_image(1, platform=HERE),
        random_image(2, platform=ELSEWHERE),
        random_image(3, platform=Platform("unknown", "unknown")),
    ]


def test_an_index_goes_into_the_store_and_out_again_byte_for_byte(
    store: Store, transports: Transports, registry: LocalRegistry
) -> None:
    images = members()
    index = offer_index(registry, images)
    name = f"{registry.host}/team/app:v1"
    result = copied(transports, f"docker://{name}", f"kstore:{name}", instances="all")
    assert result.raw.data == index
    assert store.find_image(name).image.id == images[0].id

    out = f"docker://{registry.host}/other/app:v1"
    assert copied(transports, f"kstore:{name}", out, instances="all").raw.data == index
    assert registry.ask("GET", "/v2/other/app/manifests/v1").body == index
    for image in images:
        answer = registry.ask("GET", f"/v2/other/app/manifests/{image.raw.digest}")
        assert answer.body == image.raw.data

    pushed = push_image(store, transports, name, f"{registry.host}/pushed/app:v1")
    assert pushed.digest == Digest.of(index)
    assert registry.ask("GET", "/v2/pushed/app/manifests/v1").body == index


def test_an_attestation_is_kept_but_is_no_image(
    store: Store, transports: Transports, registry: LocalRegistry
) -> None:
    images = members()
    offer_index(registry, images)
    name = f"{registry.host}/team/app:v1"
    copied(transports, f"docker://{name}", f"kstore:{name}", instances="all")
    assert {image.id for image in store.images()} == {image.id for image in images[:2]}
    assert store.read_manifest(images[2].raw.digest).data == images[2].raw.data
    assert store.check(deep=True).problems == ()
    store.prune()
    assert store.read_manifest(images[2].raw.digest).data == images[2].raw.data


def test_a_member_of_a_stored_index_is_chosen_by_platform(
    transports: Transports, registry: LocalRegistry
) -> None:
    images = members()
    offer_index(registry, images)
    name = f"{registry.host}/team/app:v1"
    copied(transports, f"docker://{name}", f"kstore:{name}", instances="all")
    out = f"docker://{registry.host}/one/app:v1"
    assert copied(transports, f"kstore:{name}", out).raw == images[0].raw
    assert copied(transports, f"kstore:{name}", out, platform=ELSEWHERE).raw == images[1].raw


def test_a_pulled_member_is_pushed_as_itself(
    store: Store, transports: Transports, registry: LocalRegistry
) -> None:
    images = members()
    offer_index(registry, images)
    name = f"{registry.host}/team/app:v1"
    pull_image(store, transports, name)
    pushed = push_image(store, transports, name, f"{registry.host}/pushed/app:v1")
    assert pushed.digest == images[0].raw.digest


def test_an_image_pulled_by_the_digest_of_its_index_can_be_pushed(
    store: Store, transports: Transports, registry: LocalRegistry
) -> None:
    images = members()
    digest = Digest.of(offer_index(registry, images))
    name = f"{registry.host}/team/app@{digest}"
    pull_image(store, transports, name)
    pushed = push_image(store, transports, name, f"{registry.host}/pushed/app:v1")
    assert pushed.digest == images[0].raw.digest


def test_an_index_with_a_missing_blob_leaves_no_name(
    store: Store, transports: Transports, registry: LocalRegistry
) -> None:
    images = members()
    offer_index(registry, images)
    with registry.open_store() as behind:
        behind_path = behind.root / "blobs" / "sha256" / images[1].layers[0].digest.hex
    data = behind_path.read_bytes()
    behind_path.unlink()
    behind_path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    name = f"{registry.host}/team/app:v1"
    with pytest.raises(DigestMismatchError):
        copied(transports, f"docker://{name}", f"kstore:{name}", instances="all")
    with pytest.raises(ImageNotFoundError):
        store.find_image(name)


@pytest.mark.parametrize("docker", [True, False])
def test_a_foreign_layer_may_stay_away_from_the_store(
    store: Store, transports: Transports, registry: LocalRegistry, docker: bool
) -> None:
    from tests.unit.copier.test_indexes import foreign

    image = foreign(mt.DOCKER_FOREIGN_LAYER if docker else mt.OCI_NONDISTRIBUTABLE + "+gzip")
    layer = image.layers[0].digest
    blobs = {digest: data for digest, data in image.blobs.items() if digest != layer}
    registry.push("team/app", "v1", TestImage(image.raw, blobs, b"", (), image.platform))
    name = f"{registry.host}/team/app:v1"
    copied(transports, f"docker://{name}", f"kstore:{name}")
    assert store.blob(layer) is None
    out = f"docker://{registry.host}/out/app:v1"
    assert copied(transports, f"kstore:{name}", out).raw == image.raw


def test_a_layer_that_was_converted_before_is_not_converted_again(
    store: Store,
    transports: Transports,
    registry: LocalRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = random_image(1, compression="none")
    registry.push("team/app", "v1", image)
    source = f"docker://{registry.host}/team/app:v1"
    wishes = {"compression": "gzip", "compression_level": 1}
    first = copied(transports, source, "kstore:one", **wishes)

    def never(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr("kstore.copier.transfer.make_spool", never)
    into_store = copied(transports, source, "kstore:two", **wishes)
    out = f"docker://{registry.host}/team/app:v2"
    monkeypatch.undo()
    copied(transports, source, out, **wishes)
    monkeypatch.setattr("kstore.copier.transfer.make_spool", never)
    again = copied(transports, source, out, **wishes)
    assert first.raw == into_store.raw == again.raw
    assert [layer.how for layer in again.layers] == ["present", "present"]


def test_facts_are_recorded_in_the_calling_thread_only(
    store: Store, transports: Transports, registry: LocalRegistry
) -> None:
    image = random_image(1, compression="none", layers=4)
    registry.push("team/app", "v1", image)
    threads = set()

    class Watched:
        def __getattr__(self, name):
            threads.add(threading.get_ident())
            return getattr(store.layer_facts, name)

    result = copy_image(
        transports.parse(f"docker://{registry.host}/team/app:v1"),
        transports.parse("kstore:one"),
        AcceptAnything(),
        CopyOptions(compression="zstd"),
        facts=Watched(),  # type: ignore[arg-type]
    )
    assert threads == {threading.get_ident()}
    for before, after in zip(image.layers, parse_image(result.raw).layers, strict=True):
        [fact] = store.layer_facts.packed(before.digest, "zstd")
        assert (fact.digest, fact.size) == (after.digest, after.size)
