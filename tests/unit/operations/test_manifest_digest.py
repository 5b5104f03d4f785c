"""The digest of a manifest in a file."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from kstore.errors import InvalidInputError, InvalidManifestError, KstoreError, NotFoundError
from kstore.manifest import MAX_MANIFEST_SIZE
from kstore.operations.manifest_digest import manifest_digest
from tests.support.images import index_of, random_image
from tests.support.legacy import legacy_image

IMAGE = random_image(1)


@pytest.mark.parametrize("raw", [IMAGE.raw, index_of([IMAGE]), random_image(1, docker=True).raw])
def test_it_is_the_digest_of_the_bytes(raw: object, tmp_path: Path) -> None:
    data = getattr(raw, "data")  # noqa: B009 - a parameter of one type in three values
    (tmp_path / "m.json").write_bytes(data)
    digest = manifest_digest(str(tmp_path / "m.json"))
    assert digest.hex == hashlib.sha256(data).hexdigest()


def test_of_a_signed_manifest_it_is_that_of_what_was_signed() -> None:
    raw = legacy_image(1).raw
    found = manifest_digest("-", stdin=io.BytesIO(raw.data))
    assert found == raw.digest
    assert found.hex != hashlib.sha256(raw.data).hexdigest()


def test_another_algorithm_can_be_asked_for() -> None:
    found = manifest_digest("-", algorithm="sha512", stdin=io.BytesIO(IMAGE.raw.data))
    assert str(found) == f"sha512:{hashlib.sha512(IMAGE.raw.data).hexdigest()}"


@pytest.mark.parametrize("data", [b"", b"hello", b"[]", b"{}", IMAGE.config, b" " * (5 << 20)])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidManifestError, match="standard input is not a manifest"):
        manifest_digest("-", stdin=io.BytesIO(data))


def test_no_more_is_read_than_a_manifest_may_have() -> None:
    stdin = io.BytesIO(bytes(MAX_MANIFEST_SIZE * 3))
    with pytest.raises(InvalidManifestError, match="larger than the limit"):
        manifest_digest("-", stdin=stdin)
    assert stdin.tell() == MAX_MANIFEST_SIZE + 1


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("absent.json", NotFoundError, "does not exist"),
        ("", InvalidInputError, "is not a file"),
        ("a\0b", InvalidInputError, "is not a file"),
    ],
    ids=["absent", "a directory", "no name of a file"],
)
def test_a_file_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, name: str, error: type[KstoreError], said: str
) -> None:
    with pytest.raises(error, match=f"^manifest .* {said}$"):
        manifest_digest(str(tmp_path / name))


def test_no_standard_input_is_one_sentence() -> None:
    with pytest.raises(KstoreError, match="no standard input"):
        manifest_digest("-")
