"""What is attached to images: listed, and brought along from any place to any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.copier import CopyOptions
from kstore.copier.progress import Event
from kstore.digest import Digest
from kstore.errors import ConflictError, ImageNotFoundError, ManifestNotFoundError, UnsupportedError
from kstore.manifest import RawManifest
from kstore.mediatypes import DOCKER_MANIFEST, OCI_MANIFEST
from kstore.operations import referrers as module
from kstore.operations.copy import copy
from kstore.operations.pull import PullOptions, pull_image
from kstore.operations.push import PushOptions, push_image
from kstore.operations.referrers import list_referrers
from kstore.reference import Named
from kstore.registry import RegistryClient
from kstore.store import Store
from kstore.transports import Transports
from tests.support.attachments import SIGNATURES, cosign_attachment, cosign_tag
from tests.support.dockerregistry import DockerRegistry
from tests.support.faultserver import FaultServer
from tests.support.images import TestImage, index_of, random_artifact, random_image
from tests.support.localregistry import LocalRegistry, serve
from tests.support.referrers import ARM, BOTH, IMAGE, OF_ARM, OF_INDEX, OF_SBOM, SBOM, SIG, SIGNED
from tests.support.sessions import put
from tests.support.stores import put_artifact, put_image

PATH = "team/app"
ATTESTATION = cosign_attachment(b"it was built")
ATT = cosign_tag(IMAGE.raw.digest, "att")

#: Everything attached to IMAGE in :func:`registry`.
ALL = {each.raw.digest for each in (SBOM, OF_SBOM, ATTESTATION, SIGNED)}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """A registry that lists referrers, with an image and an index and much about them.

    Tests may push to other repositories of it.
    """
    with serve(tmp_path_factory.mktemp("registry") / "root") as registry:
        registry.push(PATH, "1", IMAGE)
        registry.push(PATH, str(ARM.raw.digest), ARM)
        assert registry.push_manifest(PATH, "both", BOTH).status == 201
        for artifact in (SBOM, OF_SBOM, OF_INDEX, OF_ARM):
            registry.push(PATH, str(artifact.raw.digest), artifact)
        registry.push(PATH, ATT, ATTESTATION)
        registry.push(PATH, SIG, SIGNED)
        yield registry


@pytest.fixture
def app(registry: LocalRegistry) -> str:
    """The name of the image there."""
    return f"{registry.host}/{PATH}:1"


def found(transports: Transports, text: str, **wishes: bool) -> set[Digest]:
    return {each.descriptor.digest for each in list_referrers(transports, text, **wishes)}


def test_a_registry_is_asked_for_referrers_and_for_what_cosign_attached(
    transports: Transports, app: str
) -> None:
    listed = {
        each.descriptor.digest: each for each in list_referrers(transports, f"docker://{app}")
    }
    assert set(listed) == ALL - {OF_SBOM.raw.digest}
    assert listed[SBOM.raw.digest].kind == "application/spdx+json"
    assert listed[ATTESTATION.raw.digest].kind == "cosign att"
    assert listed[SIGNED.raw.digest].tag == SIG
    assert {each.subject for each in listed.values()} == {IMAGE.raw.digest}


def test_what_is_attached_to_attachments_is_listed_on_request(
    transports: Transports, app: str
) -> None:
    assert found(transports, f"docker://{app}", recursive=True) == ALL


def test_only_one_type_is_listed_on_request(transports: Transports, app: str) -> None:
    (only,) = list_referrers(transports, f"docker://{app}", artifact_type="application/spdx+json")
    assert only.descriptor.digest == SBOM.raw.digest
    (only,) = list_referrers(transports, f"docker://{app}", artifact_type="cosign sig")
    assert only.descriptor.digest == SIGNED.raw.digest
    assert list_referrers(transports, f"docker://{app}", artifact_type="x/y") == ()


def test_an_image_that_is_not_there_is_an_error(transports: Transports, app: str) -> None:
    with pytest.raises(ManifestNotFoundError):
        list_referrers(transports, f"docker://{app}0")
    with pytest.raises(ImageNotFoundError) as caught:
        list_referrers(transports, "nothing:1")
    assert caught.value.hint == "kstore referrers docker://nothing:1"


@pytest.mark.parametrize("text", ["dir:{0}", "docker-archive:{0}/x.tar"])
def test_places_without_attachments_say_so(
    tmp_path: Path, transports: Transports, text: str
) -> None:
    with pytest.raises(UnsupportedError, match="nothing can be attached"):
        list_referrers(transports, text.format(tmp_path))


def pulled(store: Store, transports: Transports, app: str) -> None:
    pull_image(store, transports, app, PullOptions(with_referrers=True))


def test_a_pull_leaves_attachments_where_they_are_unless_they_are_wanted(
    store: Store, transports: Transports, app: str
) -> None:
    pull_image(store, transports, app)
    assert found(transports, app) == set()


def test_a_pull_brings_what_is_attached_and_what_is_attached_to_that(
    store: Store, transports: Transports, app: str
) -> None:
    events: list[Event] = []
    pull_image(store, transports, app, PullOptions(with_referrers=True), progress=events.append)
    assert found(transports, app, recursive=True) == ALL
    assert found(transports, app) == ALL - {OF_SBOM.raw.digest}
    assert [image.id for image in store.images()] == [IMAGE.id], "none of it is an image"
    assert "with 4 things that are attached to it" in {event.text for event in events}


def test_a_pull_from_an_index_brings_what_is_attached_to_both(
    store: Store, transports: Transports, registry: LocalRegistry
) -> None:
    pulled(store, transports, f"{registry.host}/{PATH}:both")
    text = f"{registry.host}/{PATH}:both"
    assert found(transports, text, recursive=True) == ALL | {OF_INDEX.raw.digest}


def test_what_is_attached_is_kept_as_long_as_its_image(
    store: Store, transports: Transports, app: str
) -> None:
    pulled(store, transports, app)
    assert store.prune(lease_grace=0).blobs_removed == 0
    assert found(transports, app, recursive=True) == ALL
    assert not store.check(deep=True).problems


def test_what_is_attached_goes_with_its_image(
    store: Store, transports: Transports, app: str
) -> None:
    pulled(store, transports, app)
    store.remove_name(Named.parse(app))
    assert (store.names(), store.images(), store.facts().blobs) == ([], [], 0)


def test_what_is_attached_goes_when_its_image_is_pruned(
    store: Store, transports: Transports, app: str
) -> None:
    pulled(store, transports, app)
    store.untag(Named.parse(app))
    assert store.prune(lease_grace=0, only_images=()).blobs_removed == 0
    assert len(store.names()) == 2, "the tags of the attachments"
    store.prune(lease_grace=0)
    assert (store.names(), store.facts().blobs) == ([], 0)


def test_a_signature_whose_image_never_came_is_not_taken_for_garbage(store: Store) -> None:
    put_artifact(store, SIGNED, f"x.test/app:{SIG}")
    store.prune(lease_grace=0)
    assert [record.name.tag for record in store.names()] == [SIG]


def test_a_push_brings_to_another_registry_what_the_store_has(
    store: Store, transports: Transports, app: str, registry: LocalRegistry
) -> None:
    pulled(store, transports, app)
    there = f"{registry.host}/other/place:2"
    push_image(store, transports, app, there, PushOptions(with_referrers=True))
    assert found(transports, f"docker://{there}", recursive=True) == ALL


def test_a_registry_without_a_list_gets_its_index(
    store: Store, transports: Transports, app: str, faulty: FaultServer
) -> None:
    pulled(store, transports, app)
    there = f"{faulty.host}/other/place:2"
    push_image(store, transports, app, there, PushOptions(with_referrers=True))
    assert f"sha256-{IMAGE.raw.digest.hex}" in faulty.manifests["other/place"]
    assert found(transports, f"docker://{there}", recursive=True) == ALL


def test_an_image_tagged_elsewhere_takes_its_attachments_along(
    store: Store, transports: Transports, app: str, faulty: FaultServer
) -> None:
    pulled(store, transports, app)
    there = Named.parse(f"{faulty.host}/renamed:3")
    store.tag(store.find_image(app), [there])
    push_image(store, transports, str(there), None, PushOptions(with_referrers=True))
    assert found(transports, f"docker://{there}", recursive=True) == ALL
    assert {ATT, SIG, "3"} <= faulty.manifests["renamed"].keys()


def test_copies_bring_everything_through_a_layout_and_out_again(
    tmp_path: Path, transports: Transports, app: str, faulty: FaultServer
) -> None:
    layout, there = f"oci:{tmp_path}/layout:app", f"docker://{faulty.host}/other/place:2"
    ends = [transports.parse(text) for text in (f"docker://{app}", layout, there)]
    copy(ends[0], ends[1], with_referrers=True)
    assert found(transports, layout, recursive=True) == ALL
    copy(ends[1], ends[2], with_referrers=True)
    assert found(transports, there, recursive=True) == ALL
    copy(ends[2], ends[1], with_referrers=True)  # nothing new, and no second entry of anything
    assert found(transports, layout, recursive=True) == ALL


def test_copies_bring_everything_through_an_archive_and_out_again(
    tmp_path: Path, transports: Transports, app: str, faulty: FaultServer
) -> None:
    archive, there = f"oci-archive:{tmp_path}/file:app", f"docker://{faulty.host}/other/place:2"
    ends = [transports.parse(text) for text in (f"docker://{app}", archive, there)]
    copy(ends[0], ends[1], with_referrers=True)
    assert found(transports, archive, recursive=True) == ALL
    copy(ends[1], ends[2], with_referrers=True)
    assert found(transports, there, recursive=True) == ALL


def test_what_is_attached_and_there_already_is_not_sent_again(
    transports: Transports, app: str, faulty: FaultServer
) -> None:
    ends = [transports.parse(f"docker://{name}") for name in (app, f"{faulty.host}/other/place:2")]
    copy(*ends, with_referrers=True)
    sent = len(faulty.seen("PUT"))
    copy(*ends, with_referrers=True)
    assert [record.target for record in faulty.seen("PUT")[sent:]] == [
        "/v2/other/place/manifests/2"
    ]


def test_the_only_image_of_a_layout_is_still_the_only_one(
    tmp_path: Path, transports: Transports, app: str
) -> None:
    layout = transports.parse(f"oci:{tmp_path}/layout")
    copy(transports.parse(f"docker://{app}"), layout, with_referrers=True)
    with layout.open_source() as source:
        assert source.read_manifest().digest == IMAGE.raw.digest


def test_a_copy_of_all_members_brings_what_is_attached_to_each(
    tmp_path: Path, transports: Transports, registry: LocalRegistry
) -> None:
    layout = f"oci:{tmp_path}/layout:both"
    copy(
        transports.parse(f"docker://{registry.host}/{PATH}:both"),
        transports.parse(layout),
        CopyOptions(instances="all"),
        with_referrers=True,
    )
    refs = {ref for _, ref in transports.parse(f"oci:{tmp_path}/layout").images()}
    assert refs == {"both", None, ATT, SIG}
    assert found(transports, layout) == {OF_INDEX.raw.digest}
    source = transports.parse(f"oci:{tmp_path}/layout:both").open_source()
    assert source.read_manifest(ARM.raw.digest).data == ARM.raw.data
    assert listed_in(transports, f"oci:{tmp_path}/layout") == {
        *ALL,
        OF_INDEX.raw.digest,
        OF_ARM.raw.digest,
        BOTH.digest,
    }


def test_what_would_change_the_digest_is_refused(
    tmp_path: Path, transports: Transports, app: str
) -> None:
    with pytest.raises(UnsupportedError, match="digest is to be preserved"):
        copy(
            transports.parse(f"docker://{app}"),
            transports.parse("kstore:x.test/app"),
            CopyOptions(manifest_type=DOCKER_MANIFEST),
            with_referrers=True,
        )


@pytest.mark.parametrize(
    ("source", "destination"),
    [("docker://{app}", "dir:{path}/out"), ("dir:{path}/image", "oci:{path}/out")],
)
def test_a_place_without_attachments_is_refused_before_anything_moves(
    tmp_path: Path, transports: Transports, app: str, source: str, destination: str
) -> None:
    copy(transports.parse(f"docker://{app}"), transports.parse(f"dir:{tmp_path}/image"))
    ends = [transports.parse(t.format(app=app, path=tmp_path)) for t in (source, destination)]
    with pytest.raises(UnsupportedError, match="nothing can be attached"):
        copy(*ends, with_referrers=True)
    assert not (tmp_path / "out").exists()


def test_an_image_that_refers_to_another_is_told_of_and_left(
    tmp_path: Path, store: Store, transports: Transports
) -> None:
    intruder = random_image(9, subject=IMAGE.raw.descriptor)
    events: list[Event] = []
    with serve(tmp_path / "own") as own:
        own.push(PATH, "1", IMAGE)
        own.push(PATH, str(intruder.raw.digest), intruder)
        name, options = f"{own.host}/{PATH}:1", PullOptions(with_referrers=True)
        pull_image(store, transports, name, options, progress=events.append)
    assert [image.id for image in store.images()] == [IMAGE.id]
    assert any(event.text and "is an image itself" in event.text for event in events)


def test_an_image_that_is_listed_as_something_else_is_refused(
    store: Store, transports: Transports, faulty: FaultServer
) -> None:
    intruder = random_image(9, subject=IMAGE.raw.descriptor)
    for image in (IMAGE, intruder):
        for data in image.blobs.values():
            faulty.add_blob(data)
        faulty.add_manifest(image.raw.data, image.raw.media_type)
    faulty.add_manifest(IMAGE.raw.data, IMAGE.raw.media_type, tag="1")
    index = index_of([random_image(9, subject=IMAGE.raw.descriptor)])
    faulty.add_manifest(index.data, index.media_type, tag=f"sha256-{IMAGE.raw.digest.hex}")
    with pytest.raises(UnsupportedError, match="is an image, where only an artifact is wanted"):
        pulled(store, transports, f"{faulty.host}/team/app:1")
    assert [image.id for image in store.images()] == [IMAGE.id]


def chain(length: int) -> list[TestImage]:
    """Artifacts each of which refers to the one before, the first to IMAGE."""
    links: list[TestImage] = []
    for number in range(length):
        subject = links[-1].raw.descriptor if links else IMAGE.raw.descriptor
        links.append(random_artifact(100 + number, subject=subject))
    return links


def test_referrers_are_followed_so_deep_and_no_deeper(store: Store, transports: Transports) -> None:
    put_image(store, IMAGE, "app:1")
    *links, last = chain(module.MAX_DEPTH + 1)
    for link in links:
        put_artifact(store, link)
    assert len(found(transports, "app:1", recursive=True)) == module.MAX_DEPTH
    put_artifact(store, last)
    with pytest.raises(UnsupportedError, match="more than 8 deep"):
        list_referrers(transports, "app:1", recursive=True)


def test_a_flood_of_referrers_is_refused(
    store: Store, transports: Transports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REFERRERS", 3)
    put_image(store, IMAGE, "app:1")
    for number in range(4):
        put_artifact(store, random_artifact(number, subject=IMAGE.raw.descriptor))
    with pytest.raises(UnsupportedError, match="more than 3 things"):
        list_referrers(transports, "app:1")


@pytest.mark.peer
def test_an_old_registry_keeps_attachments_through_its_index(
    tmp_path: Path, store: Store, transports: Transports, app: str
) -> None:
    pulled(store, transports, app)
    with DockerRegistry(tmp_path) as old:
        there = f"{old.host}/other/place:2"
        push_image(store, transports, app, there, PushOptions(with_referrers=True))
        assert found(transports, f"docker://{there}", recursive=True) == ALL


def test_clients_find_at_the_stores_own_registry_what_was_pulled(
    tmp_path: Path, transports: Transports, store: Store, app: str
) -> None:
    pulled(store, transports, app)
    repository = Named.parse(app)
    with serve(store.root) as own:
        client = transports.docker.client(own.host)
        assert isinstance(client, RegistryClient)
        path = f"{repository.domain.replace(':', '_')}/{repository.path}"
        referrers = {each.digest for each in client.referrers(path, IMAGE.raw.digest)}
        assert SBOM.raw.digest in referrers
        assert client.get_manifest(path, SIG).data == SIGNED.raw.data


def test_a_pull_of_all_tags_leaves_out_those_of_attachments(
    store: Store, transports: Transports, faulty: FaultServer
) -> None:
    for data in (*IMAGE.blobs.values(), *SIGNED.blobs.values()):
        faulty.add_blob(data)
    faulty.add_manifest(IMAGE.raw.data, IMAGE.raw.media_type, tag="1")
    faulty.add_manifest(SIGNED.raw.data, SIGNED.raw.media_type, tag=SIG)
    index = index_of([SBOM])
    faulty.add_manifest(index.data, index.media_type, tag=f"sha256-{IMAGE.raw.digest.hex}")
    options = PullOptions(all_tags=True)
    result = pull_image(store, transports, f"{faulty.host}/team/app", options)
    assert ([str(each.name.tag) for each in result.pulled], result.failed) == (["1"], ())


def test_what_is_attached_goes_from_a_layout_with_its_image(
    tmp_path: Path, transports: Transports, registry: LocalRegistry
) -> None:
    layout = f"oci:{tmp_path}/layout"
    for tag in ("both", "1"):
        copy(
            transports.parse(f"docker://{registry.host}/{PATH}:{tag}"),
            transports.parse(f"{layout}:{tag}"),
            CopyOptions(instances="all"),
            with_referrers=True,
        )
    alone = random_artifact(50, subject=random_image(50).raw.descriptor)
    put(transports.parse(f"{layout}:alone"), alone)

    transports.parse(f"{layout}:1").delete()  # still a member of the index
    assert listed_in(transports, layout) == {
        *ALL,
        *(each.raw.digest for each in (OF_INDEX, OF_ARM, alone)),
        BOTH.digest,
    }
    transports.parse(f"{layout}:both").delete()
    assert listed_in(transports, layout) == {alone.raw.digest}
    blobs = {path.name for path in (tmp_path / "layout/blobs/sha256").iterdir()}
    assert blobs == {digest.hex for digest in (alone.raw.digest, *alone.blobs)}


def listed_in(transports: Transports, layout: str) -> set[Digest]:
    """The manifests that index.json of a layout lists."""
    images = transports.parse(layout).images()
    return {reference.open_source().read_manifest().digest for reference, _ in images}


def with_layers(*images: TestImage) -> TestImage:
    """Attachments as one, as cosign adds to what is there."""
    document = json.loads(images[0].raw.data)
    document["layers"] = [layer.to_json() for image in images for layer in image.layers]
    return TestImage(
        raw=RawManifest.receive(json.dumps(document).encode(), OCI_MANIFEST),
        blobs={digest: data for image in images for digest, data in image.blobs.items()},
        config=images[0].config,
        layers=tuple(layer for image in images for layer in image.layers),
        platform=images[0].platform,
    )


OTHER_SIGNED = cosign_attachment(b"somebody else signed it", SIGNATURES)
BOTH_SIGNED = with_layers(SIGNED, OTHER_SIGNED)


@pytest.mark.parametrize(
    ("here", "there", "after"),
    [
        (SIGNED, SIGNED, SIGNED),
        (BOTH_SIGNED, SIGNED, BOTH_SIGNED),
        (SIGNED, BOTH_SIGNED, BOTH_SIGNED),
        (SIGNED, OTHER_SIGNED, None),
    ],
    ids=["the-same", "more-here", "more-there", "something-else"],
)
@pytest.mark.parametrize("place", ["docker://{host}/there:1", "oci:{path}/layout:1"])
def test_what_others_attached_is_never_lost(
    tmp_path: Path,
    transports: Transports,
    here: TestImage,
    there: TestImage,
    after: TestImage | None,
    place: str,
) -> None:
    with serve(tmp_path / "own") as own:
        own.push("here", "1", IMAGE)
        own.push("here", SIG, here)
        source = transports.parse(f"docker://{own.host}/here:1")
        target = transports.parse(place.format(host=own.host, path=tmp_path))
        beside = transports.parse(
            place.format(host=own.host, path=tmp_path).removesuffix("1") + SIG
        )
        put(target, IMAGE)
        put(beside, there)
        if after is None:
            with pytest.raises(ConflictError, match="would be lost"):
                copy(source, target, with_referrers=True)
        else:
            copy(source, target, with_referrers=True)
        with beside.open_source() as left:
            assert left.read_manifest().data == (after or there).raw.data


def test_an_image_of_two_registries_goes_on_with_what_is_attached_to_it_under_its_own_name(
    tmp_path: Path, store: Store, transports: Transports
) -> None:
    with serve(tmp_path / "own") as own:
        for path, attached in (("one", SIGNED), ("two", OTHER_SIGNED)):
            own.push(path, "1", IMAGE)
            own.push(path, SIG, attached)
            pulled(store, transports, f"{own.host}/{path}:1")
        for path, attached in (("one", SIGNED), ("two", OTHER_SIGNED)):
            assert found(transports, f"{own.host}/{path}:1") == {attached.raw.digest}
            target = f"oci:{tmp_path}/{path}:1"
            ends = [transports.parse(text) for text in (f"kstore:{own.host}/{path}:1", target)]
            copy(*ends, with_referrers=True)
            assert found(transports, target) == {attached.raw.digest}


def test_signatures_that_were_replaced_are_garbage(
    tmp_path: Path, store: Store, transports: Transports
) -> None:
    with serve(tmp_path / "own") as own:
        own.push("here", "1", IMAGE)
        for attached in (SIGNED, BOTH_SIGNED):
            own.push("here", SIG, attached)
            pulled(store, transports, f"{own.host}/here:1")
    assert found(transports, f"{own.host}/here:1") == {BOTH_SIGNED.raw.digest}
    assert store.prune(lease_grace=0).blobs_removed == 1, "the manifest"
    assert store.manifest(SIGNED.raw.digest) is None
    assert found(transports, f"{own.host}/here:1") == {BOTH_SIGNED.raw.digest}
