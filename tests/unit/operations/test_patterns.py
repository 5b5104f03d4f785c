"""Which names a pattern means."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kstore.digest import Digest
from kstore.errors import InvalidInputError
from kstore.operations.patterns import NamePattern
from kstore.reference import Named
from kstore.store import NameRecord, Store
from tests.support.catalogs import CatalogImage, fill_catalog
from tests.support.strategies import steady

DIGEST = Digest.of(b"manifest")
OTHER = Digest.of(b"another")
NOW = dt.datetime.now(dt.UTC)


def record(name: str) -> NameRecord:
    return NameRecord(Named.parse(name), DIGEST, DIGEST, None, NOW)


def means(pattern: str, name: str) -> bool:
    return NamePattern(pattern).matches(record(name))


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


@pytest.mark.parametrize(
    "pattern", ["", ":", ":latest", "redis:", "a//b", "redis:latest:x", "x@y", "a" * 1001]
)
def test_a_pattern_that_can_mean_nothing_is_an_error(pattern: str) -> None:
    with pytest.raises(InvalidInputError, match="not an image name|bad digest"):
        NamePattern(pattern)


NAMES = (
    *("aa", "ab:b", "a-b", "b/a:aa", "b/a/b", "localhost/a", "localhost/b/ab", "a.b/a:b"),
    *("a.b:5/a/b/a", "a.b:5/ab", "quay.io/a/b:a", "quay.io/ab:ab", f"quay.io/b@{DIGEST}"),
)
COMPONENTS = st.text("ab*?[]!-.", min_size=1, max_size=4) | st.sampled_from(
    ["localhost", "a.b:5", "quay.io", "docker.io", "library", "*"]
)
PATTERNS = st.builds(
    lambda parts, rest: "/".join(parts) + rest,
    st.lists(COMPONENTS, min_size=1, max_size=3),
    st.just("") | st.text("ab*?[]", min_size=1, max_size=3).map(lambda tag: f":{tag}"),
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("patterns") / "store") as store:
        fill_catalog(store, (CatalogImage(n, (name,)) for n, name in enumerate(NAMES)))
        fill_catalog(store, [CatalogImage(len(NAMES))])
        yield store


def meant(store: Store, pattern: NamePattern) -> set[str]:
    """The IDs of the images that have a name which the pattern means."""
    return {image.id for image in store.images() if any(map(pattern.matches, image.names))}


def preselected(store: Store, pattern: NamePattern) -> set[str]:
    return {image.id for image in store.images([pattern.condition])}


@given(text=PATTERNS)
@example("[!b]*")  # SQLite writes [^b]
@example("a[]-]b")
@example("a*/[ab]")
@steady
def test_the_catalog_preselects_all_that_a_pattern_means(shelf: Store, text: str) -> None:
    try:
        pattern = NamePattern(text)
    except InvalidInputError:
        return
    assert meant(shelf, pattern) <= preselected(shelf, pattern)


@pytest.mark.parametrize(
    "text", ["aa", "a", "*:b", "a*", "?b:a*", "quay.io/a/?", f"b@{DIGEST}", "quay.io/ab:ab"]
)
def test_the_catalog_preselects_nothing_else_for_usual_patterns(shelf: Store, text: str) -> None:
    pattern = NamePattern(text)
    assert meant(shelf, pattern) == preselected(shelf, pattern) != set()
