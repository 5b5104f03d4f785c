"""What is asked of texts alone; the ids name the row of the table in kpod's description."""

from __future__ import annotations

import pytest

from kstore.errors import InvalidInputError, InvalidReferenceError
from kstore.images import (
    formatted_size,
    matches_id,
    matches_reference,
    parse_image_names,
)
from kstore.reference import Named

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"
IMAGE_ID = "abcdef" + HEX[6:]

# ---- 1.2 how names are written in full

NORMALISED = {
    "busybox": ("docker.io/library/busybox", ":latest"),
    "busybox:1": ("docker.io/library/busybox:1", ""),
    "library/busybox": ("docker.io/library/busybox", ":latest"),
    "docker.io/busybox": ("docker.io/library/busybox", ":latest"),
    "index.docker.io/library/busybox": ("docker.io/library/busybox", ":latest"),
    "umohnani/get-started": ("docker.io/umohnani/get-started", ":latest"),
    "localhost/foo": ("localhost/foo", ":latest"),
    "localhost:5000/foo": ("localhost:5000/foo", ":latest"),
    "registry.example.com/a/b:v2": ("registry.example.com/a/b:v2", ""),
    f"busybox@{DIGEST}": (f"docker.io/library/busybox@{DIGEST}", ""),
    f"busybox:1@{DIGEST}": (f"docker.io/library/busybox:1@{DIGEST}", ""),
}


@pytest.mark.parametrize("text", NORMALISED, ids=lambda text: f"1.2 {text[:40]}")
def test_a_name_is_written_in_full(text: str) -> None:
    full, added = NORMALISED[text]
    assert str(Named.parse(text)) == full
    assert str(Named.parse(text).with_default_tag()) == full + added


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("BusyBox", "must be lower case", id="1.2 upper case is refused"),
        pytest.param("docker://busybox", "transport", id="1.2 a transport is no part of a name"),
        pytest.param("dir:/x", "not a registry host", id="1.2 a path is no name"),
        pytest.param(HEX, "64 hex digits", id="1.2 an ID is no name"),
        pytest.param("", "empty", id="1.2 nothing is no name"),
    ],
)
def test_what_is_no_name_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidReferenceError, match=why):
        Named.parse(text)


# ---- 3.2


@pytest.mark.parametrize(
    ("image_id", "argument", "matches"),
    [
        pytest.param(IMAGE_ID, IMAGE_ID, True, id="3.2 the whole ID"),
        pytest.param(IMAGE_ID, "abcdef", True, id="3.2 its first digits"),
        pytest.param(IMAGE_ID, IMAGE_ID + "zzz", False, id="3.2 more than the ID"),
        pytest.param("abc", "abcdef", False, id="3.2 an ID that is shorter"),
        pytest.param("", "abcdef", False, id="3.2 no ID at all"),
        pytest.param("abc" + HEX, "", False, id="3.2 an empty argument"),
        pytest.param(IMAGE_ID, "sha256:abcdef", True, id="3.2 sha256: before the digits"),
        pytest.param(IMAGE_ID, "sha256:", False, id="3.2 sha256: without digits"),
    ],
)
def test_an_id_is_meant_by_its_first_digits(image_id: str, argument: str, matches: bool) -> None:
    assert matches_id(image_id, argument) is matches


# ---- 3.5


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1000, "1000 B"),
        (1023, "1023 B"),
        (1024, "1 KB"),
        (1025, "1.001 KB"),
        (1536, "1.5 KB"),
        (102400, "100 KB"),
        (1048575, "1 MB"),  # not 1024 KB, which is what rounding makes of it
        (1048576, "1 MB"),
        (4146560, "3.954 MB"),
        (123456789, "117.7 MB"),
        (1073741824, "1 GB"),
        (1024**4, "1 TB"),
        (1024**5, "1024 TB"),
        (10 * 1024**5, "10240 TB"),  # not 1.024e+04 TB
        (None, "unknown"),  # not -1 B
    ],
    ids=lambda value: f"3.5 {value}" if not isinstance(value, str) else value,
)
def test_a_size_has_four_digits_in_units_of_1024(size: int | None, shown: str) -> None:
    assert formatted_size(size) == shown


def test_a_negative_size_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match="-1 bytes"):
        formatted_size(-1)


# ---- 3.6

REDIS = "docker.io/library/redis:latest"
PAUSE = "docker.io/kubernetes/pause:latest"
PORT = "localhost:5000/foo:v1"
BY_DIGEST = f"docker.io/library/redis@{DIGEST}"
BARE = "docker.io/mrunalp/oom"

MEANT = {
    REDIS: (
        *("redis", "redis:latest", "library/redis", "docker.io/library/redis", REDIS),
        "docker.io/redis",
    ),
    PAUSE: ("pause:latest", "kubernetes/pause:latest", "pause", "kubernetes/pause"),
    PORT: ("foo", "foo:v1", "localhost:5000/foo"),
    BY_DIGEST: ("redis", f"redis@{DIGEST}"),
    BARE: ("oom", "oom:latest"),
    "<none>": ("<none>",),
    "foobar:latest": ("foobar",),
}
NOT_MEANT = {
    REDIS: (
        *("redis:alpine", "ry/redis", "io/library/redis", "dis", "s", "/redis", "library"),
        *("Redis", "", ":", "redis:", ":latest", "<none>", "none>"),
    ),
    PAUSE: ("redis:latest", "kubernetes/redis:latest", "redis", "kubernetes/redis"),
    PORT: ("localhost:5000/foo:v2", "localhost"),
    BY_DIGEST: ("sha256", f"redis@sha256:{HEX[::-1]}"),
    BARE: ("foo:latest",),
    "<none>": ("none>", ":"),
    "foobar:latest": ("bar",),
}
ROWS = [
    pytest.param(name, argument, wanted, id=f"3.6 {argument[:30] or 'nothing'} in {name[:35]}")
    for table, wanted in ((MEANT, True), (NOT_MEANT, False))
    for name, arguments in table.items()
    for argument in arguments
]


@pytest.mark.parametrize(("name", "argument", "matches"), ROWS)
def test_a_name_is_meant_by_its_last_components(name: str, argument: str, matches: bool) -> None:
    assert matches_reference(name, argument) is matches


@pytest.mark.parametrize("argument", ["redis:latest:x", "a b", "redis@sha256:12", "x//y"])
def test_what_can_mean_no_name_is_an_error(argument: str) -> None:
    with pytest.raises(InvalidInputError, match="not an image name or pattern|bad digest"):
        matches_reference(REDIS, argument)


# ---- 3.8


LIBRARY = "docker.io/library"

SORTED = [
    pytest.param(f"{LIBRARY}/x:latest", f"{LIBRARY}/x:latest", None, id="3.8 a full name"),
    pytest.param(f"{LIBRARY}/x", f"{LIBRARY}/x:latest", None, id="3.8 one without a tag"),
    pytest.param(f"{LIBRARY}/x@{DIGEST}", None, f"{LIBRARY}/x@{DIGEST}", id="3.8 a digest"),
    pytest.param(f"{LIBRARY}/x:1@{DIGEST}", None, f"{LIBRARY}/x:1@{DIGEST}", id="3.8 tag, digest"),
    pytest.param("localhost:5000/foo:1", "localhost:5000/foo:1", None, id="3.8 a port"),
    pytest.param("example.com/a/b:2", "example.com/a/b:2", None, id="3.8 another registry"),
    pytest.param("busybox:latest", f"{LIBRARY}/busybox:latest", None, id="3.8 a short name"),
    pytest.param("foobar:latest", f"{LIBRARY}/foobar:latest", None, id="3.8 one made by tag"),
    pytest.param("foo/bar:1", "docker.io/foo/bar:1", None, id="3.8 one of two components"),
    pytest.param("docker.io/x:1", f"{LIBRARY}/x:1", None, id="3.8 one without library"),
    pytest.param("BAD NAME", None, None, id="3.8 what is no name is left out"),
    pytest.param("", None, None, id="3.8 and so is nothing"),
]


@pytest.mark.parametrize(("name", "tag", "digest"), SORTED)
def test_names_are_sorted_by_what_they_end_in(
    name: str, tag: str | None, digest: str | None
) -> None:
    tags, digests = parse_image_names([name])
    assert (tags, digests) == ([tag] if tag else [], [digest] if digest else [])


def test_names_keep_their_order_and_come_once() -> None:
    names = ["b:1", "a:1", "docker.io/library/b:1", f"a@{DIGEST}"]
    tags, digests = parse_image_names(names)
    assert tags == ["docker.io/library/b:1", "docker.io/library/a:1"]
    assert digests == [f"docker.io/library/a@{DIGEST}"]
    assert parse_image_names([]) == ([], [])
