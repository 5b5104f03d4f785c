"""Synchronising: which images, under which names, and only those that are not there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kstore.app import App, RegistryOptions
from kstore.copier import CopyOptions
from kstore.copier.progress import Event
from kstore.errors import (
    CancelledError,
    ConflictError,
    ImageNotFoundError,
    IntegrityError,
    InvalidInputError,
    InvalidReferenceError,
    KstoreError,
    NotFoundError,
    UnsupportedError,
)
from kstore.operations.sync import Synced, SyncOptions, sync_images
from kstore.operations.tag_filters import TagFilter
from kstore.platforms import Platform, host_platform
from kstore.settings import load
from kstore.store import Store
from kstore.streams import Cancel
from kstore.transports import Transports
from tests.support.faultserver import FaultServer
from tests.support.images import TestImage, index_of, random_image, write_oci_layout
from tests.support.stores import listing, named, put_image

ONE, TWO, THREE = random_image(1), random_image(2, docker=True), random_image(3)
HERE = random_image(4, platform=host_platform())
ELSEWHERE = random_image(5, platform=Platform("linux", "s390x"))
INDEX = index_of([HERE, ELSEWHERE])
WHOLE = CopyOptions(instances="all")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        for tag, image in (("1.0.0", ONE), ("1.1.0", TWO), ("latest", THREE)):
            offer(server, image, tag)
        yield server


def offer(server: FaultServer, image: TestImage, tag: str | None) -> None:
    for data in image.blobs.values():
        server.add_blob(data, "team/app")
    server.add_manifest(image.raw.data, image.raw.media_type, "team/app", tag)


def offer_index(server: FaultServer, tag: str) -> None:
    for member in (HERE, ELSEWHERE):
        offer(server, member, None)
    server.add_manifest(INDEX.data, INDEX.media_type, "team/app", tag)


def sync(
    root: Path, source: str, destination: str, *, cancel: Cancel | None = None, **options: Any
) -> list[Synced]:
    app = App(load({}, root=root))

    @contextlib.contextmanager
    def opened() -> Iterator[tuple[Transports, Transports]]:
        with contextlib.ExitStack() as stack:

            def open_store() -> Store:
                read_only = bool(options.get("dry_run"))
                return stack.enter_context(app.open_store("sync", read_only=read_only))

            made = app.transports(open_store, RegistryOptions(tls_verify=False), cancel)
            stack.enter_context(made)
            yield made, made

    return list(sync_images(opened, source, destination, SyncOptions(**options), cancel=cancel))


def states(results: list[Synced]) -> list[tuple[str, str]]:
    return [(result.destination, result.status) for result in results]


def statuses(results: list[Synced]) -> list[str]:
    return [result.status for result in results]


def blobs_moved(server: FaultServer) -> int:
    return len(server.seen("GET", "/blobs/")) + len(server.seen("POST", "/blobs/uploads"))


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_repository_is_brought_with_all_its_tags_and_a_second_run_moves_nothing(
    root: Path, server: FaultServer, parallel: int
) -> None:
    source, place = f"docker://{server.host}/team/app", "kstore:mirror.example/x"
    names = [f"{place}/app:{tag}" for tag in ("1.0.0", "1.1.0", "latest")]
    first = sync(root, source, place, parallel=parallel)
    assert states(first) == [(name, "copied") for name in names]
    assert [r.digest for r in first] == [i.raw.digest for i in (ONE, TWO, THREE)]
    moved = blobs_moved(server)
    assert moved > 0
    assert states(sync(root, source, place)) == [(name, "unchanged") for name in names]
    assert blobs_moved(server) == moved


def test_only_a_tag_that_changed_is_copied_again(root: Path, server: FaultServer) -> None:
    source, place = f"docker://{server.host}/team/app", "kstore:x.example/x"
    sync(root, source, place)
    offer(server, random_image(9), "latest")
    assert statuses(sync(root, source, place)) == ["unchanged", "unchanged", "copied"]


def test_only_wanted_tags_are_brought(root: Path, server: FaultServer) -> None:
    results = sync(
        root, f"docker://{server.host}/team/app", "kstore:", tags=TagFilter(versions=["^1.1"])
    )
    assert states(results) == [(f"kstore:{server.host}/team/app:1.1.0", "copied")]


def test_no_wanted_tag_is_an_error(root: Path, server: FaultServer) -> None:
    with pytest.raises(ImageNotFoundError, match="wanted"):
        sync(root, f"docker://{server.host}/team/app", "kstore:", tags=TagFilter(globs=["9*"]))


def test_one_image_may_be_named(root: Path, server: FaultServer) -> None:
    tagged = sync(root, f"docker://{server.host}/team/app:latest", "kstore:")
    assert states(tagged) == [(f"kstore:{server.host}/team/app:latest", "copied")]
    by_digest = sync(root, f"docker://{server.host}/team/app@{ONE.raw.digest}", "kstore:")
    name = f"{server.host}/team/app@{ONE.raw.digest}"
    assert states(by_digest) == [(f"kstore:{name}", "copied")]


def test_images_go_out_to_a_registry_and_are_not_sent_twice(
    root: Path, server: FaultServer
) -> None:
    with Store.open(root) as store:
        put_image(store, ONE, "quay.io/me/tool:1", "quay.io/me/tool:2")
    place = f"docker://{server.host}/mirror"
    results = sync(root, "kstore:quay.io/me/tool", place, suffix="-x")
    assert states(results) == [(f"{place}/tool:{n}-x", "copied") for n in (1, 2)]
    uploads = len(server.seen("POST", "/blobs/uploads"))
    again = sync(root, "kstore:quay.io/me/tool", place, suffix="-x")
    assert statuses(again) == ["unchanged", "unchanged"]
    assert len(server.seen("POST", "/blobs/uploads")) == uploads
    assert not server.seen("GET", "/blobs/")


def test_the_whole_store_goes_to_a_layout_and_comes_back(root: Path, tmp_path: Path) -> None:
    with Store.open(root) as store:
        put_image(store, ONE, "quay.io/me/tool:1", "app:1")
        put_image(store, THREE, "app:2")
    layout = f"oci:{tmp_path}/layout"
    with pytest.raises(UnsupportedError):
        sync(root, f"oci-archive:{tmp_path}/x", layout)
    assert statuses(sync(root, "kstore:", layout, scoped=True, parallel=3)) == ["copied"] * 3
    other = tmp_path / "other"
    assert statuses(sync(other, layout, "kstore:", parallel=3)) == ["copied"] * 3
    with Store.open(root) as one, Store.open(other) as two:
        assert [record.name for record in one.names()] == [record.name for record in two.names()]
    assert statuses(sync(other, layout, "kstore:")) == ["unchanged"] * 3


def test_what_had_to_be_converted_is_unchanged_when_it_would_be_the_same_again(
    root: Path, tmp_path: Path
) -> None:
    with Store.open(root) as store:
        put_image(store, TWO, "app:1")  # of docker's kind, which layouts do not hold
    place = f"oci:{tmp_path}/layout"
    [first], [second] = (sync(root, "kstore:app", place) for _ in range(2))
    assert (first.status, second.status) == ("copied", "unchanged")
    assert first.digest == second.digest != TWO.raw.digest


def test_directories_are_written_and_read_below_a_place_that_need_not_exist(
    root: Path, tmp_path: Path, server: FaultServer
) -> None:
    place = f"dir:{tmp_path}/a/b"
    results = sync(root, f"docker://{server.host}/team/app", place)
    assert states(results)[0] == (f"{place}/app:1.0.0", "copied")
    assert statuses(sync(root, f"docker://{server.host}/team/app", place)) == ["unchanged"] * 3
    assert not root.exists()  # what does not go through the store makes none
    back = sync(root, place, "kstore:mirror.example/y")
    assert states(back)[2] == ("kstore:mirror.example/y/app:latest", "copied")
    with Store.open(root) as store:
        assert store.find_image("mirror.example/y/app:1.1.0").manifest == TWO.raw.digest


def test_a_directory_that_holds_one_image_is_one_image(root: Path, tmp_path: Path) -> None:
    with Store.open(root) as store:
        put_image(store, ONE, "app:1")
    sync(root, "kstore:app", f"dir:{tmp_path}/disk")
    results = sync(root, f"dir:{tmp_path}/disk/app:1", "kstore:mirror.example/z")
    assert states(results) == [("kstore:mirror.example/z/app:1", "copied")]


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("1.2", "kstore:localhost/layout:1.2"),
        ("tool:3", "kstore:localhost/tool:3"),
        ("quay.io/me/tool:3", "kstore:quay.io/me/tool:3"),
        ("Not/A/Name", f"kstore:localhost/layout@{ONE.raw.digest}"),
    ],
)
def test_images_of_a_layout_are_called_by_what_it_says(
    root: Path, tmp_path: Path, ref: str, name: str
) -> None:
    write_oci_layout(tmp_path / "layout", {ref: ONE})
    assert states(sync(root, f"oci:{tmp_path}/layout", "kstore:")) == [(name, "copied")]


def test_indexes_are_brought_whole_or_as_the_image_for_this_machine(
    root: Path, server: FaultServer
) -> None:
    offer_index(server, "multi")
    source, place = f"docker://{server.host}/team/app:multi", "kstore:"
    local = named(f"{server.host}/team/app:multi")
    for copying, digest in ((CopyOptions(), HERE.raw.digest), (WHOLE, INDEX.digest)):
        [first], [second] = (sync(root, source, place, copying=copying) for _ in range(2))
        assert (first.status, second.status, first.digest) == ("copied", "unchanged", digest)
        with Store.open(root) as store:
            record = store.name(local)
            assert record is not None
            assert record.target == digest


def test_a_dry_run_says_what_would_be_done_and_touches_nothing(
    root: Path, tmp_path: Path, server: FaultServer
) -> None:
    source = f"docker://{server.host}/team/app"
    for place in ("kstore:", f"oci:{tmp_path}/layout", f"dir:{tmp_path}/disk"):
        results = sync(root, source, place, dry_run=True)
        assert statuses(results) == ["pending"] * 3
        assert results[0].digest == ONE.raw.digest
    assert listing(tmp_path) == []
    assert blobs_moved(server) == 0
    sync(root, f"{source}:1.0.0", "kstore:")
    assert statuses(sync(root, source, "kstore:", dry_run=True)) == [
        "unchanged",
        "pending",
        "pending",
    ]


def test_a_failure_is_the_last_result(root: Path, server: FaultServer) -> None:
    server.add_manifest(b"{}", ONE.raw.media_type, "team/app", "1.1.0")
    results = sync(root, f"docker://{server.host}/team/app", "kstore:", parallel=1)
    assert statuses(results) == ["copied", "failed"]
    assert isinstance(results[1].error, IntegrityError)
    assert results[1].digest is None


@pytest.mark.parametrize("parallel", [1, 3])
def test_who_keeps_going_gets_all_that_can_be_had(
    root: Path, server: FaultServer, parallel: int
) -> None:
    server.add_manifest(b"{}", ONE.raw.media_type, "team/app", "1.1.0")
    source = f"docker://{server.host}/team/app"
    results = sync(root, source, "kstore:", parallel=parallel, keep_going=True)
    assert statuses(results) == ["copied", "failed", "copied"]


def test_a_failed_image_leaves_no_directory_behind(
    root: Path, tmp_path: Path, server: FaultServer
) -> None:
    server.add_manifest(b"{}", ONE.raw.media_type, "team/app", "bad")
    [result] = sync(root, f"docker://{server.host}/team/app:bad", f"dir:{tmp_path}/a/b")
    assert result.status == "failed"
    assert listing(tmp_path) == []


def test_two_images_that_would_get_one_name_are_refused_before_anything_moves(
    root: Path, tmp_path: Path
) -> None:
    with Store.open(root) as store:
        put_image(store, ONE, "quay.io/me/app:1")
        put_image(store, TWO, "quay.io/you/app:1")
    place = f"oci:{tmp_path}/layout"
    with pytest.raises(ConflictError, match="would both become") as caught:
        sync(root, "kstore:", place)
    assert "--scoped" in (caught.value.hint or "")
    assert not (tmp_path / "layout").exists()
    assert statuses(sync(root, "kstore:", place, scoped=True)) == ["copied", "copied"]


def test_a_stop_ends_all_of_it(root: Path, server: FaultServer) -> None:
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(CancelledError):
        sync(root, f"docker://{server.host}/team/app", "kstore:", cancel=cancel, parallel=3)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("image-")]


def test_a_stop_in_the_middle_ends_what_is_on_its_way(root: Path, server: FaultServer) -> None:
    cancel = Cancel()

    def stop(event: Event) -> None:
        if event.kind == "start":
            cancel.cancel()

    app = App(load({}, root=root))

    @contextlib.contextmanager
    def opened() -> Iterator[tuple[Transports, Transports]]:
        with (
            app.open_store("sync") as store,
            app.transports(store, RegistryOptions(tls_verify=False), cancel) as made,
        ):
            yield made, made

    with pytest.raises(CancelledError):
        list(
            sync_images(
                opened,
                f"docker://{server.host}/team/app",
                "kstore:",
                progress=stop,
                cancel=cancel,
            )
        )
    with Store.open(root) as store:
        assert store.names() == []


@pytest.mark.parametrize(
    ("source", "place", "error"),
    [
        ("busybox", "kstore:", InvalidReferenceError),
        ("docker:busybox", "kstore:", InvalidReferenceError),
        ("tarball:x.tar", "kstore:", UnsupportedError),
        ("kstore:none", "oci:x", NotFoundError),
        ("oci:none", "kstore:", NotFoundError),
        ("dir:none", "kstore:", NotFoundError),
        ("kstore:app", "docker://", InvalidInputError),
        ("kstore:app", "oci:", InvalidInputError),
        ("kstore:app", "oci:layout:v1", InvalidInputError),
        ("kstore:app", "docker-archive:x.tar", UnsupportedError),
        ("kstore:app", "somewhere", UnsupportedError),
    ],
)
def test_what_cannot_be_meant_is_refused(
    root: Path, source: str, place: str, error: type[KstoreError]
) -> None:
    with Store.open(root) as store:
        put_image(store, ONE, "app:1")
    with pytest.raises(error):
        sync(root, source, place)


def test_an_empty_directory_holds_nothing_to_bring(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with pytest.raises(NotFoundError, match="no image"):
        sync(root, f"dir:{tmp_path}/disk", "kstore:")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"
