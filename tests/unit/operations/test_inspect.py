"""Everything the store knows about one image."""

from __future__ import annotations

import pytest

from kstore.errors import ImageNotFoundError, PlatformNotFoundError
from kstore.operations.inspect import inspect_image, read_top_manifest
from kstore.platforms import Platform
from kstore.store import Store
from tests.support.images import index_of, random_image
from tests.support.stores import put_image, put_index

AMD = random_image(1, labels={"a": "b"})
ARM = random_image(2, platform=Platform("linux", "arm64", "v8"), created=None)
INDEX = index_of([AMD, ARM])


def test_the_document_has_the_keys_and_values_of_the_image(store: Store) -> None:
    put_image(store, AMD, "quay.io/team/app:1", "localhost/app")
    document = inspect_image(store, "app").to_json()
    assert document["Id"] == AMD.id
    assert document["Digest"] == str(AMD.raw.digest)
    assert sorted(document["RepoTags"]) == ["localhost/app:latest", "quay.io/team/app:1"]
    assert document["Created"] == "2024-01-02T03:04:05Z"
    assert document["Labels"] == document["Config"]["Labels"] == {"a": "b"}
    assert document["ManifestType"] == AMD.raw.media_type
    assert [layer["Digest"] for layer in document["Layers"]] == [
        str(la.digest) for la in AMD.layers
    ]
    assert document["Size"] == sum(map(len, AMD.blobs.values()))
    assert (document["RootFS"]["Type"], len(document["RootFS"]["Layers"])) == ("layers", 2)
    assert [step["created_by"] for step in document["History"]] == ["layer 0", "layer 1"]
    assert document["Complete"] is True


def test_an_image_without_names_and_date_is_inspected_by_id(store: Store) -> None:
    put_image(store, ARM)
    document = inspect_image(store, ARM.id[:12]).to_json()
    assert (document["RepoTags"], document["RepoDigests"], document["Created"]) == ([], [], None)
    assert (document["Architecture"], document["Variant"]) == ("arm64", "v8")


def test_digests_are_those_of_the_manifest_and_of_the_index_it_came_from(store: Store) -> None:
    put_image(store, AMD, "quay.io/team/app:1", via=INDEX)
    assert inspect_image(store, "quay.io/team/app:1").repo_digests == (
        f"quay.io/team/app@{AMD.raw.digest}",
        f"quay.io/team/app@{INDEX.digest}",
    )


def test_an_image_with_a_missing_layer_says_that_it_is_not_complete(store: Store) -> None:
    put_image(store, AMD, "localhost/app")
    (store.root / "blobs/sha256" / AMD.layers[0].digest.hex).unlink()
    store.check()
    assert inspect_image(store, "app").to_json()["Complete"] is False


def test_an_image_that_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(ImageNotFoundError):
        inspect_image(store, "app")


def test_of_a_stored_index_the_member_for_a_platform_is_inspected(store: Store) -> None:
    put_index(store, INDEX, [AMD, ARM], "localhost/both")
    for image in (AMD, ARM):
        assert inspect_image(store, "both", platform=image.platform).image.id == image.id
    assert inspect_image(store, ARM.id, platform=Platform("linux", "amd64")).image.id == ARM.id
    with pytest.raises(PlatformNotFoundError, match="localhost/both:latest has no image for"):
        inspect_image(store, "both", platform=Platform("linux", "s390x"))


def test_a_member_that_is_not_in_the_store_is_said_to_be_missing(store: Store) -> None:
    put_index(store, INDEX, [AMD], "quay.io/team/both:1", "localhost/both:1")
    hint = "kstore pull --platform linux/arm64 quay.io/team/both:1"
    for name, said in (("quay.io/team/both:1", hint), ("both:1", None)):
        with pytest.raises(
            PlatformNotFoundError, match="linux/arm64 is not in the store"
        ) as caught:
            inspect_image(store, name, platform=Platform("linux", "arm64"))
        assert caught.value.hint == said


def test_a_name_stands_for_the_index_and_an_id_for_the_image(store: Store) -> None:
    put_index(store, INDEX, [AMD, ARM], "localhost/both")
    assert read_top_manifest(store, "both") == INDEX
    assert read_top_manifest(store, ARM.id) == ARM.raw
