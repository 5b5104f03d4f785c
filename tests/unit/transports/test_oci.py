"""oci: several images in one directory, several writers at once, and nothing half done."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kstore import mediatypes as mt
from kstore.blobs import BlobDirectory
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    AmbiguousNameError,
    BlobNotFoundError,
    ConflictError,
    DigestMismatchError,
    InvalidInputError,
    InvalidManifestError,
    InvalidReferenceError,
    KstoreError,
    ManifestNotFoundError,
    NotFoundError,
    SizeMismatchError,
    StorageError,
    StoreDamagedError,
    UnsupportedError,
)
from kstore.formats.oci_layout import REF_NAME
from kstore.store import Store
from kstore.store.examine import Reading, examine
from kstore.transports import oci_directory
from kstore.transports.oci import OciReference, OciTransport
from tests.architecture.source import CHECKOUT
from tests.support.disks import files_no_larger_than
from tests.support.images import ARM64, TestImage, index_of, random_image, write_oci_layout
from tests.support.sessions import BytesFeed, doomed, get, hint_of, put, put_index, read_blob, send
from tests.support.stores import put_image

ONE, TWO, THREE = random_image(1), random_image(2), random_image(3, platform=ARM64)
#: Shares its base layer with ONE.
BIGGER = random_image(1, layers=3)


def oci(path: Path, rest: str = "") -> OciReference:
    return OciTransport().parse_reference(f"{path}{rest}")


def files(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir()}


def index_of_layout(path: Path) -> Any:
    return json.loads((path / "index.json").read_bytes())


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout of ONE as v1."""
    put(oci(tmp_path / "layout", ":v1"), ONE)
    return tmp_path / "layout"


@pytest.mark.parametrize("text", ["d", "d:v1", "d:docker.io/library/x:latest", "/a b/d:@3"])
def test_a_reference_comes_back_out_of_its_text(text: str) -> None:
    reference = OciTransport().parse_reference(text)
    assert reference.within_transport == text
    assert OciTransport().parse_reference(reference.within_transport) == reference
    assert reference.docker_reference is None


def test_trust_is_looked_up_by_the_directory_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("layout")
    reference = oci(tmp_path / "link", ":v1")
    assert reference.policy_identity == os.path.realpath(tmp_path / "layout")
    assert reference.policy_namespaces[0] == os.path.realpath(tmp_path)
    assert "/" not in reference.policy_namespaces
    for scope in reference.policy_namespaces:
        OciTransport().validate_policy_scope(scope)
    for scope in ["", "/", "relative", "/a/", "/a/../b", "*.example.com"]:
        with pytest.raises(InvalidInputError):
            OciTransport().validate_policy_scope(scope)


def test_an_image_comes_back_byte_for_byte(layout: Path) -> None:
    got = get(oci(layout, ":v1"))
    assert got.raw == ONE.raw
    assert got.blobs == ONE.blobs
    assert get(oci(layout)).raw == ONE.raw
    assert get(oci(layout, ":@0")).raw == ONE.raw


def test_an_index_comes_back_with_its_members(tmp_path: Path) -> None:
    both = index_of([ONE, THREE])
    put_index(oci(tmp_path / "x", ":multi"), both, [ONE, THREE])
    got = get(oci(tmp_path / "x"))
    assert got.raw == both
    assert got.members == (ONE.raw, THREE.raw)
    assert got.blobs == {**ONE.blobs, **THREE.blobs}
    assert [e["digest"] for e in index_of_layout(tmp_path / "x")["manifests"]] == [str(both.digest)]


def test_several_images_stand_side_by_side_and_share_blobs(layout: Path) -> None:
    how = put(oci(layout, ":v2"), BIGGER)
    assert sorted(how.values()) == ["copied", "copied", "reused", "reused"]
    assert get(oci(layout, ":v1")).raw == ONE.raw
    assert get(oci(layout, ":v2")).raw == BIGGER.raw
    assert [ref for _, ref in oci(layout).images()] == ["v1", "v2"]
    assert [get(reference).raw for reference, _ in oci(layout).images()] == [ONE.raw, BIGGER.raw]


def test_what_is_written_is_a_layout_and_nothing_else(layout: Path) -> None:
    blobs = {f"blobs/sha256/{d.hex}" for d in (*ONE.blobs, ONE.raw.digest)}
    assert files(layout) == {"oci-layout", "index.json", *blobs}
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert index_of_layout(layout) == {
        "schemaVersion": 2,
        "mediaType": mt.OCI_INDEX,
        "manifests": [{**ONE.raw.descriptor.to_json(), "annotations": {REF_NAME: "v1"}}],
    }


def test_a_blob_is_read_from_the_middle(layout: Path) -> None:
    layer = ONE.layers[0]
    with oci(layout).open_source() as source:
        assert read_blob(source, layer, 100) == ONE.blobs[layer.digest][100:]


def test_several_images_without_a_name_must_be_told_apart(layout: Path) -> None:
    put(oci(layout), TWO)
    with pytest.raises(AmbiguousNameError, match=r"@0 'v1', @1 \(no name\)"):
        oci(layout).open_source()
    assert get(oci(layout, ":@1")).raw == TWO.raw


def test_where_there_is_no_layout_no_image_is_found(tmp_path: Path) -> None:
    with pytest.raises(ManifestNotFoundError, match="there is no such directory"):
        oci(tmp_path / "none").open_source()
    with pytest.raises(ManifestNotFoundError, match=r"it has no index\.json"):
        oci(tmp_path).open_source()
    with pytest.raises(ManifestNotFoundError):
        oci(tmp_path / "none").delete()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_blob_is_named_with_its_layout(layout: Path) -> None:
    digest = ONE.layers[0].digest
    (layout / "blobs/sha256" / digest.hex).unlink()
    with oci(layout).open_source() as source, pytest.raises(BlobNotFoundError) as caught:
        source.open_blob(ONE.layers[0])
    assert str(digest) in str(caught.value)
    assert str(layout) in str(caught.value)


def test_a_missing_manifest_shows_when_the_image_is_opened(layout: Path) -> None:
    (layout / "blobs/sha256" / ONE.raw.digest.hex).unlink()
    with pytest.raises(ManifestNotFoundError, match=ONE.raw.digest.hex):
        oci(layout).open_source()


def test_a_manifest_of_other_bytes_or_size_is_refused(layout: Path) -> None:
    path = layout / "blobs/sha256" / ONE.raw.digest.hex
    path.chmod(0o644)
    path.write_bytes(TWO.raw.data)
    with pytest.raises(DigestMismatchError):
        oci(layout).open_source()
    path.write_bytes(ONE.raw.data)
    document = index_of_layout(layout)
    document["manifests"][0]["size"] += 1
    (layout / "index.json").write_text(json.dumps(document))
    with pytest.raises(SizeMismatchError):
        oci(layout).open_source()


def test_a_link_in_the_place_of_a_blob_is_not_followed(layout: Path) -> None:
    path = layout / "blobs/sha256" / ONE.layers[0].digest.hex
    path.rename(layout / "elsewhere")
    path.symlink_to(layout / "elsewhere")
    with oci(layout).open_source() as source, pytest.raises(StoreDamagedError, match="plain file"):
        source.open_blob(ONE.layers[0])


def test_a_huge_index_is_refused_before_it_is_read(layout: Path) -> None:
    os.truncate(layout / "index.json", 1 << 40)
    with pytest.raises(KstoreError, match="limit of 4194304 bytes"):
        oci(layout).open_source()


def test_an_endless_index_is_refused(layout: Path) -> None:
    (layout / "index.json").unlink()
    os.mkfifo(layout / "index.json")
    with pytest.raises(KstoreError, match="not a plain file"):
        oci(layout).open_source()


def test_an_image_of_urls_alone_is_not_fetched_from_them(tmp_path: Path) -> None:
    layer = Descriptor(
        mt.OCI_NONDISTRIBUTABLE, ONE.layers[0].digest, ONE.layers[0].size, urls=("http://[::1]/x",)
    )
    write_oci_layout(tmp_path / "x", {"v1": ONE})
    (tmp_path / "x/blobs/sha256" / layer.digest.hex).unlink()
    with oci(tmp_path / "x").open_source() as source, pytest.raises(BlobNotFoundError):
        source.open_blob(layer)


def test_entries_of_others_survive_a_write(layout: Path) -> None:
    document = index_of_layout(layout)
    document["manifests"][0]["x-mine"] = {"deep": [1, None]}
    document["annotations"] = {"org": "mine"}
    (layout / "index.json").write_text(json.dumps(document))
    put(oci(layout, ":v2"), TWO)
    after = index_of_layout(layout)
    assert after["annotations"] == {"org": "mine"}
    assert after["manifests"][0] == document["manifests"][0]


# Writing


def test_nothing_is_visible_before_the_commit(layout: Path) -> None:
    before = index_of_layout(layout)
    with oci(layout, ":v2").open_destination() as destination:
        send(destination, TWO)
        assert index_of_layout(layout) == before
        destination.commit()
    assert get(oci(layout, ":v2")).raw == TWO.raw


def test_opening_a_destination_makes_nothing(tmp_path: Path) -> None:
    with oci(tmp_path / "new").open_destination() as destination:
        destination.reuse_blobs([hint_of(ONE.layers[0])])
    assert list(tmp_path.iterdir()) == []


def fail_to_put(path: Path, image: TestImage) -> None:
    with doomed(oci(path, ":v9")) as destination:
        send(destination, image)


def test_a_failed_copy_takes_a_new_directory_away_again(tmp_path: Path) -> None:
    fail_to_put(tmp_path / "new", ONE)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    fail_to_put(tmp_path / "empty", ONE)
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_failed_copy_leaves_an_old_layout_as_it_was(layout: Path) -> None:
    before = files(layout)
    fail_to_put(layout, BIGGER)
    assert files(layout) == before
    assert get(oci(layout, ":v1")).blobs == ONE.blobs


def test_a_failed_copy_keeps_blobs_that_were_there_before(layout: Path) -> None:
    for data in (TWO.raw.data, *TWO.blobs.values()):
        (layout / "blobs/sha256" / Digest.of(data).hex).write_bytes(data)
    before = files(layout)
    fail_to_put(layout, TWO)
    assert files(layout) == before


def test_a_failed_copy_keeps_what_somebody_else_uses_by_now(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with doomed(oci(path, ":a")) as destination:
        send(destination, ONE)
        how = put(oci(path, ":b"), ONE)
        assert set(how.values()) == {"reused"}
    assert get(oci(path)).blobs == ONE.blobs


def test_a_failed_copy_takes_nothing_from_a_writer_at_work(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with oci(path, ":b").open_destination() as second:
        with doomed(oci(path, ":a")) as first:
            send(first, ONE)
            send(second, ONE)
        second.commit()
    assert get(oci(path, ":b")).blobs == ONE.blobs


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    image = random_image(5, layers=1, layer_size=3 << 20, compression="none")
    with files_no_larger_than(1 << 20), pytest.raises(StorageError):
        put(oci(tmp_path / "new", ":v1"), image)
    assert list(tmp_path.iterdir()) == []


def test_wrong_bytes_do_not_become_a_blob(layout: Path) -> None:
    before = files(layout)
    layer = TWO.layers[0]
    with oci(layout, ":v2").open_destination() as destination:
        with pytest.raises(DigestMismatchError):
            destination.write_blob(BytesFeed(layer, b"x" * layer.size), hint_of(layer))
        assert files(layout) == before


def test_a_blob_is_read_once_for_all_images_that_share_it(
    layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Digest] = []

    def look(blobs: BlobDirectory, readings: Sequence[Reading], **how: Any) -> Any:
        read.extend(reading.digest for reading in readings)
        return examine(blobs, readings, **how)

    monkeypatch.setattr("kstore.store.examine.examine", look)
    home = OciTransport()
    for number in range(3):
        put(home.parse_reference(f"{layout}:v{number + 2}"), ONE)
    assert sorted(map(str, read)) == sorted(map(str, ONE.blobs))

    path = layout / "blobs/sha256" / ONE.layers[0].digest.hex
    path.chmod(0o644)
    path.write_bytes(b"x" * ONE.layers[0].size)
    assert put(home.parse_reference(f"{layout}:v9"), ONE)[ONE.layers[0].digest] == "copied"


@pytest.mark.parametrize("size", [5, None], ids=["another size", "the right size"])
def test_a_blob_of_other_bytes_is_replaced(layout: Path, size: int | None) -> None:
    layer = ONE.layers[0]
    path = layout / "blobs/sha256" / layer.digest.hex
    path.chmod(0o644)
    path.write_bytes(b"x" * (size or layer.size))
    assert put(oci(layout, ":v2"), ONE)[layer.digest] == "copied"
    assert get(oci(layout, ":v2")).blobs == ONE.blobs


def test_a_position_cannot_be_written_to(layout: Path) -> None:
    with pytest.raises(InvalidReferenceError, match="can only be read"):
        oci(layout, ":@0").open_destination()


def test_a_directory_of_other_things_is_not_made_a_layout(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConflictError, match="holds other files"):
        oci(tmp_path, ":v1").open_destination()
    with pytest.raises(InvalidInputError, match="it is a file"):
        oci(tmp_path / "letter.txt", ":v1").open_destination()
    with pytest.raises(NotFoundError, match="there is no directory"):
        oci(tmp_path / "a" / "b", ":v1").open_destination()
    assert files(tmp_path) == {"letter.txt"}


def test_a_layout_whose_index_is_broken_is_not_written_to(layout: Path) -> None:
    (layout / "index.json").write_text("{")
    with pytest.raises(InvalidManifestError):
        oci(layout, ":v2").open_destination()


def test_the_root_of_a_store_is_read_but_not_written(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        put_image(store, ONE, "x")
    assert get(oci(tmp_path / "store", ":docker.io/library/x:latest")).blobs == ONE.blobs
    before = files(tmp_path / "store")
    with pytest.raises(UnsupportedError) as caught:
        oci(tmp_path / "store", ":v1").open_destination()
    assert "kstore:" in (caught.value.hint or "")
    with pytest.raises(UnsupportedError):
        oci(tmp_path / "store", ":@0").delete()
    assert files(tmp_path / "store") == before


@pytest.mark.unprivileged
def test_a_directory_one_may_not_write_to_is_refused_before_anything_moves(layout: Path) -> None:
    layout.chmod(0o555)
    try:
        with pytest.raises(StorageError, match="no permission"):
            oci(layout, ":v2").open_destination()
    finally:
        layout.chmod(0o755)


# Deleting


def test_deleting_removes_the_entry_and_what_only_it_needed(layout: Path) -> None:
    put(oci(layout, ":v2"), BIGGER)
    put_index(oci(layout, ":multi"), index_of([ONE, THREE]), [ONE, THREE])
    oci(layout, ":v2").delete()
    kept = {*ONE.blobs, *THREE.blobs, ONE.raw.digest, THREE.raw.digest}
    kept.add(index_of([ONE, THREE]).digest)
    assert {f for f in files(layout) if f.startswith("blobs/")} == {
        f"blobs/sha256/{digest.hex}" for digest in kept
    }
    oci(layout, ":v1").delete()
    assert get(oci(layout)).blobs == {**ONE.blobs, **THREE.blobs}
    oci(layout).delete()
    assert files(layout) == {"oci-layout", "index.json"}


def test_deleting_one_of_two_names_keeps_the_image(layout: Path) -> None:
    put(oci(layout, ":v2"), ONE)
    oci(layout, ":v1").delete()
    assert get(oci(layout)).blobs == ONE.blobs
    assert [ref for _, ref in oci(layout).images()] == ["v2"]


def test_deleting_a_name_that_is_not_there_changes_nothing(layout: Path) -> None:
    before = files(layout)
    with pytest.raises(ManifestNotFoundError):
        oci(layout, ":v7").delete()
    assert files(layout) == before


def test_deleting_waits_for_writers(layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci_directory, "_WAIT_SECONDS", 0.05)
    with oci(layout, ":v2").open_destination() as destination:
        destination.reuse_blobs([hint_of(ONE.layers[0])])
        with pytest.raises(StorageError, match="in use by another kstore"):
            oci(layout, ":v1").delete()
        send(destination, ONE)
        destination.commit()
    oci(layout, ":v1").delete()
    assert get(oci(layout, ":v2")).blobs == ONE.blobs


def litter(layout: Path) -> set[str]:
    """What a writer leaves that was killed, and a file that only looks like it."""
    for name in ["blobs/.0123456789abcdef", ".index.json.0123456789ab", "blobs/.mine"]:
        (layout / name).write_text("half")
    return {"blobs/.mine"}


def hidden(layout: Path) -> set[str]:
    return {name for name in files(layout) if name.rpartition("/")[2].startswith(".")}


def test_deleting_sweeps_up_after_writers_that_died(layout: Path) -> None:
    kept = litter(layout)
    oci(layout, ":v1").delete()
    assert hidden(layout) == kept


def test_the_next_writer_sweeps_up_after_writers_that_died(layout: Path) -> None:
    kept = litter(layout)
    put(oci(layout, ":v2"), TWO)
    assert hidden(layout) == kept


def test_files_of_a_writer_at_work_are_not_swept_up(layout: Path) -> None:
    with oci(layout, ":v2").open_destination() as destination:
        send(destination, TWO)
        litter(layout)
        put(oci(layout, ":v3"), THREE)
        assert len(hidden(layout)) == 3
        destination.commit()


# Several processes

_WRITER = """
import sys
from kstore.transports.oci import OciTransport
from tests.support.images import random_image
from tests.support.sessions import put
path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sys.stdin.read(1)
for number in range(first, first + count):
    image = random_image(number % 5, layer_size=100)
    put(OciTransport().parse_reference(f"{path}:tag{number}"), image)
"""


@contextlib.contextmanager
def writers(path: Path, processes: int, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that write ``count`` images each, once they are told to."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), str(number * count), str(count)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
        )
        for number in range(processes)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def test_writers_of_several_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    with writers(path, 4, 8) as processes:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"!")
            process.stdin.flush()
        assert [process.wait(timeout=60) for process in processes] == [0] * 4
    names = {ref for _, ref in oci(path).images()}
    assert names == {f"tag{n}" for n in range(32)}
    for number in range(32):
        image = random_image(number % 5, layer_size=100)
        assert get(oci(path, f":tag{number}")).blobs == image.blobs
    assert hidden(path) == set()
