"""Copying between any two places: what is refused, what is tried again."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstore.copier import CopyOptions
from kstore.copier.progress import Event
from kstore.errors import (
    AuthError,
    CancelledError,
    IntegrityError,
    InvalidInputError,
    InvalidReferenceError,
    NotFoundError,
    RemoteError,
)
from kstore.mediatypes import DOCKER_MANIFEST
from kstore.operations.copy import copy, parse_end, retrying
from kstore.store import Store
from kstore.transports import Transports
from tests.support.images import random_image, write_oci_layout
from tests.support.stores import put_image
from tests.support.transfers import Waits

ONE = random_image(1)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    write_oci_layout(tmp_path / "layout", {"v1": ONE})
    return tmp_path / "layout"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("docker:busybox", "docker://busybox"),
        ("docker:/quay.io/a/b", "docker://quay.io/a/b"),
        ("Docker:24", "docker://24"),
        ("busybox", "docker://busybox for a registry's, kstore:busybox for the store's"),
        ("oci://layout", "oci:layout"),
        ("oic:layout:v1", "did you mean oci:layout:v1?"),
        ("docker-achive:app.tar", "did you mean docker-archive:app.tar?"),
        ("kstore://busybox", "kstore:busybox"),
        ("https://quay.io/a/b/", "docker://quay.io/a/b"),
    ],
)
def test_what_newcomers_write_is_refused_with_the_right_form(
    transports: Transports, text: str, hint: str
) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        parse_end(transports, text)
    assert caught.value.hint == hint


@pytest.mark.parametrize("text", ["-", "./image", "image.tar", "save/app.tgz", "app:1.tar.gz"])
def test_a_bare_path_is_told_what_it_may_be(transports: Transports, text: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        parse_end(transports, text)
    assert "docker-archive:PATH" in (caught.value.hint or "")


def test_swapped_arguments_are_noticed(tmp_path: Path, transports: Transports) -> None:
    source = parse_end(transports, f"oci:{tmp_path}/none")
    with pytest.raises(NotFoundError) as caught:
        copy(source, parse_end(transports, "docker://localhost:1/app"))
    assert caught.value.hint == "the source comes first: kstore copy SOURCE DESTINATION"


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("docker://busybox", "docker://docker.io/library/busybox:latest"),
        ("kstore:busybox", "storage:docker.io/library/busybox"),
        ("oci:{0}:v1", "oci:{0}/../layout:v1"),
        ("dir:{0}", "dir:{0}/"),
    ],
)
def test_copying_an_image_onto_itself_is_a_mistake(
    layout: Path, transports: Transports, source: str, destination: str
) -> None:
    ends = [parse_end(transports, text.format(layout)) for text in (source, destination)]
    with pytest.raises(InvalidInputError, match="the same image"):
        copy(*ends)


def test_an_image_may_be_converted_where_it_is(store: Store, transports: Transports) -> None:
    put_image(store, ONE, "app:1")
    end = parse_end(transports, "kstore:app:1")
    result = copy(end, end, CopyOptions(manifest_type=DOCKER_MANIFEST))
    assert result.raw.media_type == DOCKER_MANIFEST
    assert store.find_image("app:1").manifest == result.raw.digest


def test_another_image_of_the_same_layout_is_another_image(
    layout: Path, transports: Transports
) -> None:
    ends = [parse_end(transports, f"oci:{layout}:{ref}") for ref in ("v1", "v2")]
    assert copy(*ends).raw.data == ONE.raw.data


class Attempts:
    """Fails with each of ``errors`` in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0

    def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


LOST = RemoteError("connection lost")


def test_failures_of_the_network_are_tried_again_with_growing_pauses() -> None:
    attempts, waits, events = Attempts(LOST, LOST, LOST), Waits(), list[Event]()
    assert retrying(attempts, 3, progress=events.append, cancel=waits) == "done"
    assert waits.seconds == [1.0, 2.0, 4.0]
    assert events[0].text == "connection lost; trying again in 1 s"


def test_the_last_failure_is_the_answer() -> None:
    attempts = Attempts(LOST, LOST, LOST)
    with pytest.raises(RemoteError):
        retrying(attempts, 1, cancel=Waits())
    assert attempts.made == 2


@pytest.mark.parametrize(
    "error",
    [AuthError("no"), IntegrityError("bad"), NotFoundError("none"), RemoteError("no", status=400)],
)
def test_what_would_fail_again_is_not_tried_again(error: Exception) -> None:
    attempts = Attempts(error)
    with pytest.raises(type(error)):
        retrying(attempts, 5, cancel=Waits())
    assert attempts.made == 1


def test_an_answer_that_asks_to_come_back_is_tried_again() -> None:
    busy = RemoteError("busy", status=503, retryable=True)
    assert retrying(Attempts(busy), 1, cancel=Waits()) == "done"


def test_nobody_waits_after_the_user_said_stop() -> None:
    cancel = Waits()
    cancel.cancel()
    attempts = Attempts(LOST)
    with pytest.raises(CancelledError):
        retrying(attempts, 5, cancel=cancel)
    assert attempts.made == 1
