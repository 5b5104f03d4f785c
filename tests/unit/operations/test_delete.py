"""Deleting at a registry, and elsewhere: never more than was meant."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from kstore.errors import (
    ConflictError,
    InvalidInputError,
    KstoreError,
    ManifestNotFoundError,
    NotFoundError,
    UnsupportedError,
)
from kstore.operations import delete
from kstore.operations.delete import Deleted, DeleteOptions, delete_image
from kstore.operations.push import push_image
from kstore.store import Store
from kstore.transports import Transports
from tests.support.dockerregistry import DockerRegistry
from tests.support.faultserver import Fault, FaultServer
from tests.support.images import TestImage, random_image, write_oci_layout
from tests.support.localregistry import serve
from tests.support.stores import put_image

IMAGE, OTHER = random_image(1), random_image(2)
FORCE = DeleteOptions(force=True)


def offer(server: FaultServer, image: TestImage, *tags: str) -> str:
    """Put an image under tags; the place of the repository."""
    for tag in tags:
        server.add_manifest(image.raw.data, image.raw.media_type, "team/app", tag)
    return f"docker://{server.host}/team/app"


def kept(server: FaultServer) -> set[str]:
    return set(server.manifests["team/app"])


def without_tag_deletion(server: FaultServer, status: int = 405) -> None:
    """Let the registry delete by digest only, as the distribution project's does."""
    server.fault(Fault(status=status, body=b"{}"), "DELETE", "/manifests/v", times=99)


def test_a_tag_goes_and_the_manifest_stays(transports: Transports, faulty: FaultServer) -> None:
    place = offer(faulty, IMAGE, "v1", "v2")
    gone = delete_image(transports, f"{place}:v1")
    assert gone == Deleted((f"{faulty.host}/team/app:v1",))
    assert kept(faulty) == {"v2", str(IMAGE.raw.digest)}
    assert faulty.seen("GET", "/tags/list") == []  # nothing had to be asked


@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_registry_without_tag_deletion_deletes_a_manifest_with_one_tag(
    transports: Transports, faulty: FaultServer, status: int
) -> None:
    place = offer(faulty, IMAGE, "v1")
    offer(faulty, OTHER, "v2")
    without_tag_deletion(faulty, status)
    gone = delete_image(transports, f"{place}:v1")
    assert gone == Deleted((f"{faulty.host}/team/app:v1",), IMAGE.raw.digest)
    assert str(IMAGE.raw.digest) not in kept(faulty)
    assert {"v2", str(OTHER.raw.digest)} <= kept(faulty)


@pytest.mark.parametrize("options", [DeleteOptions(), DeleteOptions(digest=True)])
def test_other_tags_of_the_manifest_stand_in_the_way(
    transports: Transports, faulty: FaultServer, options: DeleteOptions
) -> None:
    place = offer(faulty, IMAGE, "v1", "v2", "v3")
    offer(faulty, OTHER, "v4")
    without_tag_deletion(faulty)
    before = kept(faulty)
    with pytest.raises(ConflictError, match=r"would also delete the tags v2, v3$") as caught:
        delete_image(transports, f"{place}:v1", options)
    assert caught.value.hint == "--force deletes all of them"
    assert kept(faulty) == before
    assert faulty.seen("DELETE", "sha256") == []


def test_by_digest_every_tag_stands_in_the_way(transports: Transports, faulty: FaultServer) -> None:
    place = offer(faulty, IMAGE, "v1")
    with pytest.raises(ConflictError, match=r"would also delete the tag v1$"):
        delete_image(transports, f"{place}@{IMAGE.raw.digest}")
    assert faulty.seen("DELETE") == []


def test_force_deletes_the_manifest_and_tells_what_went_with_it(
    transports: Transports, faulty: FaultServer
) -> None:
    place = offer(faulty, IMAGE, "v1", "v2")
    gone = delete_image(transports, f"{place}:v1", DeleteOptions(digest=True, force=True))
    name = f"{faulty.host}/team/app"
    assert gone == Deleted((f"{name}:v1", f"{name}:v2"), IMAGE.raw.digest)
    assert str(IMAGE.raw.digest) not in kept(faulty)


def test_a_manifest_without_a_tag_is_deleted_by_its_digest(
    transports: Transports, faulty: FaultServer
) -> None:
    place = offer(faulty, IMAGE, "v1")
    del faulty.manifests["team/app"]["v1"]
    assert delete_image(transports, f"{place}@{IMAGE.raw.digest}") == Deleted((), IMAGE.raw.digest)


def test_a_list_of_tags_that_is_refused_is_no_empty_one(
    transports: Transports, faulty: FaultServer
) -> None:
    place = offer(faulty, IMAGE, "v1", "v2")
    without_tag_deletion(faulty)
    faulty.fault(Fault(status=404, body=b"{}"), "GET", "/tags/list")
    with pytest.raises(NotFoundError, match="does not tell the tags of team/app"):
        delete_image(transports, f"{place}:v1")
    assert faulty.seen("DELETE", "sha256") == []


def test_more_tags_than_can_be_asked_for_are_not_guessed_about(
    transports: Transports, faulty: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delete, "MAX_TAGS", 2)
    place = offer(faulty, IMAGE, "v1", "v2", "v3")
    without_tag_deletion(faulty)
    with pytest.raises(UnsupportedError, match="more than 2 tags"):
        delete_image(transports, f"{place}:v1")
    assert faulty.seen("DELETE", "sha256") == []


def test_a_registry_that_deletes_nothing_says_how_it_could(
    transports: Transports, faulty: FaultServer
) -> None:
    place = offer(faulty, IMAGE, "v1")
    refusal = Fault(status=405, body=b'{"errors":[{"code":"UNSUPPORTED"}]}')
    faulty.fault(refusal, "DELETE", times=9)
    with pytest.raises(UnsupportedError, match="does not allow manifests to be deleted") as caught:
        delete_image(transports, f"{place}:v1")
    assert "REGISTRY_STORAGE_DELETE_ENABLED" in str(caught.value.hint)


@pytest.mark.parametrize("mark", [":none", f"@{OTHER.raw.digest}"])
def test_what_is_not_there_cannot_be_deleted(
    transports: Transports, faulty: FaultServer, mark: str
) -> None:
    place = offer(faulty, IMAGE, "v1")
    with pytest.raises(ManifestNotFoundError):
        delete_image(transports, f"{place}{mark}", FORCE)
    assert "v1" in kept(faulty)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("team/app:v1", "kstore delete docker://team/app:v1, or for the store: kstore rmi"),
        ("docker://127.0.0.1:1/team/app", "kstore list-tags docker://127.0.0.1:1/team/app"),
    ],
)
def test_what_is_not_said_is_not_guessed(transports: Transports, text: str, hint: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        delete_image(transports, text, FORCE)
    assert str(caught.value.hint).startswith(hint)


def test_kstores_own_registry_takes_a_tag_away(transports: Transports, tmp_path: Path) -> None:
    with serve(tmp_path / "registry") as registry:
        registry.push("team/app", "v1", IMAGE)
        registry.push("team/app", "v2", IMAGE)
        delete_image(transports, f"docker://{registry.host}/team/app:v1")
        assert registry.ask("GET", "/v2/team/app/tags/list").json["tags"] == ["v2"]
        assert registry.ask("GET", f"/v2/team/app/manifests/{IMAGE.raw.digest}").status == 200


def test_an_image_of_a_layout_is_deleted(transports: Transports, tmp_path: Path) -> None:
    write_oci_layout(tmp_path / "layout", {"v1": IMAGE, "v2": OTHER})
    text = f"oci:{tmp_path / 'layout'}:v1"
    assert delete_image(transports, text) == Deleted((text,))
    with pytest.raises(NotFoundError):
        delete_image(transports, text)


def test_a_name_of_the_store_is_deleted(store: Store, transports: Transports) -> None:
    put_image(store, IMAGE, "localhost/app:1")
    delete_image(transports, "kstore:localhost/app:1")
    assert store.names() == []


def test_an_archive_refuses(transports: Transports) -> None:
    with pytest.raises(KstoreError) as caught:
        delete_image(transports, "docker-archive:images.tar:app:1")
    assert caught.value.exit_code == 6


def push_twice(store: Store, transports: Transports, registry: DockerRegistry) -> str:
    put_image(store, IMAGE, "localhost/app:1")
    place = f"docker://{registry.host}/team/app"
    for tag in ("v1", "v2"):
        push_image(store, transports, "localhost/app:1", f"{place}:{tag}")
    return place


@pytest.mark.peer
def test_the_distribution_projects_registry_loses_no_tag_by_accident(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    with DockerRegistry(tmp_path) as registry:
        place = push_twice(store, transports, registry)
        client = transports.docker.client(registry.host)
        with suppress(ConflictError):  # versions before 3 delete by digest only
            delete_image(transports, f"{place}:v1")
        assert client.head_manifest("team/app", "v2") is not None
        if client.head_manifest("team/app", "v1") is not None:
            gone = delete_image(transports, f"{place}:v1", FORCE)
            assert gone.digest == IMAGE.raw.digest
        assert client.head_manifest("team/app", "v1") is None


@pytest.mark.peer
def test_the_distribution_projects_registry_deletes_nothing_unless_told_to(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    with DockerRegistry(tmp_path, delete=False) as registry:
        place = push_twice(store, transports, registry)
        with pytest.raises(UnsupportedError) as caught:
            delete_image(transports, f"{place}:v1", FORCE)
        assert "REGISTRY_STORAGE_DELETE_ENABLED" in str(caught.value.hint)
