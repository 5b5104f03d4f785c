"""What each filter keeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kstore.errors import AmbiguousNameError, ImageNotFoundError, InvalidInputError
from kstore.operations.filters import parse_filters
from kstore.operations.images import list_images
from kstore.operations.working import make_container
from kstore.platforms import Platform
from kstore.store import Store
from tests.support.cli import REPOSITORY, run
from tests.support.images import TestImage, index_of, random_image
from tests.support.layers import file, image_of, layer
from tests.support.stores import named, put_image

# The busybox and alpine of the tests that tell what a reference filter means.
IMAGES = {
    "busybox": random_image(
        1,
        created="2024-01-01T00:00:00Z",
        labels={"vendor": "acme", "args": "a=x,y", "empty": ""},
    ),
    "alpine": random_image(2, created="2024-02-01T00:00:00Z", labels={"vendor": "other"}),
    "arm": random_image(
        3, created="2024-03-01T00:00:00Z", platform=Platform("linux", "arm64", "v8")
    ),
    "nameless": random_image(4, created="2024-04-01T00:00:00Z", labels={"vendor": "acme"}),
    "undated": random_image(5, created=None),
}
ALL = " ".join(IMAGES)
INDEX = index_of([IMAGES["arm"], random_image(6)])


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("filters") / "store") as store:
        put_image(
            store,
            IMAGES["busybox"],
            *("quay.io/libpod/busybox", "localhost/image:tag", "localhost/a:tag"),
        )
        put_image(
            store,
            IMAGES["alpine"],
            *("quay.io/libpod/alpine", "localhost/another-image:tag"),
            *("docker.io/library/image:another-tag", "docker.io/library/image:latest"),
        )
        put_image(store, IMAGES["arm"], "localhost/arm", via=INDEX)
        put_image(store, IMAGES["nameless"])
        put_image(store, IMAGES["undated"], "localhost/undated")
        yield store


def fill(text: str) -> str:
    """``{arm}`` is the ID of an image, ``{arm_m}`` its manifest, ``{index}`` that of the index."""
    manifests = {f"{word}_m": image.raw.digest for word, image in IMAGES.items()}
    return text.format(index=INDEX.digest, **{w: i.id for w, i in IMAGES.items()}, **manifests)


def kept(store: Store, *filters: str) -> str:
    """The words for the images that are listed, in the order above."""
    found = {row.id for row in list_images(store, None, [fill(text) for text in filters])}
    return " ".join(word for word, image in IMAGES.items() if image.id in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dangling=true", "nameless"),
        ("dangling=false", "busybox alpine arm undated"),
        ("dangling!=true", "busybox alpine arm undated"),
        ("dangling!=false", "nameless"),
        (" dangling =true", "nameless"),
        ("label=vendor", "busybox alpine nameless"),
        ("label=vendor=acme", "busybox nameless"),
        ("label=vendor=", ""),
        ("label=empty=", "busybox"),
        ("label=absent", ""),
        ("label!=vendor=acme", "alpine arm undated"),
        ("label!=vendor", "arm undated"),
        ("reference=image", "busybox alpine"),
        ("reference=*mage*", "busybox alpine"),
        ("reference=image:tag", "busybox"),
        ("reference=library/image", "alpine"),
        ("reference=quay.io/libpod", ""),
        ("reference=quay.io/libpod/*", "busybox alpine"),
        ("reference=[ab]*:latest", "busybox alpine arm"),
        ("reference!=alpine", "busybox arm nameless undated"),
        ("before={arm}", "busybox alpine"),
        ("before=localhost/arm", "busybox alpine"),
        ("since=quay.io/libpod/busybox", "alpine arm nameless"),
        ("after=quay.io/libpod/busybox", "alpine arm nameless"),
        ("until=2024-02-02", "busybox alpine"),
        ("until=24h", "busybox alpine arm nameless"),
        ("until=1000w", ""),
        ("before!=localhost/arm", "arm nameless undated"),
        ("since!=quay.io/libpod/busybox", "busybox undated"),
        ("after!=quay.io/libpod/busybox", "busybox undated"),
        ("until!=2024-02-02", "arm nameless undated"),
        ("intermediate=true", ""),
        ("containers=true", ""),
        ("containers!=true", ALL),
        ("id={arm}", "arm"),
        ("id={arm:.5}", "arm"),
        ("id=sha256:{arm:.5}", "arm"),
        ("id!={arm}", "busybox alpine nameless undated"),
        ("digest={arm_m}", "arm"),
        ("digest={index}", "arm"),
        ("digest={nameless_m}", "nameless"),
        ("digest=sha256:{arm}", ""),
        ("digest!={index}", "busybox alpine nameless undated"),
        ("platform=linux/arm64", "arm"),
        ("platform=linux/aarch64/v8", "arm"),
        ("platform=linux/arm64/v9", ""),
        ("platform=linux/amd64", "busybox alpine nameless undated"),
        ("platform!=linux/amd64", "arm"),
        ("platform=windows/amd64", ""),
    ],
)
def test_what_a_filter_keeps(shelf: Store, text: str, expected: str) -> None:
    assert kept(shelf, text) == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ((), ALL),
        (("label=vendor", "label=vendor=acme", "dangling=false"), "busybox"),
        (("before=localhost/arm", "since=localhost/a:tag"), "alpine"),
        (("reference=alpine", "reference=arm"), "alpine arm"),
        (("reference=image", "reference!=alpine"), "busybox"),
        (("reference!=alpine", "reference!=arm"), "busybox nameless undated"),
        (("dangling=true,label=vendor=acme",), "nameless"),
        (("label=vendor=acme, dangling=false,before=localhost/arm",), "busybox"),
        (("dangling=false,label!=vendor",), "arm undated"),
        (("label=args=a=x,y",), "busybox"),
        (("label=args=a=x,y,dangling=false",), "busybox"),
        ((r"label=vendor=acme\,dangling=false",), ""),
    ],
)
def test_filters_are_combined(shelf: Store, filters: tuple[str, ...], expected: str) -> None:
    assert kept(shelf, *filters) == expected


def test_a_comma_that_begins_no_filter_can_be_written(store: Store) -> None:
    image = random_image(1, labels={"opts": "a,id=5"})
    put_image(store, image)
    assert len(list_images(store, None, [r"label=opts=a\,id=5"])) == 1


def test_a_reference_keeps_the_names_it_means_and_its_contrary_whole_images(shelf: Store) -> None:
    def names(text: str) -> list[str]:
        return [str(row.name.name) for row in list_images(shelf, None, [text]) if row.name]

    assert names("reference=localhost/image:tag") == ["localhost/image:tag"]
    assert "localhost/another-image:tag" not in names("reference!=alpine")


def test_a_digest_keeps_the_names_that_lead_to_it(store: Store) -> None:
    one, two = (random_image(1, compression=compression) for compression in ("gzip", "zstd"))
    put_image(store, one, "localhost/one")
    put_image(store, two, "localhost/two")
    (row,) = list_images(store, None, [f"digest={two.raw.digest}"])
    assert (row.repository, row.digest) == ("localhost/two", two.raw.digest)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("foo=bar", "unknown filter 'foo'.*known: after, before, containers, dangling"),
        ("dangling", "not KEY=VALUE"),
        ("", "not KEY=VALUE"),
        ("dangling=true,", "true or false"),
        ("dangling=true,foo=bar", "true or false"),
        ("dangling=NO", "true or false"),
        ("dangling= true", "true or false"),
        ("dangling=", "true or false"),
        ("label=", "KEY or KEY=VALUE"),
        ("label==x", "KEY or KEY=VALUE"),
        ("label=vendor=\udcff", "not UTF-8"),
        ("label=\udcff", "not UTF-8"),
        ("reference=", "not an image name"),
        ("reference!=", "not an image name"),
        ("before=", "before= takes the name or ID"),
        ("since=localhost/undated", "does not say when it was made"),
        ("before=a:b:c", "a:b:c"),
        ("intermediate=maybe", "intermediate= takes true or false, not 'maybe'"),
        ("containers=external", "containers= takes true or false, not 'external'"),
        ("before!=", "before= takes the name or ID"),
        ("label!=", "KEY or KEY=VALUE"),
        ("=x", "unknown filter ''"),
        ("!=x", "unknown filter ''"),
        ("until=soon", "'soon' is neither an age"),
        ("id=xyz", "hex digits of an image ID, not 'xyz'"),
        ("id=", "hex digits of an image ID"),
        ("digest=abc", "ALGORITHM:HEX"),
        ("digest=sha256:", "ALGORITHM:HEX"),
        ("platform=linux", "OS/ARCH"),
    ],
)
def test_a_wrong_filter_is_named(shelf: Store, text: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        parse_filters(shelf, [text])


def test_the_documentation_and_the_help_name_every_filter(shelf: Store) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_filters(shelf, ["unknown=1"])
    keys = caught.value.message.partition("known: ")[2].rstrip(")").split(", ")
    assert len(keys) == 12
    page = (REPOSITORY / "contrib" / "docs" / "look.md").read_text()
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| "))
    assert [key for key in keys if f"`{key}=" not in rows] == []
    help_text = "".join(run("images", "--help").out.split())
    assert [key for key in keys if f"{key}=" not in help_text] == ["after"]


def test_the_filter_that_was_meant_is_suggested(shelf: Store) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_filters(shelf, ["lable=vendor"])
    assert caught.value.hint == "did you mean label?"


def test_an_image_without_a_name_that_others_are_built_upon_is_intermediate(store: Store) -> None:
    low, high, higher = (layer(file(name)) for name in "abc")
    images = {
        "base": image_of(low),
        "middle": image_of(low, high),
        "top": image_of(low, high, higher),
        "reordered": image_of(high, low, higher),
        "on another base": image_of(higher, high),
        "same layers": image_of(low, high, higher, name="other"),
    }
    for word, image in images.items():
        put_image(store, image, *(["localhost/top"] if word == "top" else []))

    def chosen(text: str) -> set[str]:
        found = {row.id for row in list_images(store, None, [text])}
        return {word for word, image in images.items() if image.id in found}

    assert chosen("intermediate=true") == {"base", "middle"}
    assert (
        chosen("intermediate=false")
        == chosen("intermediate!=true")
        == set(images)
        - {
            "base",
            "middle",
        }
    )
    store.tag(images["base"].raw.digest, [named("localhost/base")])
    assert chosen("intermediate=true") == {"middle"}


def test_images_that_working_containers_began_with_are_found(store: Store) -> None:
    used, unused = random_image(1), random_image(2)
    put_image(store, used, "localhost/used")
    put_image(store, unused, "localhost/unused")
    make_container(store, "used")
    make_container(store, "scratch")
    assert [row.id for row in list_images(store, None, ["containers=true"])] == [used.id]
    assert [row.id for row in list_images(store, None, ["containers=false"])] == [unused.id]


def test_a_hundred_filters_are_enough(shelf: Store) -> None:
    hundred = ["reference=busybox"] * 50 + ["label=vendor=acme,reference!=absent"] * 25
    assert kept(shelf, *hundred) == "busybox"
    with pytest.raises(InvalidInputError, match="101 filters"):
        parse_filters(shelf, [*hundred, "label=vendor"])


def test_the_image_of_before_must_be_there_and_be_one(store: Store) -> None:
    with pytest.raises(ImageNotFoundError, match="'nothing'"):
        parse_filters(store, ["before=nothing"])
    for image in _two_alike():
        put_image(store, image)
    with pytest.raises(AmbiguousNameError):
        parse_filters(store, [f"since={image.id[:3]}"])


def _two_alike() -> tuple[TestImage, TestImage]:
    seen: dict[str, TestImage] = {}
    seed = 0
    while True:
        image = random_image(seed, layers=1, layer_size=10)
        if (other := seen.setdefault(image.id[:3], image)) is not image:
            return other, image
        seed += 1
