"""What is attached to an image lives as long as the image: whatever removes one, or spares it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.operations.working import make_container
from kstore.store import Store
from kstore.store.rebuild import rebuild
from kstore.store.retention import Retention
from tests.support.attachments import cosign_attachment, cosign_tag
from tests.support.images import TestImage, random_artifact, random_image
from tests.support.stores import named, put_artifact, put_image

GONE, STAYS = random_image(1), random_image(2)
SBOM = {
    image.id: random_artifact(number, subject=image.raw.descriptor)
    for number, image in enumerate((GONE, STAYS))
}
#: A signature of each list of contents.
OF_SBOM = {
    image: random_artifact(number, subject=sbom.raw.descriptor)
    for number, (image, sbom) in enumerate(SBOM.items(), 10)
}
ATTESTATION = {image.id: cosign_attachment(image.id.encode()) for image in (GONE, STAYS)}


def attached(image: TestImage) -> list[TestImage]:
    return [SBOM[image.id], OF_SBOM[image.id], ATTESTATION[image.id]]


def tag_of(image: TestImage) -> str:
    return f"app:{cosign_tag(image.raw.digest, 'att')}"


def fill(store: Store) -> None:
    """Two images of one repository, the one that stays being the newer, with what is attached."""
    for image, name in ((GONE, "app:old"), (STAYS, "app:new")):
        put_image(store, image, name)
        put_artifact(store, SBOM[image.id])
        put_artifact(store, OF_SBOM[image.id])
        put_artifact(store, ATTESTATION[image.id], tag_of(image))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "store"
    with Store.open(path) as store:
        fill(store)
    return path


@pytest.fixture
def filled(template: Path, root: Path) -> Iterator[Store]:
    shutil.copytree(template, root)
    with Store.open(root, command="test") as store:
        yield store


def there(store: Store, image: TestImage) -> list[bool]:
    return [store.manifest(each.raw.digest) is not None for each in attached(image)]


def files(root: Path) -> set[str]:
    return {path.name for path in (root / "blobs/sha256").iterdir()}


def files_of(*images: TestImage) -> set[str]:
    return {digest.hex for image in images for digest in (image.raw.digest, *image.blobs)}


def size_of(*images: TestImage) -> int:
    blobs: dict[Digest, int] = {image.raw.digest: len(image.raw.data) for image in images}
    blobs |= {digest: len(data) for image in images for digest, data in image.blobs.items()}
    return sum(blobs.values())


def after_untagging(act: Callable[[Store], object]) -> Callable[[Store], object]:
    def both(store: Store) -> None:
        store.untag(named("app:old"))
        act(store)

    return both


def with_a_second_name(act: Callable[[Store], object]) -> Callable[[Store], object]:
    def both(store: Store) -> None:
        store.tag(store.find_image("app:old"), [named("other:1")])
        act(store)

    return both


def move_the_name(store: Store) -> None:
    store.tag(store.find_image("app:new"), [named("app:old")])
    store.prune(lease_grace=0)


def prune_all_but_the_protected(store: Store) -> None:
    store.protection.add([named("app:new")])
    store.prune(retention=Retention(everything=True), lease_grace=0)


REMOVALS: dict[str, Callable[[Store], object]] = {
    "by name": lambda store: store.remove_name(named("app:old")),
    "by ID": lambda store: store.remove_image(GONE.id),
    "by force": with_a_second_name(lambda store: store.remove_image(GONE.id, force=True)),
    "by manifest": lambda store: store.remove_manifest(GONE.raw.digest),
    "prune": after_untagging(lambda store: store.prune(lease_grace=0)),
    "prune of one": after_untagging(lambda store: store.prune(only_images=[GONE.id])),
    "a name that moved": move_the_name,
    "prune --keep": lambda store: store.prune(retention=Retention(newest=1), lease_grace=0),
    "prune --max-size": lambda store: store.prune(
        retention=Retention(max_bytes=size_of(STAYS, *attached(STAYS))), lease_grace=0
    ),
    "all but the protected": prune_all_but_the_protected,
}


@pytest.mark.parametrize("removal", REMOVALS)
def test_what_is_attached_goes_with_its_image_and_the_others_stay(
    filled: Store, root: Path, removal: str
) -> None:
    REMOVALS[removal](filled)
    assert (there(filled, GONE), there(filled, STAYS)) == ([False] * 3, [True] * 3)
    assert files(root) == files_of(STAYS, *attached(STAYS))
    assert str(named(tag_of(GONE))) not in {str(record.name) for record in filled.names()}
    assert not filled.check(deep=True).problems
    assert [(image.image_id, image.total) for image in filled.usage().images] == [
        (STAYS.id, size_of(STAYS, *attached(STAYS)))
    ]
    assert filled.prune(lease_grace=0).blobs_removed == 0


def spare_a_container(store: Store) -> None:
    make_container(store, "app:old")
    store.prune(retention=Retention(everything=True), lease_grace=0)


SPARINGS: dict[str, Callable[[Store], object]] = {
    "another name": with_a_second_name(lambda store: store.remove_name(named("app:old"))),
    "prune": lambda store: store.prune(lease_grace=0),
    "prune of others": after_untagging(lambda store: store.prune(only_images=[STAYS.id])),
    "prune of none": after_untagging(lambda store: store.prune(only_images=())),
    "prune --keep": lambda store: store.prune(retention=Retention(newest=2), lease_grace=0),
    "prune --max-size": lambda store: store.prune(
        retention=Retention(max_bytes=size_of(GONE, STAYS, *attached(GONE), *attached(STAYS))),
        lease_grace=0,
    ),
    "another image goes": lambda store: store.remove_image(STAYS.id),
    "its container": spare_a_container,
}


@pytest.mark.parametrize("sparing", SPARINGS)
def test_what_is_attached_stays_as_long_as_its_image_does(filled: Store, sparing: str) -> None:
    SPARINGS[sparing](filled)
    assert there(filled, GONE) == [True] * 3
    assert not filled.check(deep=True).problems


@pytest.mark.parametrize("removal", ["by name", "by ID", "prune", "prune of one"])
def test_what_has_a_name_of_its_own_stays_with_what_is_attached_to_it(
    filled: Store, removal: str
) -> None:
    put_artifact(filled, SBOM[GONE.id], "sboms:old")
    REMOVALS[removal](filled)
    assert there(filled, GONE) == [True, True, False]
    filled.remove_name(named("sboms:old"))
    assert there(filled, GONE) == [False] * 3


def test_the_space_of_what_is_attached_is_its_images(filled: Store) -> None:
    (usage,) = [image for image in filled.usage().images if image.image_id == GONE.id]
    assert usage.total == size_of(GONE, *attached(GONE))
    (unreferenced,) = [kind for kind in filled.usage().kinds if kind.kind == "unreferenced"]
    assert unreferenced.files == 0
    with filled.rehearse():
        assert filled.remove_image(GONE.id).bytes_freed == usage.unique


def test_a_store_that_lost_its_database_knows_again_what_is_attached_to_what(
    template: Path, root: Path
) -> None:
    shutil.copytree(template, root)
    (root / "db/kstore.db").write_bytes(b"this is no database")
    rebuild(root)
    with Store.open(root) as store:
        assert store.prune(lease_grace=0).blobs_removed == 0
        assert (there(store, GONE), there(store, STAYS)) == ([True] * 3, [True] * 3)
        store.remove_image(GONE.id)
    assert files(root) == files_of(STAYS, *attached(STAYS))
