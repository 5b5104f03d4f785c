"""dir: an image as plain files, all of it or none, and never somebody else's directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.descriptor import BlobHint, Descriptor
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    ConflictError,
    DigestMismatchError,
    IntegrityError,
    InvalidInputError,
    InvalidManifestError,
    InvalidReferenceError,
    ManifestNotFoundError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)
from kstore.transports.dir import DirReference, DirTransport
from tests.support.disks import files_no_larger_than
from tests.support.images import ARM64, index_of, random_image
from tests.support.sessions import (
    BytesFeed,
    doomed,
    get,
    hint_of,
    put,
    put_index,
    read_blob,
    send,
)

ONE, TWO, THREE = random_image(1), random_image(2, docker=True), random_image(3, platform=ARM64)


def image_dir(path: Path) -> DirReference:
    return DirTransport().parse_reference(str(path))


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def expected(raw: bytes, blobs: dict[Digest, bytes]) -> dict[str, bytes]:
    return {
        "version": b"Directory Transport Version: 1.1\n",
        "manifest.json": raw,
        **{digest.hex: data for digest, data in blobs.items()},
    }


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An image that stands there already."""
    put(image_dir(tmp_path / "image"), ONE, [b"signed"])
    return tmp_path / "image"


def test_a_reference_is_a_path_with_all_its_colons() -> None:
    reference = DirTransport().parse_reference("some:where/a:b")
    assert reference.within_transport == "some:where/a:b"
    assert reference.docker_reference is None
    for text in ["", "a\0b"]:
        with pytest.raises(InvalidReferenceError):
            DirTransport().parse_reference(text)


def test_trust_is_looked_up_by_the_path_without_links(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("image")
    reference = image_dir(tmp_path / "link")
    assert reference.policy_identity == os.path.realpath(tmp_path / "image")
    assert reference.policy_namespaces[0] == os.path.realpath(tmp_path)
    with pytest.raises(InvalidInputError):
        DirTransport().validate_policy_scope("relative")


@pytest.mark.parametrize("image", [ONE, TWO], ids=["oci", "docker"])
def test_an_image_is_exactly_its_files(tmp_path: Path, image) -> None:
    put(image_dir(tmp_path / "x"), image)
    assert contents(tmp_path / "x") == expected(image.raw.data, image.blobs)
    got = get(image_dir(tmp_path / "x"))
    assert got.raw == image.raw
    assert got.blobs == image.blobs
    assert names(tmp_path) == ["x"]


def test_an_index_stands_beside_its_members(tmp_path: Path) -> None:
    both = index_of([ONE, THREE])
    put_index(image_dir(tmp_path / "x"), both, [ONE, THREE])
    assert (tmp_path / "x" / f"{THREE.raw.digest.hex}.manifest.json").read_bytes() == THREE.raw.data
    got = get(image_dir(tmp_path / "x"))
    assert (got.raw, got.members) == (both, (ONE.raw, THREE.raw))
    assert got.blobs == {**ONE.blobs, **THREE.blobs}


def test_signatures_of_the_image_and_of_members_come_back(tmp_path: Path) -> None:
    reference = image_dir(tmp_path / "x")
    member = THREE.raw.digest
    with reference.open_destination() as destination:
        assert destination.traits.signatures
        send(destination, THREE, member=True)
        destination.write_manifest(index_of([THREE]))
        destination.write_signatures([b"one", b"\0two"])
        destination.write_signatures([b"member's"], member)
        destination.commit()
    assert (tmp_path / "x/signature-2").read_bytes() == b"\0two"
    with reference.open_source() as source:
        assert source.read_signatures() == [b"one", b"\0two"]
        assert source.read_signatures(member) == [b"member's"]
        assert source.read_signatures(ONE.raw.digest) == []


def test_too_many_or_too_large_signatures_are_refused(old: Path) -> None:
    os.truncate(old / "signature-1", (4 << 20) + 1)
    with image_dir(old).open_source() as source, pytest.raises(IntegrityError, match="limit"):
        source.read_signatures()
    for number in range(1, 131):
        (old / f"signature-{number}").write_bytes(b"x")
    with image_dir(old).open_source() as source, pytest.raises(IntegrityError, match="128"):
        source.read_signatures()


def test_blobs_of_another_algorithm_have_it_in_their_name(tmp_path: Path) -> None:
    data = b"config"
    digest = Digest.of(data, "sha512")
    blob = Descriptor(mt.OCI_CONFIG, digest, len(data))
    with image_dir(tmp_path / "x").open_destination() as destination:
        destination.write_blob(BytesFeed(blob, data), hint_of(blob))
        destination.write_manifest(ONE.raw)
        destination.commit()
    assert (tmp_path / "x" / f"sha512-{digest.hex}").read_bytes() == data
    assert (tmp_path / "x/version").read_text() == "Directory Transport Version: 1.2\n"
    with image_dir(tmp_path / "x").open_source() as source:
        assert read_blob(source, blob) == data


def test_a_blob_is_read_from_the_middle(old: Path) -> None:
    layer = ONE.layers[0]
    with image_dir(old).open_source() as source:
        assert read_blob(source, layer, 100) == ONE.blobs[layer.digest][100:]


# Reading what is not right


def test_the_size_of_a_blob_can_be_asked_for(old: Path) -> None:
    layer = ONE.layers[0]
    with image_dir(old).open_source() as source:
        assert source.blob_size(layer.digest) == layer.size
        assert source.blob_size(Digest.of(b"missing")) is None


def test_what_is_no_image_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ManifestNotFoundError, match="there is no such directory"):
        image_dir(tmp_path / "none").open_source()
    with pytest.raises(ManifestNotFoundError, match=r"it has no manifest\.json"):
        image_dir(tmp_path).open_source()


def test_an_image_without_a_version_is_read(old: Path) -> None:
    (old / "version").unlink()
    assert get(image_dir(old)).raw == ONE.raw


@pytest.mark.parametrize(
    ("version", "error"),
    [
        ("Directory Transport Version: 1.3\n", UnsupportedError),
        ("Directory Transport Version: 2.0\n", UnsupportedError),
        ("something else", IntegrityError),
        ("x" * 1000, IntegrityError),
    ],
)
def test_an_unknown_version_is_refused(old: Path, version: str, error: type[Exception]) -> None:
    (old / "version").write_text(version)
    with pytest.raises(error):
        image_dir(old).open_source()


def test_missing_blobs_and_members_are_named(old: Path) -> None:
    layer = ONE.layers[0]
    (old / layer.digest.hex).unlink()
    with image_dir(old).open_source() as source:
        with pytest.raises(BlobNotFoundError, match=layer.digest.hex):
            source.open_blob(layer)
        with pytest.raises(ManifestNotFoundError, match=THREE.raw.digest.hex):
            source.read_manifest(THREE.raw.digest)


def test_a_member_of_other_bytes_is_refused(old: Path) -> None:
    (old / f"{THREE.raw.digest.hex}.manifest.json").write_bytes(ONE.raw.data)
    with image_dir(old).open_source() as source, pytest.raises(DigestMismatchError):
        source.read_manifest(THREE.raw.digest)


def test_a_manifest_that_is_huge_or_none_is_refused(old: Path) -> None:
    (old / "manifest.json").write_text("[]")
    with pytest.raises(InvalidManifestError):
        image_dir(old).open_source()
    os.truncate(old / "manifest.json", 1 << 40)
    with pytest.raises(IntegrityError, match="limit"):
        image_dir(old).open_source()


def test_links_are_not_followed(old: Path) -> None:
    layer = ONE.layers[0]
    (old / layer.digest.hex).rename(old.parent / "elsewhere")
    (old / layer.digest.hex).symlink_to(old.parent / "elsewhere")
    with image_dir(old).open_source() as source, pytest.raises(IntegrityError, match="plain file"):
        source.open_blob(layer)


# Writing


def test_the_old_image_stays_until_the_new_one_is_complete(old: Path) -> None:
    before = contents(old)
    with image_dir(old).open_destination() as destination:
        send(destination, TWO)
        assert contents(old) == before
        destination.commit()
    assert contents(old) == expected(TWO.raw.data, TWO.blobs)
    assert names(old.parent) == ["image"]


def test_a_failed_copy_leaves_the_old_image_and_nothing_else(old: Path) -> None:
    before = contents(old)
    with doomed(image_dir(old)) as destination:
        send(destination, TWO)
    assert contents(old) == before
    assert names(old.parent) == ["image"]


def test_a_failed_copy_leaves_no_directory_where_there_was_none(tmp_path: Path) -> None:
    with doomed(image_dir(tmp_path / "x")) as destination:
        send(destination, ONE)
    assert names(tmp_path) == []


def test_opening_a_destination_makes_nothing(tmp_path: Path) -> None:
    with image_dir(tmp_path / "x").open_destination() as destination:
        destination.reuse_blobs([hint_of(ONE.layers[0])])
        assert names(tmp_path) == []


def test_an_empty_directory_becomes_the_image_and_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir(mode=0o700)
    put(image_dir(tmp_path / "x"), ONE)
    assert get(image_dir(tmp_path / "x")).blobs == ONE.blobs
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o700
    assert names(tmp_path) == ["x"]


def test_a_link_to_a_directory_keeps_being_one(old: Path) -> None:
    (old.parent / "link").symlink_to("image")
    put(image_dir(old.parent / "link"), TWO)
    assert (old.parent / "link").is_symlink()
    assert get(image_dir(old)).raw == TWO.raw


def test_the_working_directory_can_be_written_to(old: Path, monkeypatch) -> None:
    monkeypatch.chdir(old)
    put(image_dir(Path()), TWO)
    assert get(image_dir(old)).raw == TWO.raw


@pytest.mark.parametrize("name", ["letter.txt", "version.bak", "manifest.json", "A" * 64])
def test_a_directory_of_other_things_is_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / name).write_text("precious")
    with pytest.raises(ConflictError, match="not a dir: image"):
        image_dir(tmp_path / "x").open_destination()
    assert contents(tmp_path / "x") == {name: b"precious"}


def test_an_image_that_somebody_keeps_other_files_in_is_not_touched(old: Path) -> None:
    (old / "notes.txt").write_text("precious")
    before = contents(old)
    with pytest.raises(ConflictError, match=r"notes\.txt"):
        image_dir(old).open_destination()
    with pytest.raises(ConflictError, match=r"notes\.txt"):
        image_dir(old).delete()
    assert contents(old) == before


def test_files_that_appear_while_the_image_is_copied_are_kept(old: Path) -> None:
    with image_dir(old).open_destination() as destination:
        send(destination, TWO)
        (old / "notes.txt").write_text("precious")
        with pytest.raises(ConflictError):
            destination.commit()
    assert (old / "notes.txt").read_text() == "precious"
    assert names(old.parent) == ["image"]


def test_a_file_or_a_missing_parent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInputError, match="is a file"):
        image_dir(tmp_path / "file").open_destination()
    with pytest.raises(NotFoundError, match="there is no directory"):
        image_dir(tmp_path / "a" / "b").open_destination()


@pytest.mark.unprivileged
def test_a_parent_one_may_not_write_to_is_refused_before_anything_moves(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o555)
    with pytest.raises(StorageError, match="no permission"):
        image_dir(tmp_path / "shut" / "x").open_destination()


def test_wrong_bytes_do_not_become_a_blob(tmp_path: Path) -> None:
    layer = ONE.layers[0]
    with image_dir(tmp_path / "x").open_destination() as destination:
        with pytest.raises(DigestMismatchError):
            destination.write_blob(BytesFeed(layer, b"x" * layer.size), hint_of(layer))
        assert destination.reuse_blobs([hint_of(layer)]) == [False]
        destination.write_blob(BytesFeed(layer, ONE.blobs[layer.digest]), hint_of(layer))
        assert destination.reuse_blobs([hint_of(layer)]) == [True]


def test_a_full_disk_leaves_the_old_image_and_nothing_else(old: Path) -> None:
    before = contents(old)
    image = random_image(5, layers=1, layer_size=3 << 20, compression="none")
    with files_no_larger_than(1 << 20), pytest.raises(StorageError):
        put(image_dir(old), image)
    assert contents(old) == before
    assert names(old.parent) == ["image"]


def test_a_blob_of_unknown_digest_is_refused(tmp_path: Path) -> None:
    reference = image_dir(tmp_path / "x")
    with reference.open_destination() as destination, pytest.raises(UnsupportedError):
        destination.write_blob(BytesFeed(ONE.layers[0], b""), BlobHint(None, None, ""))


def test_deleting_removes_the_directory(old: Path) -> None:
    image_dir(old).delete()
    assert names(old.parent) == []
    with pytest.raises(ManifestNotFoundError):
        image_dir(old).delete()


def test_a_directory_that_is_no_image_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ConflictError):
        image_dir(tmp_path).delete()
    assert names(tmp_path) == ["manifest.json"]
