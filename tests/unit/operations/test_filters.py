"""Which names a pattern means."""

from __future__ import annotations

import datetime as dt

import pytest

from kstore.digest import Digest
from kstore.errors import InvalidInputError
from kstore.operations.filters import parse_filters, reference_filter
from kstore.reference import Named
from kstore.store import ImageRecord, NameRecord

DIGEST = Digest.of(b"manifest")
OTHER = Digest.of(b"another")
NOW = dt.datetime.now(dt.UTC)


def record(name: str) -> NameRecord:
    return NameRecord(Named.parse(name), DIGEST, DIGEST, None, NOW)


IMAGE: ImageRecord = None  # type: ignore[assignment]  # reference filters look at names only


def means(pattern: str, name: str) -> bool:
    return reference_filter(pattern)(IMAGE, record(name))


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("docker.io/library/redis:latest", "redis", True),
        ("docker.io/library/redis:latest", "redis:latest", True),
        ("docker.io/library/redis:latest", "library/redis", True),
        ("docker.io/library/redis:latest", "docker.io/library/redis", True),
        ("docker.io/library/redis:latest", "docker.io/redis", True),
        ("docker.io/library/redis:latest", "index.docker.io/redis", True),
        ("docker.io/library/redis:latest", "redis:alpine", False),
        ("docker.io/library/redis:latest", "ry/redis", False),
        ("docker.io/library/redis:latest", "io/library/redis", False),
        ("docker.io/library/redis:latest", "dis", False),
        ("docker.io/library/redis:latest", "library", False),
        ("docker.io/library/redis:latest", "Redis", False),
        ("docker.io/kubernetes/pause:latest", "kubernetes/pause:latest", True),
        ("docker.io/kubernetes/pause:latest", "kubernetes/redis", False),
        ("localhost:5000/foo:v1", "foo", True),
        ("localhost:5000/foo:v1", "foo:v1", True),
        ("localhost:5000/foo:v1", "localhost:5000/foo", True),
        ("localhost:5000/foo:v1", "localhost:5000/foo:v2", False),
        ("localhost:5000/foo:v1", "localhost", False),
        (f"docker.io/library/redis@{DIGEST}", "redis", True),
        (f"docker.io/library/redis@{DIGEST}", f"redis@{DIGEST}", True),
        ("docker.io/library/redis:1", f"redis@{DIGEST}", True),
        ("docker.io/library/redis:1", f"redis@{OTHER}", False),
        (f"docker.io/library/redis@{DIGEST}", "sha256", False),
        ("quay.io/libpod/busybox:latest", "quay.io/libpod", False),
        ("quay.io/libpod/busybox:latest", "quay.io/libpod/*", True),
        ("quay.io/libpod/busybox:latest", "*usy*", True),
        ("localhost/image:tag", "image:t*", True),
        ("localhost/image:tag", "image:other*", False),
    ],
)
def test_a_pattern_means_whole_components_of_a_name(name, pattern, expected) -> None:
    assert means(pattern, name) is expected


@pytest.mark.parametrize("pattern", ["", ":", ":latest", "redis:", "a//b", "redis:latest:x", "x@y"])
def test_a_pattern_that_can_mean_nothing_is_an_error(pattern: str) -> None:
    with pytest.raises(InvalidInputError, match="not an image name|bad digest"):
        reference_filter(pattern)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("foo=bar", "unknown filter 'foo'"),
        ("dangling", "not KEY=VALUE"),
        ("", "not KEY=VALUE"),
        ("dangling=NO", "true or false"),
        ("dangling=", "true or false"),
        ("label=", "KEY or KEY=VALUE"),
        ("label==x", "KEY or KEY=VALUE"),
        ("reference=", "not an image name"),
    ],
)
def test_a_wrong_filter_is_named(text: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        parse_filters([text])


def test_dangling_means_without_a_name() -> None:
    (wanted,) = parse_filters([" dangling =true"])
    assert wanted(IMAGE, None)
    assert not wanted(IMAGE, record("x"))
