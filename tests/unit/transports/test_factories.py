"""The list of transports: which texts begin with one, and what each of them parses."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstore.errors import InvalidReferenceError, KstoreError, UnsupportedError
from kstore.registry import RegistryClient
from kstore.store import Store
from kstore.streams import Cancel
from kstore.transports import FACTORIES, Transports, TransportSettings, split_transport

FILES = {
    "dir": "some/where",
    "oci": "some/where:v1",
    "oci-archive": "some/file.tar:v1",
    "tarball": "one.tar:two.tar",
}


def no_store() -> Store:
    raise AssertionError("no store is needed")


def no_client(host: str) -> RegistryClient:
    raise AssertionError("no registry is needed")


@pytest.fixture
def transports() -> Transports:
    return Transports(TransportSettings(no_store, no_client, Cancel()))


@pytest.mark.parametrize(("name", "rest"), FILES.items())
def test_references_to_files_come_back_out_of_their_text(
    transports: Transports, name: str, rest: str
) -> None:
    reference = transports.parse(f"{name}:{rest}")
    assert (reference.transport, reference.within_transport) == (name, rest)
    assert transports.get(name).name == name
    assert transports.parse(f"{name}:{rest}") == reference


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("call", ["open_source", "open_destination", "delete"])
def test_a_path_no_system_can_open_is_an_ordinary_error(
    transports: Transports, tmp_path: Path, name: str, call: str
) -> None:
    reference = transports.parse(f"{name}:{tmp_path}/{'x' * 300}")
    with pytest.raises(KstoreError):
        getattr(reference, call)()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.unprivileged
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("call", ["open_source", "open_destination", "delete"])
def test_a_place_one_may_not_look_at_is_an_ordinary_error(
    transports: Transports, tmp_path: Path, name: str, call: str
) -> None:
    shut = tmp_path / "shut"
    shut.mkdir()
    (shut / "x").mkdir()
    shut.chmod(0)
    try:
        with pytest.raises(KstoreError):
            getattr(transports.parse(f"{name}:{shut}/x"), call)()
    finally:
        shut.chmod(0o700)


@pytest.mark.parametrize("name", FACTORIES)
def test_a_text_that_begins_with_a_transport_is_split(name: str) -> None:
    assert split_transport(f"{name}://x") == (name, "//x")
    assert split_transport(name) is None


@pytest.mark.parametrize("text", ["docker:24", "host:5000/image", "image:tag", "image", "ocis:x"])
def test_a_name_is_not_taken_for_a_transport(text: str) -> None:
    assert split_transport(text) is None


def test_a_transport_that_is_unknown_or_not_there_yet_says_so(transports: Transports) -> None:
    with pytest.raises(InvalidReferenceError, match="known: .*oci"):
        transports.parse("nothing://x")
    with pytest.raises(UnsupportedError, match="containers-storage") as caught:
        transports.parse("containers-storage:x")
    assert "podman save IMAGE | kstore load" in (caught.value.hint or "")
