from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import AmbiguousNameError, ImageNotFoundError, InvalidReferenceError
from kstore.reference import Named
from kstore.store import Publication, Store
from tests.support.images import TestImage, index_of, random_artifact, random_image
from tests.support.stores import named, put_artifact, put_blobs, put_image, put_index


@dataclass(frozen=True)
class Shelf:
    """A store with four images: A and B have IDs that begin alike, C has no name."""

    store: Store
    images: dict[str, TestImage]

    def find(self, text: str) -> str:
        """The letter of the image ``text`` leads to; ``{A}`` stands for A's ID."""
        ids = {letter: image.id for letter, image in self.images.items()}
        manifests = {f"{letter}m": image.raw.digest for letter, image in self.images.items()}
        found = self.store.find_image(text.format(**ids, **manifests))
        return next(letter for letter, image_id in ids.items() if image_id == found.image.id)


def alike(prefix: str) -> Iterator[TestImage]:
    """Images whose IDs begin with ``prefix``."""
    seed = 1
    while True:
        image = random_image(seed, layers=1, layer_size=10)
        if image.id.startswith(prefix):
            yield image
        seed += 1


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    one = random_image(0, layers=1, layer_size=10)
    two = next(alike(one.id[:2]))
    images = {"A": one, "B": two, "C": random_image(1001), "D": random_image(1002)}
    with Store.open(tmp_path_factory.mktemp("lookup") / "store") as store:
        put_image(store, images["A"], "docker.io/library/busybox:latest")
        put_image(store, images["B"], "busybox:1.26", "localhost/foobar", "foobar")
        put_image(store, images["C"])
        put_image(store, images["D"], "localhost:5000/team/app:v1", "localhost/busybox2")
        yield Shelf(store, images)


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("busybox", "A"),
        ("busybox:latest", "A"),
        ("library/busybox", "A"),
        ("docker.io/busybox", "A"),
        ("docker.io/library/busybox", "A"),
        ("docker.io/library/busybox:latest", "A"),
        ("index.docker.io/busybox", "A"),
        ("busybox:1.26", "B"),
        ("foobar", "B"),
        ("foobar:latest", "B"),
        ("localhost/foobar", "B"),
        ("localhost:5000/team/app:v1", "D"),
        ("{A}", "A"),
        ("@{A}", "A"),
        ("sha256:{A}", "A"),
        ("@sha256:{A}", "A"),
        ("{C:.3}", "C"),
        ("@{C:.3}", "C"),
        ("sha256:{C:.12}", "C"),
        ("{C:.63}", "C"),
        ("{Am}", "A"),
        ("@{Am}", "A"),
        ("busybox@{A}", "A"),
        ("busybox@sha256:{A}", "A"),
        ("busybox@{A:.5}", "A"),
        ("busybox@{Am}", "A"),
        ("busybox:latest@{Am}", "A"),
        ("docker.io/library/busybox@{Am}", "A"),
        ("busybox@{Bm}", "B"),  # the digest of another tag of that repository
        ("busybox:1.26@{Bm}", "B"),
    ],
)
def test_what_finds_an_image(shelf: Shelf, text: str, image: str) -> None:
    assert shelf.find(text) == image


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("busybox:9", ImageNotFoundError),
        ("team/app:v1", ImageNotFoundError),
        ("app:v1", ImageNotFoundError),
        ("localhost:5000/team/app", ImageNotFoundError),  # latest, which there is not
        ("quay.io/library/busybox", ImageNotFoundError),
        ("busybox@{C}", ImageNotFoundError),
        ("busybox@{C:.5}", ImageNotFoundError),
        ("busybox@{Cm}", ImageNotFoundError),
        ("busybox:latest@{Bm}", ImageNotFoundError),
        ("0" * 64, ImageNotFoundError),
        ("@000", ImageNotFoundError),
        ("000", ImageNotFoundError),
        ("{C:.2}", ImageNotFoundError),  # too short for an ID, and no such name
        ("BusyBox", InvalidReferenceError),
        ("", InvalidReferenceError),
        (":", InvalidReferenceError),
        ("foo bar", InvalidReferenceError),
        ("@", InvalidReferenceError),
        ("@c3", InvalidReferenceError),
        ("@BusyBox", InvalidReferenceError),
        ("busybox@", InvalidReferenceError),
        ("busybox@zz", InvalidReferenceError),
        ("busybox@sha256:zz", InvalidReferenceError),
        ("[vfs@/elsewhere]busybox", InvalidReferenceError),
        ("docker://busybox", InvalidReferenceError),
        ("oci:/tmp/x:y", InvalidReferenceError),
        ("busybox\n", InvalidReferenceError),
        ("a" * 5000, InvalidReferenceError),
    ],
)
def test_what_finds_none(shelf: Shelf, text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        shelf.find(text)


def test_an_ambiguous_prefix_lists_the_images_with_their_names(store: Store) -> None:
    images = alike("f")
    prefix_of: dict[str, TestImage] = {}
    for image in images:  # two with the same three first digits
        if other := prefix_of.get(image.id[:3]):
            break
        prefix_of[image.id[:3]] = image
    put_image(store, image, "one")
    put_image(store, other)
    with pytest.raises(AmbiguousNameError) as caught:
        store.find_image(image.id[:3])
    assert f"{image.id[:12]} (one:latest)" in str(caught.value)
    assert f"{other.id[:12]} (no name)" in str(caught.value)


def test_a_name_beats_an_id_prefix(store: Store) -> None:
    one, two = random_image(1), random_image(2)
    put_image(store, one)
    put_image(store, two, f"docker.io/library/{one.id[:8]}")
    assert store.find_image(one.id[:8]).image.id == two.id
    assert store.find_image(f"@{one.id[:8]}").image.id == one.id


def test_a_full_id_beats_a_name(store: Store) -> None:
    one, two = random_image(1), random_image(2)
    put_image(store, one)
    put_image(store, two, f"localhost/{one.id}")
    assert store.find_image(one.id).image.id == one.id
    assert store.find_image(f"localhost/{one.id}").image.id == two.id


def test_a_local_name_beats_one_of_docker_io(store: Store) -> None:
    one, two = random_image(1), random_image(2)
    put_image(store, one, "docker.io/library/x")
    put_image(store, two, "localhost/x")
    found = store.find_image("x")
    assert found.image.id == two.id
    assert found.name == named("localhost/x")
    assert store.find_image("docker.io/library/x").image.id == one.id


def test_the_answer_says_which_name_matched(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "a", "b")
    assert store.find_image("b").name == named("b")
    assert store.find_image(image.id[:12]).name is None
    assert store.find_image("b").manifest == image.raw.digest


def test_a_tag_of_an_image_called_sha256_can_be_found(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "localhost/sha256:abcdef")
    assert store.find_image("sha256:abcdef").image.id == image.id


def test_an_image_is_found_by_the_digest_of_the_index_it_came_from(store: Store) -> None:
    image = random_image(1)
    index = index_of([image, random_image(2)])
    put_image(store, image, "x:1", via=index)
    assert store.find_image(f"x@{index.digest}").image.id == image.id
    images = [random_image(3), random_image(4)]
    both = index_of(images)
    put_index(store, both, images, "y")
    assert store.find_image(f"y@{both.digest}").image.id == images[0].id
    assert store.find_image(f"y@{images[0].raw.digest}").image.id == images[0].id


def test_one_index_that_led_to_two_images_is_ambiguous(store: Store) -> None:
    one, two = random_image(1), random_image(2)
    index = index_of([one, two])
    put_image(store, one, "x:1", via=index)
    put_image(store, two, "x:2", via=index)
    with pytest.raises(AmbiguousNameError, match=r"x:1.*x:2"):
        store.find_image(f"x@{index.digest}")
    assert store.find_image(f"x:2@{index.digest}").image.id == two.id


def test_a_name_that_was_stored_with_its_digest_is_found_by_it(store: Store) -> None:
    image = random_image(1)
    name = Named.parse("busybox").with_digest(image.raw.digest)
    with store.lease("test") as lease:
        put_blobs(lease, image)
        lease.publish(Publication(image.raw, (name,)))
    found = store.find_image(f"busybox@{image.raw.digest}")
    assert found.image.id == image.id
    assert found.name == name


def test_an_artifact_is_not_an_image(store: Store) -> None:
    put_artifact(store, random_artifact(1), "x")
    with pytest.raises(ImageNotFoundError, match="artifact"):
        store.find_image("x")


def test_an_index_without_images_says_so(store: Store) -> None:
    put_index(store, index_of([random_image(1)]), [], "x")
    with pytest.raises(ImageNotFoundError, match="no image is in the store"):
        store.find_image("x")


def test_a_miss_suggests_a_pull(store: Store) -> None:
    with pytest.raises(ImageNotFoundError) as caught:
        store.find_image("busybox")
    assert caught.value.hint == "kstore pull busybox"
    with pytest.raises(ImageNotFoundError) as caught:
        store.find_image(Digest.of(b"").hex)
    assert caught.value.hint == "kstore images"


def test_looking_up_writes_nothing(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "x")
    with Store.open(root, read_only=True) as store:
        assert store.find_image("x")
