"""Mirrors: asked first, passed over when they fail, and never trusted with more than bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    AuthError,
    BlobNotFoundError,
    CancelledError,
    KstoreError,
    ManifestNotFoundError,
    RemoteError,
)
from kstore.interfaces import BlobSource
from kstore.mediatypes import OCI_INDEX, OCI_MANIFEST
from kstore.reference import Named
from kstore.registry import RegistryClient, RegistrySettings
from kstore.registry.registriesconf import Peer, Place
from kstore.streams import Cancel
from kstore.transports.docker_places import Outages, Places
from tests.support.faultserver import Basic, Fault, FaultServer
from tests.support.images import random_image

IMAGE = random_image(1)
OTHER = random_image(2)
DATA = random_image(3, layers=1, layer_size=3_000_000)
BLOB = DATA.layers[0]
BYTES = DATA.blobs[BLOB.digest]

Make = Callable[..., Places]


@pytest.fixture
def servers() -> Iterator[list[FaultServer]]:
    """Two mirrors and the registry itself, all with the image and the blob."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(FaultServer()) for _ in range(3)]
        for server in made:
            server.add_manifest(IMAGE.raw.data, IMAGE.raw.media_type, tag="v1")
            server.add_blob(BYTES)
        yield made


@pytest.fixture
def make() -> Iterator[Make]:
    with contextlib.ExitStack() as stack:
        clients: dict[Peer, RegistryClient] = {}

        def places(
            hosts: Sequence[str],
            version: str = ":v1",
            outages: Outages | None = None,
            cancel: Cancel | None = None,
            **changes: Any,
        ) -> Places:
            def connect(peer: Peer) -> RegistryClient:
                if peer not in clients:
                    settings = RegistrySettings(
                        tls_verify=False, attempts=2, backoff_base=0.01, idle_timeout=0.5,
                        connections=1,
                    )  # fmt: skip
                    settings = replace(settings, **changes)
                    client = RegistryClient(peer.host, settings, cancel=cancel)
                    clients[peer] = stack.enter_context(client)
                return clients[peer]

            made = [
                Place(Named.parse(f"{host}/team/app{version}"), Peer(host, mirror=True))
                for host in hosts
            ]
            made[-1] = replace(made[-1], peer=Peer(hosts[-1]))
            return Places(made, connect, outages or Outages())

        yield places


def read(blob: BlobSource, at_most: int = 1 << 30) -> bytes:
    data, buffer = bytearray(), memoryview(bytearray(64 * 1024))
    while len(data) < at_most and (count := blob.readinto(buffer) or 0):
        data += buffer[:count]
    return bytes(data)


def hosts(servers: list[FaultServer]) -> list[str]:
    return [server.host for server in servers]


def test_the_first_mirror_is_asked_and_nobody_else(servers: list[FaultServer], make: Make) -> None:
    places = make(hosts(servers))
    assert places.top_manifest().digest == IMAGE.raw.digest
    assert read(places.open_blob(BLOB, 0, None, None)) == BYTES
    assert places.blob_size(BLOB.digest) == BLOB.size
    assert [len(server.requests) > 0 for server in servers] == [True, False, False]


def no_manifest(server: FaultServer) -> None:
    server.manifests.clear()


def no_entry(server: FaultServer) -> None:
    server.auth = Basic(("ann", "secret"))


def unwell(server: FaultServer) -> None:
    server.fault(Fault(status=503), "GET", times=99)


def lying(server: FaultServer) -> None:
    server.manifests["team/app"] = {
        str(IMAGE.raw.digest): (OTHER.raw.media_type, OTHER.raw.data),
        "v1": (OCI_MANIFEST, b'{"schemaVersion":'),
    }


@pytest.mark.parametrize("break_", [no_manifest, no_entry, unwell, lying])
@pytest.mark.parametrize("version", [":v1", f"@{IMAGE.raw.digest}"], ids=["tag", "digest"])
def test_a_mirror_that_is_no_use_is_passed_over(
    servers: list[FaultServer],
    make: Make,
    break_: Callable[[FaultServer], None],
    version: str,
) -> None:
    break_(servers[0])
    places = make(hosts(servers), version)
    assert places.top_manifest().digest == IMAGE.raw.digest
    assert places.manifest(IMAGE.raw.digest).digest == IMAGE.raw.digest
    assert servers[2].requests == []


def test_when_nobody_helps_the_registrys_error_names_every_reason(
    servers: list[FaultServer], make: Make
) -> None:
    no_entry(servers[0])
    unwell(servers[1])
    no_manifest(servers[2])
    with pytest.raises(ManifestNotFoundError) as caught:
        make(hosts(servers)).top_manifest()
    message = caught.value.message
    assert str(caught.value) == message
    assert message.startswith(f"{servers[2].host} has no manifest team/app:v1 (mirror ")
    assert f"mirror {servers[0].host}/team/app: {servers[0].host} refuses" in message
    assert f"mirror {servers[1].host}/team/app: {servers[1].host} answered 503" in message


def test_the_only_servers_error_is_left_as_it_is(servers: list[FaultServer], make: Make) -> None:
    no_entry(servers[0])
    with pytest.raises(AuthError) as caught:
        make(hosts(servers)[:1]).top_manifest()
    assert "mirror" not in caught.value.message


def test_a_dead_mirror_is_asked_once_in_a_run(servers: list[FaultServer], make: Make) -> None:
    outages = Outages()
    unwell(servers[0])
    make(hosts(servers), outages=outages).top_manifest()
    asked = len(servers[0].requests)
    servers[0].forgive()
    later = make(hosts(servers), outages=outages)
    later.top_manifest()
    assert read(later.open_blob(BLOB, 0, None, None)) == BYTES
    assert len(servers[0].requests) == asked
    for server in servers[1:]:
        no_manifest(server)
    with pytest.raises(ManifestNotFoundError, match="failed before: .*503"):
        make(hosts(servers), outages=outages).top_manifest()


def test_the_registry_itself_is_never_given_up(servers: list[FaultServer], make: Make) -> None:
    outages = Outages()
    unwell(servers[2])
    for server in servers[:2]:
        no_manifest(server)
    with pytest.raises(RemoteError):
        make(hosts(servers), outages=outages).top_manifest()
    servers[2].forgive()
    assert make(hosts(servers), outages=outages).top_manifest().digest == IMAGE.raw.digest


def test_a_missing_image_does_not_make_a_mirror_dead(
    servers: list[FaultServer], make: Make
) -> None:
    outages = Outages()
    no_manifest(servers[0])
    make(hosts(servers), outages=outages).top_manifest()
    servers[0].add_manifest(IMAGE.raw.data, IMAGE.raw.media_type, tag="v1")
    before = len(servers[1].requests)
    make(hosts(servers), outages=outages).top_manifest()
    assert len(servers[1].requests) == before


def test_who_had_the_manifest_is_asked_first_for_the_blobs(
    servers: list[FaultServer], make: Make
) -> None:
    no_manifest(servers[0])
    places = make(hosts(servers))
    places.top_manifest()
    assert read(places.open_blob(BLOB, 0, None, None)) == BYTES
    assert servers[0].seen("GET", "/blobs/") == []


def test_a_blob_a_mirror_lacks_comes_from_the_next(servers: list[FaultServer], make: Make) -> None:
    servers[0].blobs.clear()
    places = make(hosts(servers))
    places.top_manifest()
    assert read(places.open_blob(BLOB, 0, None, None)) == BYTES
    assert len(servers[1].seen("GET", "/blobs/")) == 1


def dies(server: FaultServer) -> None:
    """The connection is lost in the middle, and no other is accepted any more."""
    server.fault(Fault(reset_after=1_000_000), "GET", "/blobs/")
    server.fault(Fault(status=503), "GET", "/blobs/", times=99)


def stalls(server: FaultServer) -> None:
    server.fault(Fault(stall_after=1_000_000), "GET", "/blobs/")
    server.fault(Fault(stall_after=0), "GET", "/blobs/", times=99)


def revoked(server: FaultServer) -> None:
    server.fault(Fault(reset_after=1_000_000), "GET", "/blobs/")
    server.fault(Fault(status=403), "GET", "/blobs/", times=99)


@pytest.mark.parametrize("break_", [dies, stalls, revoked])
def test_a_blob_goes_on_at_the_next_server_where_a_mirror_left_it(
    servers: list[FaultServer], make: Make, break_: Callable[[FaultServer], None]
) -> None:
    break_(servers[0])
    lost: list[str] = []
    blob = make(hosts(servers)).open_blob(BLOB, 0, None, lost.append)
    assert hashlib.sha256(read(blob)).hexdigest() == BLOB.digest.hex
    (rest,) = servers[1].seen("GET", "/blobs/")
    start = int(rest.headers["range"].removeprefix("bytes=").rstrip("-"))
    assert 0 < start <= 1_000_000
    assert "if-range" not in rest.headers, "what one server calls its bytes means nothing elsewhere"
    assert any(f"going on at {servers[1].host}/team/app" in text for text in lost)


def test_a_server_without_ranges_can_take_over_too(servers: list[FaultServer], make: Make) -> None:
    dies(servers[0])
    servers[1].fault(Fault(ignore_range=True), "GET", "/blobs/", times=9)
    assert read(make(hosts(servers)).open_blob(BLOB, 0, None, None)) == BYTES


def test_a_blob_survives_two_dying_mirrors(servers: list[FaultServer], make: Make) -> None:
    dies(servers[0])
    servers[1].fault(Fault(reset_after=500_000), "GET", "/blobs/")
    servers[1].fault(Fault(status=503), "GET", "/blobs/", times=99)
    assert read(make(hosts(servers)).open_blob(BLOB, 0, None, None)) == BYTES


def test_a_blob_nobody_can_finish_fails_with_every_reason(
    servers: list[FaultServer], make: Make
) -> None:
    dies(servers[0])
    servers[1].blobs.clear()
    servers[2].blobs.clear()
    with pytest.raises(BlobNotFoundError) as caught:
        read(make(hosts(servers)).open_blob(BLOB, 0, None, None))
    assert caught.value.message.count("mirror ") == 2


def test_a_blob_is_opened_in_the_middle_at_whichever_server(
    servers: list[FaultServer], make: Make
) -> None:
    servers[0].blobs.clear()
    blob = make(hosts(servers)).open_blob(BLOB, 1000, None, None)
    assert blob.offset in (0, 1000)
    assert read(blob) == BYTES[blob.offset :]


def test_a_cancel_is_no_reason_to_ask_the_next(servers: list[FaultServer], make: Make) -> None:
    cancel = Cancel()
    places = make(hosts(servers), cancel=cancel)
    blob = places.open_blob(BLOB, 0, None, None)
    cancel.cancel()
    with pytest.raises(CancelledError) as caught:
        read(blob)
    with pytest.raises(CancelledError):
        places.top_manifest()
    assert "mirror" not in caught.value.message
    assert servers[1].requests == servers[2].requests == []


@pytest.mark.parametrize("digest", [BLOB.digest, Digest.of(b"absent")])
def test_a_size_is_asked_of_the_first_that_answers(
    servers: list[FaultServer], make: Make, digest: Digest
) -> None:
    servers[0].blobs.clear()
    servers[1].fault(Fault(status=503), "HEAD", times=99)
    expected = BLOB.size if digest == BLOB.digest else None
    assert make(hosts(servers)).blob_size(digest) == expected


def test_a_wrong_size_is_a_reason_to_ask_the_next(servers: list[FaultServer], make: Make) -> None:
    wrong = Descriptor(BLOB.media_type, BLOB.digest, BLOB.size)
    servers[0].blobs["team/app"][str(BLOB.digest)] = BYTES + b"more"
    assert read(make(hosts(servers)).open_blob(wrong, 0, None, None)) == BYTES
    for server in servers[1:]:
        server.blobs["team/app"][str(BLOB.digest)] = BYTES + b"more"
    with pytest.raises(KstoreError, match="declared with"):
        read(make(hosts(servers)).open_blob(wrong, 0, None, None))


def test_who_sent_wrong_bytes_is_not_asked_for_that_blob_again_in_this_run(
    servers: list[FaultServer], make: Make
) -> None:
    outages = Outages()
    places = make(hosts(servers), outages=outages)
    read(places.open_blob(BLOB, 0, None, None))
    said = places.refute(BLOB.digest)
    assert said is not None
    assert said.startswith(f"mirror {servers[0].host}/team/app sent wrong")
    assert places.refute(BLOB.digest) is None, "nothing was sent since"
    again = make(hosts(servers), outages=outages)
    again.top_manifest()
    read(again.open_blob(BLOB, 0, None, None))
    assert [len(server.seen("GET", "/blobs/")) for server in servers] == [1, 1, 0]
    assert len(servers[0].seen("GET", "/manifests/")) == 1, "its other answers are still wanted"
    assert again.refute(BLOB.digest)
    read(again.open_blob(BLOB, 0, None, None))
    assert again.refute(BLOB.digest) is None, "the registry itself is never given up"


def test_of_mirrors_that_sent_a_part_each_the_last_may_have_the_whole(
    servers: list[FaultServer], make: Make
) -> None:
    revoked(servers[0])
    places = make(hosts(servers))
    mixed = places.open_blob(BLOB, 0, None, None)
    read(mixed)
    assert mixed.spliced
    assert places.refute(BLOB.digest)
    servers[0].forgive()
    whole = places.open_blob(BLOB, 0, None, None)
    assert read(whole) == BYTES
    assert not whole.spliced
    assert "range" not in servers[1].seen("GET", "/blobs/")[-1].headers
    assert servers[2].requests == []


class Beside:
    """The signatures beside one server, or the failure to read them."""

    def __init__(self, *signatures: bytes, failure: KstoreError | None = None) -> None:
        self._signatures = signatures
        self._failure = failure

    def read(self, path: str, digest: Digest) -> Sequence[bytes]:
        assert (path, digest) == ("team/app", IMAGE.raw.digest)
        if self._failure is not None:
            raise self._failure
        return self._signatures


def test_referrers_are_those_of_the_first_server_that_lists_any(
    servers: list[FaultServer], make: Make
) -> None:
    """A mirror that keeps none does not hide the registry's; one that fails might have some."""
    subject = IMAGE.raw.digest
    listed = OTHER.raw.descriptor
    places = make(hosts(servers))
    assert places.referrers(subject) == ()
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed.to_json()]}
    ).encode()
    servers[2].add_manifest(index, OCI_INDEX, "team/app", str(subject).replace(":", "-"))
    assert [each.digest for each in places.referrers(subject)] == [listed.digest]
    unwell(servers[0])
    assert [each.digest for each in places.referrers(subject)] == [listed.digest]
    servers[2].manifests["team/app"].pop(str(subject).replace(":", "-"))
    with pytest.raises(RemoteError, match="answered 503"):
        make(hosts(servers)).referrers(subject)


def test_a_manifest_is_looked_at_wherever_it_is(servers: list[FaultServer], make: Make) -> None:
    places = make(hosts(servers))
    no_manifest(servers[0])
    no_entry(servers[1])
    found = places.head("v1")
    assert found is not None
    assert (found.digest, places.head("v2")) == (IMAGE.raw.digest, None)
    assert servers[2].seen("GET", "/manifests/v1") == []


def test_signatures_are_those_of_the_first_server_that_has_any(
    servers: list[FaultServer], make: Make
) -> None:
    places = make(hosts(servers))
    places.top_manifest()
    found: dict[str, Any] = {servers[0].host: None, servers[1].host: Beside(b"one", b"two")}
    signatures = places.signatures(IMAGE.raw.digest, lambda named: found.get(named.domain))
    assert signatures == (b"one", b"two")
    assert places.signatures(IMAGE.raw.digest, lambda named: None) == ()


def test_signatures_that_cannot_be_read_are_not_taken_for_none(
    servers: list[FaultServer], make: Make
) -> None:
    failing: Any = Beside(failure=RemoteError("the lookaside is down"))
    found: dict[str, Any] = {servers[0].host: failing, servers[2].host: Beside()}
    places = make(hosts(servers))
    with pytest.raises(RemoteError, match="the lookaside is down"):
        places.signatures(IMAGE.raw.digest, lambda named: found.get(named.domain))
    found[servers[2].host] = Beside(b"one")
    assert places.signatures(IMAGE.raw.digest, lambda named: found.get(named.domain)) == (b"one",)
