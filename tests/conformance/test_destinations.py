"""What is promised of every destination (``kstore.interfaces.ImageDestination``)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.copier import CopyOptions, copy_image
from kstore.descriptor import Descriptor
from kstore.digest import Digest, Hasher
from kstore.errors import (
    CancelledError,
    ConflictError,
    DigestMismatchError,
    IntegrityError,
    KstoreError,
    RemoteError,
    SizeMismatchError,
    StorageError,
)
from kstore.interfaces import ImageDestination, ImageReference
from kstore.manifest import parse_image
from kstore.signing.policy import AcceptAnything
from kstore.streams import Cancel
from tests.conformance.images import IMAGES, make_image
from tests.conformance.transports import PLACES, Place
from tests.support.disks import files_no_larger_than, mounted
from tests.support.images import TestImage
from tests.support.memory import Memory
from tests.support.scripts import finished
from tests.support.sessions import BytesFeed, doomed, get, hint_of, put, send

WRITTEN = [name for name, place in PLACES.items() if place.written]
EVERY = pytest.mark.parametrize("transport", WRITTEN)
OCI = IMAGES["OCI, gzip"]
OTHER = make_image(mt.OCI_MANIFEST, "none", size=900)


class OopsError(Exception):
    """Something that nobody expects."""


class BrokenFeed(BytesFeed):
    """Gives half of the bytes, and then an error."""

    def __init__(self, blob: Descriptor, data: bytes, error: Exception) -> None:
        super().__init__(blob, data)
        self._left = blob.size // 2
        self._error = error

    def readinto(self, buffer: memoryview, /) -> int:
        if not self._left:
            raise self._error
        count = super().readinto(buffer[: self._left])
        self._left -= count
        return count


class UnwantedFeed(BytesFeed):
    """Must not be read: the destination has the blob."""

    def start(
        self, offset: int = 0, prefix: Hasher | None = None, validator: str | None = None
    ) -> int:
        raise AssertionError("the blob was there already")


@contextlib.contextmanager
def nothing_changes(place: Place) -> Iterator[None]:
    """Whatever happens inside, nobody sees anything of it afterwards."""
    before, there = place.visible(), place.is_there()
    yield
    assert place.visible() == before
    assert place.is_there() == there


def write_blobs(destination: ImageDestination, image: TestImage) -> dict[str, str]:
    """Bring all blobs the destination does not have; how each came."""
    how = {}
    for blob in parse_image(image.raw).blobs:
        (present,) = destination.reuse_blobs([hint_of(blob)])
        if not present:
            feed = BytesFeed(blob, image.blobs[blob.digest])
            how[str(blob.digest)] = destination.write_blob(feed, hint_of(blob)).how
    return how


def config_of(reference: ImageReference) -> Digest:
    """The config's digest, which is the image's identity whatever becomes of its manifest."""
    return parse_image(get(reference).raw).config.digest


# --- an image arrives ---------------------------------------------------------------------------


@EVERY
def test_an_image_is_there_after_the_commit_and_not_before(place: Place, transport: str) -> None:
    with place.reference.open_destination() as destination:
        assert destination.reference == place.reference
        send(destination, OCI)
        if place.replaced:  # an archive cannot be looked into while it is written
            assert not place.is_there()
        destination.commit()
    got = get(place.reference)
    if place.manifests:
        assert (got.raw, got.blobs) == (OCI.raw, OCI.blobs)
    assert config_of(place.reference) == parse_image(OCI.raw).config.digest


@EVERY
def test_opening_a_session_and_leaving_it_changes_nothing(place: Place, transport: str) -> None:
    with nothing_changes(place), place.reference.open_destination():
        pass


@EVERY
def test_a_blob_is_taken_once_in_a_session(place: Place, transport: str) -> None:
    blobs = parse_image(OCI.raw).blobs
    with place.reference.open_destination() as destination:
        first = write_blobs(destination, OCI)
        assert set(first.values()) == {"copied"}
        destination.settle()
        there = destination.reuse_blobs([hint_of(blob) for blob in blobs])
        for blob, present in zip(blobs, there, strict=True):
            if not present:
                feed = UnwantedFeed(blob, OCI.blobs[blob.digest])
                assert destination.write_blob(feed, hint_of(blob)).how == "present"


@pytest.mark.parametrize("transport", [name for name in WRITTEN if PLACES[name].blobs])
def test_blobs_of_an_earlier_image_are_found_again(place: Place, transport: str) -> None:
    put(place.reference, OCI)
    how = put(place.named_reference("team/app:2"), OCI)
    assert set(how.values()) <= {"reused", "present"}


@pytest.mark.parametrize("transport", [name for name in WRITTEN if PLACES[name].named])
def test_a_name_does_not_touch_its_neighbour(place: Place, transport: str) -> None:
    put(place.reference, OCI)
    held = get(place.reference)
    other = place.named_reference("team/other:2")
    if place.replaced:
        put(other, OTHER)
        assert config_of(other) == parse_image(OTHER.raw).config.digest
    else:
        with pytest.raises(ConflictError, match="exists already"):
            other.open_destination()
    assert get(place.reference) == held


@EVERY
def test_a_second_image_replaces_the_first_or_is_refused(place: Place, transport: str) -> None:
    put(place.reference, OCI)
    if not place.replaced:
        with nothing_changes(place), pytest.raises(ConflictError, match="exists already"):
            place.reference.open_destination()
        return
    put(place.reference, OTHER)
    assert config_of(place.reference) == parse_image(OTHER.raw).config.digest


# --- an image does not arrive -------------------------------------------------------------------


@EVERY
def test_an_image_without_a_commit_was_never_there(place: Place, transport: str) -> None:
    with nothing_changes(place), place.reference.open_destination() as destination:
        send(destination, OCI)


@EVERY
def test_a_session_that_fails_at_its_end_leaves_nothing(place: Place, transport: str) -> None:
    with nothing_changes(place), doomed(place.reference) as destination:
        send(destination, OCI)


@EVERY
@pytest.mark.parametrize("error", [OopsError("oops"), CancelledError("stop")], ids=["bug", "stop"])
def test_an_error_in_the_middle_of_the_second_blob_leaves_nothing(
    place: Place, transport: str, error: Exception
) -> None:
    first, second = dict.fromkeys(parse_image(OCI.raw).layers)
    broken = BrokenFeed(second, OCI.blobs[second.digest], error)

    def fail() -> None:
        with place.reference.open_destination() as destination:
            destination.write_blob(BytesFeed(first, OCI.blobs[first.digest]), hint_of(first))
            destination.write_blob(broken, hint_of(second))

    with nothing_changes(place), pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error
    put(place.reference, OCI)
    assert place.is_there()


@EVERY
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), DigestMismatchError),
        (lambda data: data[:-1], SizeMismatchError),
        (lambda data: data + b"x", SizeMismatchError),
        (lambda data: b"", SizeMismatchError),
    ],
    ids=["other bytes", "too short", "too long", "empty"],
)
def test_wrong_bytes_never_become_a_blob(
    place: Place, transport: str, wrong, error: type[IntegrityError]
) -> None:
    blob = parse_image(OCI.raw).layers[0]
    data = OCI.blobs[blob.digest]
    with nothing_changes(place):
        with pytest.raises(error), place.reference.open_destination() as destination:
            destination.write_blob(BytesFeed(blob, wrong(data)), hint_of(blob))
        with place.reference.open_destination() as destination:
            assert destination.reuse_blobs([hint_of(blob)]) == [False]
            assert destination.write_blob(BytesFeed(blob, data), hint_of(blob)).how == "copied"


#: Files in directories: nothing looks at them again, the copier's order is what keeps them whole.
TRUSTING = {"dir", "oci"}


@pytest.mark.parametrize("transport", [name for name in WRITTEN if name not in TRUSTING])
def test_an_image_with_a_failed_blob_cannot_be_committed(place: Place, transport: str) -> None:
    base, *others = dict.fromkeys(parse_image(OCI.raw).blobs)

    def fail() -> None:
        with place.reference.open_destination() as destination:
            for blob in others:
                destination.write_blob(BytesFeed(blob, OCI.blobs[blob.digest]), hint_of(blob))
            with contextlib.suppress(SizeMismatchError):
                destination.write_blob(BytesFeed(base, b"short"), hint_of(base))
            destination.settle()
            destination.write_manifest(OCI.raw)
            destination.commit()

    with nothing_changes(place), pytest.raises(KstoreError):
        fail()


@pytest.mark.parametrize("transport", [name for name in WRITTEN if PLACES[name].replaced])
def test_a_failed_write_leaves_the_old_image_whole(place: Place, transport: str) -> None:
    put(place.reference, OCI)
    held = get(place.reference)
    with nothing_changes(place), doomed(place.reference) as destination:
        send(destination, OTHER)
    assert get(place.reference) == held


@EVERY
@pytest.mark.parametrize("parallel", [1, 6])
def test_a_cancelled_copy_leaves_nothing(place: Place, transport: str, parallel: int) -> None:
    memory, cancel = Memory({"app": OCI}), Cancel()

    def stop(digest: object) -> None:
        if len(memory.asked("open_blob")) >= 2:
            cancel.cancel()

    memory.before_blob = stop
    with nothing_changes(place), pytest.raises(CancelledError):
        copy_image(
            memory.reference("app"),
            place.reference,
            AcceptAnything(),
            CopyOptions(parallel=parallel),
            cancel=cancel,
        )
    memory.before_blob = lambda digest: None
    copy_image(memory.reference("app"), place.reference, AcceptAnything())
    assert place.is_there()


@EVERY
def test_a_copy_whose_source_lies_leaves_nothing(place: Place, transport: str) -> None:
    memory = Memory({"app": OCI})
    memory.lies[OCI.layers[1].digest] = b"x" * OCI.layers[1].size
    with nothing_changes(place), pytest.raises(DigestMismatchError):
        copy_image(memory.reference("app"), place.reference, AcceptAnything())


#: What goes to a daemon is on its own disk.
ON_DISK = [name for name in WRITTEN if name != "docker-daemon"]


@pytest.mark.parametrize("transport", ON_DISK)
def test_a_file_that_cannot_grow_leaves_nothing(place: Place, transport: str) -> None:
    memory = Memory({"app": make_image(mt.OCI_MANIFEST, "none", size=3 << 20)})
    with (
        nothing_changes(place),
        files_no_larger_than(2 << 20),
        pytest.raises((StorageError, RemoteError)),
    ):
        copy_image(memory.reference("app"), place.reference, AcceptAnything())
    copy_image(memory.reference("app"), place.reference, AcceptAnything())
    assert place.is_there()


FULL = """
    import sys
    from pathlib import Path
    import pytest
    from kstore import mediatypes as mt
    from kstore.copier import copy_image
    from kstore.errors import StorageFullError
    from kstore.signing.policy import AcceptAnything
    from tests.conformance.images import make_image
    from tests.conformance.transports import PLACES
    from tests.support.memory import Memory

    big = Memory({"app": make_image(mt.OCI_MANIFEST, "none", size=3 << 20)})
    small = Memory({"app": make_image(mt.OCI_MANIFEST, "none")})
    for name in sys.argv[2:]:
        with PLACES[name](Path(sys.argv[1]) / name) as place:
            before = place.visible()
            with pytest.raises(StorageFullError):
                copy_image(big.reference("app"), place.reference, AcceptAnything())
            assert place.visible() == before, name
            copy_image(small.reference("app"), place.reference, AcceptAnything())
            assert place.is_there(), name
    print("done")
"""


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """The store's full disk is looked at where its reserve is (``tests/faults``)."""
    disk = tmp_path / "disk"
    disk.mkdir()
    names = [name for name in ON_DISK if name not in {"kstore", "docker"}]
    prefix = mounted("-t", "tmpfs", "-osize=5m", "disk", str(disk))
    assert finished(FULL, str(disk), *names, prefix=prefix) == "done"
