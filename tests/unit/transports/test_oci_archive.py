"""oci-archive: read where it is, written in one go, to a file, a pipe or not at all."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from kstore.errors import (
    AmbiguousNameError,
    BlobNotFoundError,
    CancelledError,
    ConflictError,
    DigestMismatchError,
    IntegrityError,
    InvalidInputError,
    InvalidReferenceError,
    KstoreError,
    ManifestNotFoundError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)
from kstore.formats.oci_layout import REF_NAME
from kstore.transports.oci_archive import OciArchiveReference, OciArchiveTransport
from tests.support.disks import files_no_larger_than
from tests.support.images import ARM64, TestImage, index_of, random_image, write_oci_layout
from tests.support.sessions import BytesFeed, doomed, get, hint_of, put, put_index, read_blob, send

ONE, TWO, THREE = random_image(1), random_image(2), random_image(3, platform=ARM64)
#: Shares its base layers with ONE.
BIGGER = random_image(1, layers=3)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


@pytest.fixture
def transport(spool: Path) -> OciArchiveTransport:
    return OciArchiveTransport(spool)


@pytest.fixture
def archive(tmp_path: Path, transport: OciArchiveTransport) -> Path:
    """An archive of ONE as v1."""
    put(transport.parse_reference(f"{tmp_path}/one.tar:v1"), ONE)
    return tmp_path / "one.tar"


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def tar_of(layout: Path, change: Mapping[str, bytes | None] | None = None) -> bytes:
    """A tar of a directory as the tar program makes it, with some files changed or left out."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for path in sorted(layout.rglob("*")):
            name = str(path.relative_to(layout))
            if name not in (change or {}):
                tar.add(path, f"./{name}", recursive=False)
        for name, data in (change or {}).items():
            if data is not None:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return output.getvalue()


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    write_oci_layout(tmp_path / "layout", {"v1": ONE})
    return tmp_path / "layout"


# Reading


@pytest.mark.parametrize("text", ["a.tar", "a.tar:v1", "-", "-:x/y:1", "/a b.tar:@2"])
def test_a_reference_comes_back_out_of_its_text(transport: OciArchiveTransport, text: str) -> None:
    reference = transport.parse_reference(text)
    assert reference.within_transport == text
    assert transport.parse_reference(text) == reference
    assert reference.docker_reference is None


def test_trust_is_looked_up_by_the_file(tmp_path: Path, transport: OciArchiveTransport) -> None:
    reference = transport.parse_reference(f"{tmp_path}/a.tar:v1")
    assert reference.policy_identity == f"{os.path.realpath(tmp_path)}/a.tar"
    assert reference.policy_namespaces[0] == os.path.realpath(tmp_path)
    with pytest.raises(InvalidInputError):
        transport.validate_policy_scope("x")


@pytest.mark.parametrize("rest", ["", ":v1", ":@0"])
def test_an_image_comes_back_byte_for_byte(
    archive: Path, transport: OciArchiveTransport, rest: str
) -> None:
    got = get(transport.parse_reference(f"{archive}{rest}"))
    assert got.raw == ONE.raw
    assert got.blobs == ONE.blobs


def test_an_index_comes_back_with_its_members(
    tmp_path: Path, transport: OciArchiveTransport
) -> None:
    both, reference = index_of([ONE, THREE]), transport.parse_reference(f"{tmp_path}/x.tar")
    put_index(reference, both, [ONE, THREE])
    got = get(reference)
    assert (got.raw, got.members) == (both, (ONE.raw, THREE.raw))
    assert got.blobs == {**ONE.blobs, **THREE.blobs}


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
def test_archives_of_the_tar_program_are_read_compressed_or_not(
    tmp_path: Path, layout: Path, spool: Path, transport: OciArchiveTransport, compress: Any
) -> None:
    (tmp_path / "x.tar").write_bytes(compress(tar_of(layout)))
    assert get(transport.parse_reference(f"{tmp_path}/x.tar:v1")).blobs == ONE.blobs
    assert names(spool) == []


def test_an_archive_is_read_from_a_pipe(layout: Path, spool: Path) -> None:
    read_end, write_end = os.pipe()
    data = tar_of(layout)

    def feed() -> None:
        with os.fdopen(write_end, "wb") as sink:
            sink.write(data)

    writer = threading.Thread(target=feed)
    writer.start()
    with os.fdopen(read_end, "rb") as stdin:
        got = get(OciArchiveTransport(spool, stdin=stdin).parse_reference("-:v1"))
    writer.join()
    assert got.blobs == ONE.blobs


def test_a_blob_is_read_from_the_middle(archive: Path, transport: OciArchiveTransport) -> None:
    layer = ONE.layers[0]
    with transport.parse_reference(str(archive)).open_source() as source:
        assert read_blob(source, layer, 100) == ONE.blobs[layer.digest][100:]


def test_links_to_other_members_are_followed(tmp_path: Path, transport) -> None:
    write_oci_layout(tmp_path / "layout", {"v1": ONE})
    layer = tmp_path / "layout/blobs/sha256" / ONE.layers[0].digest.hex
    layer.rename(tmp_path / "layout/layer.tar")
    layer.symlink_to("../../layer.tar")
    (tmp_path / "x.tar").write_bytes(tar_of(tmp_path / "layout"))
    assert get(transport.parse_reference(f"{tmp_path}/x.tar")).blobs == ONE.blobs


def test_a_link_out_of_the_archive_is_refused(tmp_path: Path, layout: Path, transport) -> None:
    layer = layout / "blobs/sha256" / ONE.layers[0].digest.hex
    layer.unlink()
    layer.symlink_to("/etc/passwd")
    (tmp_path / "x.tar").write_bytes(tar_of(layout))
    with pytest.raises(IntegrityError):
        get(transport.parse_reference(f"{tmp_path}/x.tar"))


def test_several_images_are_told_apart(tmp_path: Path, transport: OciArchiveTransport) -> None:
    write_oci_layout(tmp_path / "layout", {"a": ONE, "b": TWO})
    (tmp_path / "x.tar").write_bytes(tar_of(tmp_path / "layout"))
    assert get(transport.parse_reference(f"{tmp_path}/x.tar:b")).blobs == TWO.blobs
    with pytest.raises(AmbiguousNameError, match="@0 'a', @1 'b'"):
        transport.parse_reference(f"{tmp_path}/x.tar").open_source()
    with transport.reader(f"{tmp_path}/x.tar") as reader:
        assert [ref for _, ref in reader.images()] == ["a", "b"]
        assert [get(reference).raw for reference, _ in reader.images()] == [ONE.raw, TWO.raw]


def test_several_images_are_read_from_a_pipe_in_one_session(tmp_path: Path, spool: Path) -> None:
    write_oci_layout(tmp_path / "layout", {"a": ONE, "b": TWO})
    stdin = io.BytesIO(tar_of(tmp_path / "layout"))
    with OciArchiveTransport(spool, stdin=stdin).reader("-") as reader:
        assert [get(reference).raw for reference, _ in reader.images()] == [ONE.raw, TWO.raw]


def test_what_is_missing_is_named(tmp_path: Path, layout: Path, transport) -> None:
    with pytest.raises(NotFoundError, match=r"none\.tar"):
        transport.parse_reference(f"{tmp_path}/none.tar").open_source()
    with pytest.raises(InvalidInputError, match="standard input"):
        transport.parse_reference("-").open_source()
    layer = ONE.layers[0]
    blob = f"blobs/sha256/{layer.digest.hex}"
    (tmp_path / "x.tar").write_bytes(tar_of(layout, {blob: None}))
    source = transport.parse_reference(f"{tmp_path}/x.tar").open_source()
    with source, pytest.raises(BlobNotFoundError, match=layer.digest.hex):
        source.open_blob(layer)
    (tmp_path / "x.tar").write_bytes(tar_of(layout, {"index.json": None}))
    with pytest.raises(ManifestNotFoundError, match=r"no index\.json"):
        transport.parse_reference(f"{tmp_path}/x.tar").open_source()


@pytest.mark.parametrize(
    "index",
    [b"{", b"[]", b'{"schemaVersion":2,"manifests":' + b"[" * 100, b" " * (5 << 20)],
    ids=["cut", "list", "deep", "huge"],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, layout: Path, transport, index) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of(layout, {"index.json": index}))
    with pytest.raises(IntegrityError, match=r"index\.json"):
        transport.parse_reference(f"{tmp_path}/x.tar").open_source()


def test_an_archive_cut_off_anywhere_is_never_read_in_silence(
    tmp_path: Path, archive: Path, transport: OciArchiveTransport
) -> None:
    data = archive.read_bytes()
    for length in range(0, len(data) - 512, 512):
        (tmp_path / "cut.tar").write_bytes(data[:length])
        with pytest.raises(KstoreError):
            get(transport.parse_reference(f"{tmp_path}/cut.tar"))


# Writing


def members(path: Path | BinaryIO) -> list[tarfile.TarInfo]:
    if isinstance(path, Path):
        with tarfile.open(path) as tar:
            return tar.getmembers()
    with tarfile.open(fileobj=path) as tar:
        return tar.getmembers()


def test_the_archive_is_a_layout_written_blob_by_blob(archive: Path) -> None:
    found = members(archive)
    order = [*(layer.digest.hex for layer in ONE.layers), ONE.id, ONE.raw.digest.hex]
    blobs = [f"blobs/sha256/{name}" for name in order]
    assert [m.name for m in found] == [
        *("blobs", "blobs/sha256"),
        *blobs,
        *("index.json", "oci-layout"),
    ]
    assert {(m.mtime, m.uid, m.gid, m.uname) for m in found} == {(0, 0, 0, "")}
    assert {m.mode for m in found if m.isfile()} == {0o644}


def test_the_same_image_makes_the_same_bytes(
    tmp_path: Path, archive: Path, transport: OciArchiveTransport
) -> None:
    put(transport.parse_reference(f"{tmp_path}/again.tar:v1"), ONE)
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()


def test_blobs_come_one_at_a_time(tmp_path: Path, transport: OciArchiveTransport) -> None:
    with transport.parse_reference(f"{tmp_path}/x.tar").open_destination() as destination:
        assert destination.traits.ordered
        assert not destination.traits.concurrent


def test_nothing_is_visible_before_the_commit_or_after_a_failure(
    tmp_path: Path, spool: Path, transport: OciArchiveTransport
) -> None:
    with doomed(transport.parse_reference(f"{tmp_path}/x.tar")) as destination:
        send(destination, ONE)
        assert not (tmp_path / "x.tar").exists()
    assert names(tmp_path) == ["spool"]
    assert names(spool) == []


def test_an_archive_that_exists_is_not_touched(
    archive: Path, transport: OciArchiveTransport
) -> None:
    before = archive.read_bytes()
    with pytest.raises(ConflictError, match="exists already"):
        transport.parse_reference(f"{archive}:v2").open_destination()
    assert archive.read_bytes() == before


def test_wrong_bytes_leave_no_archive(tmp_path: Path, transport: OciArchiveTransport) -> None:
    layer = ONE.layers[0]
    reference = transport.parse_reference(f"{tmp_path}/x.tar")
    with reference.open_destination() as destination, pytest.raises(DigestMismatchError):
        destination.write_blob(BytesFeed(layer, b"x" * layer.size), hint_of(layer))
    assert names(tmp_path) == ["spool"]


def test_after_wrong_bytes_an_archive_cannot_be_finished(
    tmp_path: Path, transport: OciArchiveTransport
) -> None:
    layer = ONE.layers[0]
    writer = transport.writer(f"{tmp_path}/x.tar")
    with writer.reference("v1").open_destination() as destination:
        with pytest.raises(DigestMismatchError):
            destination.write_blob(BytesFeed(layer, b"x" * layer.size), hint_of(layer))
        with pytest.raises(CancelledError, match="a blob that failed before"):
            send(destination, ONE)  # a consequence, which must not hide the cause
    with pytest.raises(IntegrityError, match="cannot be completed"), writer:
        pass
    assert names(tmp_path) == ["spool"]


def test_an_archive_goes_to_standard_output(spool: Path) -> None:
    stdout = io.BytesIO()
    put(OciArchiveTransport(spool, stdout=stdout).parse_reference("-:v1"), ONE)
    stdin = io.BytesIO(stdout.getvalue())
    got = get(OciArchiveTransport(spool, stdin=stdin).parse_reference("-:v1"))
    assert got.blobs == ONE.blobs


def test_without_a_standard_output_nothing_can_go_there(transport: OciArchiveTransport) -> None:
    with pytest.raises(InvalidInputError, match="standard output"):
        transport.parse_reference("-").open_destination()


def test_a_terminal_is_refused(spool: Path) -> None:
    master, slave = os.openpty()
    try:
        with os.fdopen(slave, "wb", buffering=0) as stdout:
            reference = OciArchiveTransport(spool, stdout=stdout).parse_reference("-")
            with pytest.raises(InvalidInputError, match="terminal"):
                reference.open_destination()
    finally:
        os.close(master)


def test_an_archive_goes_into_a_fifo(tmp_path: Path, transport: OciArchiveTransport) -> None:
    fifo, read = tmp_path / "fifo", io.BytesIO()
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: read.write(fifo.read_bytes()))
    reader.start()
    put(transport.parse_reference(str(fifo)), ONE)
    reader.join()
    read.seek(0)
    assert [m.name for m in members(read)][-1] == "oci-layout"
    assert fifo.is_fifo()


def test_a_full_disk_leaves_no_archive(tmp_path: Path, transport: OciArchiveTransport) -> None:
    image = random_image(5, layers=1, layer_size=3 << 20, compression="none")
    with files_no_larger_than(1 << 20), pytest.raises(StorageError):
        put(transport.parse_reference(f"{tmp_path}/x.tar"), image)
    assert names(tmp_path) == ["spool"]


def test_a_position_cannot_be_written_to(tmp_path: Path, transport: OciArchiveTransport) -> None:
    with pytest.raises(InvalidReferenceError, match="can only be read"):
        transport.parse_reference(f"{tmp_path}/x.tar:@0").open_destination()
    assert names(tmp_path) == ["spool"]


def test_nothing_can_be_taken_out_of_an_archive(
    archive: Path, transport: OciArchiveTransport
) -> None:
    with pytest.raises(UnsupportedError):
        transport.parse_reference(str(archive)).delete()
    assert archive.exists()


# Several images in one session


def save(
    transport: OciArchiveTransport, path: Path, images: Mapping[str | None, TestImage]
) -> None:
    with transport.writer(str(path)) as writer:
        for ref, image in images.items():
            put(writer.reference(ref), image)
            assert not path.exists()


def test_several_images_share_their_blobs(tmp_path: Path, transport: OciArchiveTransport) -> None:
    save(transport, tmp_path / "x.tar", {"a": ONE, "b": BIGGER, None: TWO, "c": ONE})
    with transport.reader(f"{tmp_path}/x.tar") as reader:
        got = {ref: get(reference).blobs for reference, ref in reader.images()}
    assert got == {"a": ONE.blobs, "b": BIGGER.blobs, None: TWO.blobs, "c": ONE.blobs}
    found = [member.name for member in members(tmp_path / "x.tar")]
    assert len(found) == len(set(found))


def test_an_exception_leaves_no_archive(tmp_path: Path, transport: OciArchiveTransport) -> None:
    class OopsError(Exception):
        pass

    def attempt() -> None:
        with transport.writer(f"{tmp_path}/x.tar") as writer:
            put(writer.reference("a"), ONE)
            raise OopsError

    with pytest.raises(OopsError):
        attempt()
    assert names(tmp_path) == ["spool"]


def test_two_images_cannot_have_one_name(tmp_path: Path, transport: OciArchiveTransport) -> None:
    with transport.writer(f"{tmp_path}/x.tar") as writer:
        put(writer.reference("a"), ONE)
        put(writer.reference("a"), ONE)
        with pytest.raises(ConflictError, match="both called 'a'"):
            put(writer.reference("a"), TWO)
    with tarfile.open(tmp_path / "x.tar") as tar:
        file = tar.extractfile("index.json")
        assert file is not None
        entries = json.load(file)["manifests"]
    assert [e["annotations"] for e in entries] == [{REF_NAME: "a"}]


def test_references_of_a_session_speak_of_its_file(
    tmp_path: Path, transport: OciArchiveTransport
) -> None:
    with transport.writer(f"{tmp_path}/x.tar") as writer:
        reference = writer.reference("a")
        assert isinstance(reference, OciArchiveReference)
        assert reference.within_transport == f"{tmp_path}/x.tar:a"
        put(reference, ONE)
