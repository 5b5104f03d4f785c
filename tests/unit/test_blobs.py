from __future__ import annotations

import os
from pathlib import Path

import pytest

from kstore.blobs import BlobDirectory, replace_file, storage_errors
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, StorageError, StorageFullError, StoreDamagedError

DATA = b"some bytes"
DIGEST = Digest.of(DATA)


def test_a_blob_is_stored_where_the_layout_specification_says(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    blobs.put(DIGEST, DATA)
    path = tmp_path / "blobs" / "sha256" / DIGEST.hex
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o444
    assert blobs.has(DIGEST) == len(DATA)
    with blobs.open(DIGEST) as file:
        assert file.read() == DATA


def test_storing_leaves_no_temporary_file(tmp_path: Path) -> None:
    BlobDirectory(tmp_path).put(DIGEST, DATA)
    assert [path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == [DIGEST.hex]


def test_storing_again_replaces_a_damaged_file(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    blobs.put(DIGEST, DATA)
    blobs.path(DIGEST).chmod(0o600)
    blobs.path(DIGEST).write_bytes(b"bad")
    blobs.put(DIGEST, DATA)
    assert blobs.path(DIGEST).read_bytes() == DATA


def test_an_absent_blob_has_no_size_and_cannot_be_opened(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    assert blobs.has(DIGEST) is None
    assert blobs.delete(DIGEST) == 0
    with pytest.raises(BlobNotFoundError, match=DIGEST.hex):
        blobs.open(DIGEST)


def test_a_link_in_place_of_a_blob_is_not_followed(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    blobs.put(DIGEST, DATA)
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    blobs.path(DIGEST).unlink()
    blobs.path(DIGEST).symlink_to(secret)
    with pytest.raises(StoreDamagedError):
        blobs.open(DIGEST)
    with pytest.raises(StoreDamagedError):
        blobs.has(DIGEST)


def test_a_pipe_in_place_of_a_blob_does_not_block(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    blobs.directory().mkdir(parents=True)
    os.mkfifo(blobs.path(DIGEST))
    with pytest.raises(StoreDamagedError):
        blobs.open(DIGEST)


def test_deleting_returns_the_bytes_freed(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    blobs.put(DIGEST, DATA)
    assert blobs.delete(DIGEST) == len(DATA)
    assert blobs.has(DIGEST) is None


def test_only_names_that_are_digests_are_listed(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    assert list(blobs.digests()) == []
    blobs.put(DIGEST, DATA)
    (blobs.directory() / "README").write_text("not a blob")
    (blobs.directory() / DIGEST.hex.upper()).write_text("not one either")
    assert list(blobs.digests()) == [DIGEST]


def test_other_algorithms_have_directories_of_their_own(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    digest = Digest.of(DATA, "sha512")
    blobs.put(digest, DATA)
    assert (tmp_path / "blobs" / "sha512" / digest.hex).exists()
    assert list(blobs.digests()) == [digest]


def test_replacing_a_file_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError):  # noqa: PT011 - any error will do
        replace_file(tmp_path / "directory", b"new")
    replace_file(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "file"]


@pytest.mark.parametrize(
    ("number", "kind"), [(28, StorageFullError), (122, StorageFullError), (5, StorageError)]
)
def test_errors_of_the_system_become_storage_errors(number: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"cannot write it \(/file\)"), storage_errors("write it"):
        raise OSError(number, os.strerror(number), "/file")
