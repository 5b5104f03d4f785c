"""Finding and choosing images in the store of five; the ids name the row of kpod's tables."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from kstore.errors import (
    AmbiguousNameError,
    ImageNotFoundError,
    InvalidInputError,
    InvalidReferenceError,
    KstoreError,
    PolicyRejectedError,
    StoreDamagedError,
)
from kstore.image import TrustPolicy, UnparsedImage
from kstore.images import (
    find_image,
    find_image_ref,
    get_data,
    get_images_matching_filter,
    info_and_digest_and_size,
    parse_filter,
)
from kstore.store import Store
from kstore.transports.storage import StorageTransport
from tests.support.fixturestore import FixtureStore
from tests.support.images import random_image
from tests.support.stores import put_image

# ---- 1.3 and 3.3: what a text means

FOUND = [
    ("1.3 a name", "alpine", "a"),
    ("1.3 @ID", "@{a}", "a"),
    ("1.3 @sha256:ID", "@sha256:{a}", "a"),
    ("1.3 NAME@ID that agree", "alpine@{a}", "a"),
    ("1.3 NAME@DIGEST is the manifest's digest", "alpine@sha256:{a_m}", "a"),
    ("1.3 NAME:TAG@DIGEST", "alpine:3.20@sha256:{b_m}", "b"),
    ("1.3 @ and a short ID", "@c3d", "c"),
    ("3.3 name and tag", "alpine:latest", "a"),
    ("3.3 library/NAME", "library/alpine", "a"),
    ("3.3 docker.io/NAME", "docker.io/alpine", "a"),
    ("3.3 docker.io/library/NAME", "docker.io/library/alpine", "a"),
    ("3.3 the name in full", "docker.io/library/alpine:latest", "a"),
    ("3.3 index.docker.io", "index.docker.io/alpine", "a"),
    ("3.3 another tag", "alpine:3.20", "b"),
    ("3.3 a full ID", "{a}", "a"),
    ("3.3 a unique start of an ID", "c3d", "c"),
    ("3.3 sha256:ID", "sha256:{a}", "a"),
    ("3.3 a name given by tag, with its tag", "foobar:latest", "b"),
    ("3.3 a name given by tag, without", "foobar", "b"),
    ("3.3 a port in the name", "localhost:5000/team/app:v1", "d"),
    ("3.3 the name of another repository is not A's", "quay.io/other/myalpine", "e"),
]

NOT_FOUND = [
    ("3.3 no such tag", "alpine:9", ImageNotFoundError, "no image 'alpine:9'"),
    ("3.3 an ambiguous start of an ID", "a1b", AmbiguousNameError, "3.20, .*alpine:latest"),
    ("3.3 fewer than three digits", "c3", ImageNotFoundError, "no image 'c3'"),
    ("3.3 latest is not v1", "localhost:5000/team/app", ImageNotFoundError, "no image"),
    ("3.3 the end of a name", "team/app:v1", ImageNotFoundError, "no image"),
    ("3.3 its last component", "app:v1", ImageNotFoundError, "no image"),
    ("3.3 NAME@ID that differ", "alpine@{c}", ImageNotFoundError, "no image"),
    ("3.3 NAME@DIGEST of another", "alpine@sha256:{c_m}", ImageNotFoundError, "no image"),
    ("3.3 another store", "[vfs@/elsewhere]alpine", InvalidReferenceError, "another store"),
    ("1.3 a store that is not closed", "[vfs@/elsewhere", InvalidReferenceError, "another store"),
    ("3.3 a transport", "docker://alpine", InvalidReferenceError, "not a name of an image in"),
    ("3.3 upper case", "Alpine", InvalidReferenceError, "must be lower case"),
    ("3.3 nothing", "", InvalidReferenceError, "empty"),
    ("3.3 a colon", ":", InvalidReferenceError, "bad tag"),
    ("3.3 a blank", "foo bar", InvalidReferenceError, "not a repository name"),
    ("1.3 @ and no ID", "@xyz", InvalidReferenceError, "not @ID"),
    ("3.3 a layer's digest", "{layer}", ImageNotFoundError, "no image with the ID"),
]


@pytest.mark.parametrize(
    ("text", "letter"), [row[1:] for row in FOUND], ids=[row[0] for row in FOUND]
)
def test_a_text_finds_the_image(shelf: FixtureStore, text: str, letter: str) -> None:
    assert shelf.letter(find_image(shelf.store, shelf.fill(text)).id) == letter


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [row[1:] for row in NOT_FOUND],
    ids=[row[0] for row in NOT_FOUND],
)
def test_a_text_finds_nothing_and_says_why(
    shelf: FixtureStore, text: str, error: type[KstoreError], message: str
) -> None:
    text = text.replace("{layer}", shelf.a.layers[0].digest.hex)
    with pytest.raises(error, match=message) as caught:
        find_image(shelf.store, shelf.fill(text))
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "text", [row[1] for row in FOUND], ids=[f"{row[0]}, as a reference" for row in FOUND]
)
def test_what_finds_an_image_is_a_reference_of_the_store(shelf: FixtureStore, text: str) -> None:
    reference = StorageTransport(shelf.store).parse_reference(shelf.fill(text))
    with reference.open_source() as source:
        wanted = find_image(shelf.store, shelf.fill(text))
        assert source.read_manifest().digest == wanted.manifests[0]


def test_a_container_is_no_image(own: FixtureStore) -> None:
    own.store.containers.create(None, name="box", stem="box", describe=lambda record: b"{}")
    with pytest.raises(ImageNotFoundError):
        find_image(own.store, "box")


# ---- 3.4, 3.11 and 3.15: what is known about one image


def test_an_opened_image_is_the_one_that_was_meant(shelf: FixtureStore) -> None:
    with find_image_ref(shelf.store, "foobar") as image:
        assert image.raw.digest == shelf.b.raw.digest
        assert image.config.author == "maker of b"
        assert image.size == find_image(shelf.store, "foobar").size
        assert image.size == sum(map(len, shelf.b.blobs.values()))
    with pytest.raises(ImageNotFoundError, match="'nosuch'"):
        find_image_ref(shelf.store, "nosuch")


def test_an_image_that_a_policy_refuses_is_not_held(own: FixtureStore) -> None:
    class Refuse(TrustPolicy):
        def check(self, image: UnparsedImage) -> str:
            raise PolicyRejectedError("nobody is trusted")

    with pytest.raises(PolicyRejectedError, match="nobody"):
        find_image_ref(own.store, "foobar", Refuse())
    own.store.remove_image(own.b.id, all_names=True)
    assert own.store.blob(own.b.layers[0].digest) is None


def test_info_digest_and_size_are_those_of_the_image(shelf: FixtureStore) -> None:
    record = find_image(shelf.store, "alpine")
    info, digest, size = info_and_digest_and_size(shelf.store, record)
    assert info.created == dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    assert (info.tag, info.docker_version, info.os, info.architecture) == (
        *(None, None),
        *("linux", "amd64"),
    )
    assert info.layers == tuple(layer.digest for layer in shelf.a.layers)
    assert digest == shelf.a.raw.digest
    assert size == record.size
    info, _, _ = info_and_digest_and_size(shelf.store, find_image(shelf.store, "foobar"))
    assert dict(info.labels) == {"vendor": "acme", "args": "a=x,y", "empty": ""}


def test_an_image_without_a_date_has_no_date(own: FixtureStore) -> None:
    put_image(own.store, random_image(9, created=None), "undated")
    record = find_image(own.store, "undated")
    info, _, _ = info_and_digest_and_size(own.store, record)
    assert info.created is None
    assert get_data(own.store, "undated").created is None


def test_a_damaged_image_is_an_error_that_names_it(own: FixtureStore) -> None:
    path = own.store.root / "blobs" / "sha256" / own.a.id
    path.chmod(0o600)
    path.write_bytes(b"other bytes")
    with pytest.raises(StoreDamagedError):
        get_data(own.store, "alpine")
    with pytest.raises(KstoreError):
        info_and_digest_and_size(own.store, find_image(own.store, "alpine"))


def test_everything_about_an_image(shelf: FixtureStore) -> None:
    data = get_data(shelf.store, "foobar")
    assert data.id == shelf.b.id
    assert data.tags == ("docker.io/library/alpine:3.20", "localhost/foobar:latest")
    assert data.digests == (
        f"docker.io/library/alpine@{shelf.b.raw.digest}",
        f"localhost/foobar@{shelf.b.raw.digest}",
    )
    assert (data.comment, data.created_by) == ("the last step", 'CMD ["/bin/sh"]')
    assert (data.author, data.architecture, data.os) == ("maker of b", "amd64", "linux")
    assert data.config["Cmd"] == ["/bin/sh"]
    assert dict(data.annotations) == {"letter": "b"}
    assert data.layer_sizes == tuple(layer.size for layer in shelf.b.layers)
    assert data.size == find_image(shelf.store, "foobar").size, "of the image, each blob once"
    nameless = get_data(shelf.store, "c3d")
    assert (nameless.tags, nameless.digests) == ((), ())


# ---- 3.7: how filters are written

GOOD_FILTERS = [
    (
        "3.7 all five",
        "dangling=true,label=a=b,before=alpine:latest,since=alpine:latest,reference=abcdef",
        5,
    ),
    ("3.7 blanks around a key", " dangling =true", 1),
    ("3.7 a label given twice means both", "label=a=b,label=c", 2),
    ("3.7 a comma inside a value", "label=args=a=x,y", 1),
    ("3.7 before finds the image, not the first whose name ends so", "before=alpine", 1),
]

BAD_FILTERS = [
    ("3.7 a bad yes or no", "dangling=NO,label=a=b", "dangling= takes true or false, not 'NO'"),
    ("3.7 before nothing that can be", "before=:", "':' has a bad tag"),
    ("3.7 since nothing that can be", "since=:", "':' has a bad tag"),
    ("3.7 before no image", "before=nosuch", "no image 'nosuch'"),
    ("3.7 an unknown key", "foo=bar", "unknown filter 'foo'"),
    ("3.7 an empty text", "", "filter '' is not KEY=VALUE"),
    ("3.7 a comma at the end", "dangling=true,", "not 'true,'"),
    ("3.7 a blank before the value", "dangling= true", "not ' true'"),
    ("3.7 no =", "dangling", "filter 'dangling' is not KEY=VALUE"),
    ("3.7 a label without a key", "label=", "label= takes KEY"),
    ("3.7 a reference without a pattern", "reference=", "not an image name or pattern"),
    ("3.7 neither true nor false", "dangling=", "takes true or false, not ''"),
]


@pytest.mark.parametrize(
    ("text", "count"), [row[1:] for row in GOOD_FILTERS], ids=[row[0] for row in GOOD_FILTERS]
)
def test_filters_are_understood(shelf: FixtureStore, text: str, count: int) -> None:
    params = parse_filter(shelf.store, text)
    assert len(params.filters) == count
    assert params == parse_filter(shelf.store, [text])


@pytest.mark.parametrize(
    ("text", "message"), [row[1:] for row in BAD_FILTERS], ids=[row[0] for row in BAD_FILTERS]
)
def test_filters_that_make_no_sense_are_named(shelf: FixtureStore, text: str, message: str) -> None:
    with pytest.raises(KstoreError, match=message) as caught:
        parse_filter(shelf.store, text)
    assert isinstance(caught.value, InvalidInputError | ImageNotFoundError)


# ---- 3.9: what filters and a name choose


def rows(store: Store, filters: str | None, argument: str = "") -> list[str]:
    """What is chosen: ``ID-start name``, newest image first."""
    params = parse_filter(store, filters) if filters is not None else None
    found = get_images_matching_filter(store, params, argument)
    return [f"{row.id[:1]} {row.name.name if row.name else '-'}" for row in found]


A, C, D, E = (
    "a docker.io/library/alpine:latest",
    "c -",
    "d localhost:5000/team/app:v1",
    "e quay.io/other/myalpine:latest",
)
B = ("a docker.io/library/alpine:3.20", "a localhost/foobar:latest")

CHOSEN: list[tuple[str, str | None, str, tuple[str, ...]]] = [
    ("3.9 a row for each name, everything without filter and name", None, "", (E, D, C, *B, A)),
    ("3.9 a name alone", None, "alpine", (B[0], A)),
    ("3.9 a name that another one's ends like", None, "myalpine", (E,)),
    ("3.9 a registry's port is no tag", None, "localhost:5000/team/app", (D,)),
    ("3.9 filter AND name", "label=vendor=acme", "alpine", (B[0],)),
    ("3.9 filter AND name that exclude each other", "dangling=true", "alpine", ()),
    ("3.9 dangling=true", "dangling=true", "", (C,)),
    ("3.9 dangling=false", "dangling=false", "", (E, D, *B, A)),
    ("3.9 label with a value", "label=vendor=acme", "", B),
    ("3.9 label with another value", "label=vendor=nobody", "", ()),
    ("3.9 label by its key", "label=vendor", "", (C, *B)),
    ("3.9 label with an empty value", "label=empty", "", B),
    ("3.9 label with = and , in the value", "label=args=a=x,y", "", B),
    ("3.9 before, not itself", "before=c3d", "", (*B, A)),
    ("3.9 before a name that others end like", "before=alpine:3.20", "", (A,)),
    ("3.9 since, not itself", "since=c3d", "", (E, D)),
    ("3.9 after is since", "after=c3d", "", (E, D)),
    ("3.9 both are an open interval", "since=alpine,before=d4e", "", (C, *B)),
    ("3.9 reference, by components", "reference=alpine", "", (B[0], A)),
    ("3.9 reference, a glob", "reference=*alpine", "", (E, B[0], A)),
]


@pytest.mark.parametrize(
    ("filters", "argument", "wanted"),
    [row[1:] for row in CHOSEN],
    ids=[row[0] for row in CHOSEN],
)
def test_filter_and_name_choose_rows(
    shelf: FixtureStore, filters: str | None, argument: str, wanted: tuple[str, ...]
) -> None:
    assert rows(shelf.store, filters, argument) == list(wanted)


@pytest.mark.parametrize("key", ["before", "since"])
def test_an_image_without_a_date_is_no_bound(own: FixtureStore, key: str) -> None:
    put_image(own.store, random_image(9, created=None), "undated")
    with pytest.raises(InvalidInputError, match="does not say when"):
        parse_filter(own.store, f"{key}=undated")


def test_the_image_of_a_filter_is_looked_up_when_it_is_parsed(own: FixtureStore) -> None:
    params = parse_filter(own.store, "before=foobar")
    own.store.tag(own.store.find_image("c3d"), [own.store.image(own.b.id).names[1].name])
    found = get_images_matching_filter(own.store, params)
    assert [row.id for row in found] == [own.a.id]


# ---- 3.10: what a reference filter means

MODERN = [
    ("image", {"busybox", "alpine"}),
    ("*mage*", {"busybox", "alpine"}),
    ("image:tag", {"busybox"}),
    ("localhost/image:tag", {"busybox"}),
    ("library/image", {"alpine"}),
    ("quay.io/libpod", set()),
    ("quay.io/libpod/*", {"busybox", "alpine"}),
]


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("modern") / "root") as store:
        put_image(
            store,
            random_image(1),
            *("quay.io/libpod/busybox:latest", "localhost/image:tag"),
            *("localhost/a:tag", "localhost/aa:tag"),
        )
        put_image(
            store,
            random_image(2),
            *("quay.io/libpod/alpine:latest", "localhost/another-image:tag"),
            *("docker.io/library/image:another-tag", "docker.io/library/image:latest"),
        )
        yield store


def kept(store: Store, text: str) -> set[str]:
    """The images that a filter keeps."""
    found = get_images_matching_filter(store, parse_filter(store, text))
    words = {random_image(1).id: "busybox", random_image(2).id: "alpine"}
    return {words[row.id] for row in found}


@pytest.mark.parametrize(("pattern", "wanted"), MODERN, ids=[f"3.10 {row[0]}" for row in MODERN])
def test_a_reference_filter_keeps(modern: Store, pattern: str, wanted: set[str]) -> None:
    assert kept(modern, f"reference={pattern}") == wanted


def test_a_reference_filter_lists_only_the_names_it_means(modern: Store) -> None:
    params = parse_filter(modern, "reference=localhost/image:tag")
    found = get_images_matching_filter(modern, params)
    assert [str(row.name.name) for row in found if row.name] == ["localhost/image:tag"]


def test_a_reference_filter_can_be_turned_around(modern: Store) -> None:
    assert kept(modern, "reference!=alpine") == {"busybox"}
