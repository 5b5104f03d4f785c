"""A large layer comes in pieces over several connections, and the pieces may be of two versions."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kstore.copier import CopyOptions, copy_image
from kstore.errors import DigestMismatchError
from kstore.interfaces import ImageReference
from kstore.registry import RegistryClient, RegistrySettings
from kstore.registry import wide as wide_module
from kstore.signing.policy import AcceptAnything
from kstore.transports.docker import DockerTransport
from kstore.transports.docker_archive import DockerArchiveTransport
from kstore.transports.oci_archive import OciArchiveTransport
from tests.conformance.transports import PLACES, Place
from tests.support.faultserver import Fault, FaultServer
from tests.support.images import TestImage, random_image
from tests.support.sessions import get

PIECE = 16 * 1024
PATH = "team/app"
#: Every connection counts as slow from its first byte on.
SLOW = RegistrySettings(
    tls_verify=False, attempts=2, backoff_base=0.01, slow_after=0.0, slow_speed=1 << 60
)
#: Destinations that can begin a blob again; a daemon is sent a stream, and gives no bytes back.
AGAIN = ["kstore", "oci", "dir", "docker", "oci-archive", "docker-archive"]
CHANGES = [{}, {"compression": "zstd"}]


@dataclass
class Mirrors:
    """A registry with one image, behind whose name stand mirrors that may disagree."""

    server: FaultServer
    image: TestImage
    source: ImageReference

    @property
    def layer(self) -> str:
        return str(self.image.layers[0].digest)

    def disagree(self, pieces: int) -> None:
        """Let the ``pieces`` that are asked for first be wrong, but no whole layer."""

        def begin() -> None:
            self.server.fault(Fault(corrupt=True), "GET", self.layer, times=pieces)

        self.server.fault(Fault(act=begin), "GET", self.layer)

    @property
    def requests(self) -> list[str]:
        """How the layer was asked for: whole, or in pieces."""
        asked = self.server.seen("GET", self.layer)
        return ["piece" if "range" in request.headers else "whole" for request in asked]


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrors]:
    monkeypatch.setattr(wide_module, "PIECE", PIECE)
    monkeypatch.setattr(wide_module, "WORTHWHILE", 5 * PIECE)
    monkeypatch.setattr("kstore.registry.client.WORTHWHILE", 5 * PIECE)
    image = random_image(1, layers=1, layer_size=20 * PIECE, compression="none")
    with FaultServer() as server, RegistryClient(server.host, SLOW) as client:
        for data in image.blobs.values():
            server.add_blob(data, PATH)
        server.add_manifest(image.raw.data, image.raw.media_type, PATH, "v1")
        source = DockerTransport(lambda host: client).parse_reference(f"//{server.host}/{PATH}:v1")
        yield Mirrors(server, image, source)


@pytest.fixture
def place(tmp_path: Path, transport: str) -> Iterator[Place]:
    with PLACES[transport](tmp_path) as place:
        yield place


def copy(mirrors: Mirrors, place: Place, **wishes: object) -> None:
    options = CopyOptions(**wishes)  # type: ignore[arg-type]
    copy_image(mirrors.source, place.reference, AcceptAnything(), options)


@pytest.mark.parametrize("transport", AGAIN)
def test_pieces_that_agree_are_fetched_once(mirrors: Mirrors, place: Place) -> None:
    copy(mirrors, place)
    assert get(place.reference).blobs == mirrors.image.blobs
    assert mirrors.requests[0] == "whole"
    assert set(mirrors.requests[1:]) == {"piece"}


@pytest.mark.parametrize("wishes", CHANGES, ids=["as it is", "compressed anew"])
@pytest.mark.parametrize("transport", AGAIN)
@pytest.mark.parametrize("pieces", [1, 15])
def test_a_layer_whose_pieces_disagree_is_fetched_once_more_in_one_stream(
    mirrors: Mirrors, place: Place, pieces: int, wishes: dict[str, str]
) -> None:
    mirrors.disagree(pieces)
    copy(mirrors, place, **wishes)
    if not wishes:
        assert get(place.reference).blobs == mirrors.image.blobs
    requests = mirrors.requests
    assert requests.count("whole") == 2
    assert requests.count("piece") >= pieces
    assert requests[-1] == "whole"


@pytest.mark.parametrize("transport", AGAIN)
def test_a_layer_that_is_wrong_in_one_stream_too_is_given_up(
    mirrors: Mirrors, place: Place
) -> None:
    mirrors.disagree(100)
    before = place.visible()
    with pytest.raises(DigestMismatchError, match=mirrors.layer):
        copy(mirrors, place)
    assert place.visible() == before
    assert mirrors.requests.count("whole") == 2


def test_what_a_daemon_was_sent_cannot_be_begun_again(mirrors: Mirrors, tmp_path: Path) -> None:
    mirrors.disagree(1)
    with PLACES["docker-daemon"](tmp_path) as place:
        with pytest.raises(DigestMismatchError, match=mirrors.layer) as caught:
            copy(mirrors, place)
        assert not place.is_there()
    assert caught.value.hint is not None
    assert "try again" in caught.value.hint
    assert mirrors.requests.count("whole") == 1


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_what_went_down_a_pipe_cannot_be_begun_again(
    mirrors: Mirrors, tmp_path: Path, transport: str
) -> None:
    mirrors.disagree(1)
    stream = io.BytesIO()
    home = (OciArchiveTransport if transport == "oci-archive" else DockerArchiveTransport)(
        tmp_path, stdout=stream
    )
    with pytest.raises(DigestMismatchError, match=mirrors.layer) as caught:
        copy_image(mirrors.source, home.parse_reference("-:app:1"), AcceptAnything())
    assert caught.value.hint is not None
    assert "try again" in caught.value.hint
    assert mirrors.requests.count("whole") == 1


@pytest.mark.parametrize("transport", ["docker-archive"])
def test_a_layer_that_is_wrong_in_one_stream_needs_no_such_hint(
    mirrors: Mirrors, place: Place
) -> None:
    mirrors.disagree(100)
    with pytest.raises(DigestMismatchError) as caught:
        copy(mirrors, place)
    assert "try again" not in (caught.value.hint or "")
