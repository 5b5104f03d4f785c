from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.copier import copy_image
from kstore.errors import (
    CancelledError,
    DigestMismatchError,
    ImageNotFoundError,
    IntegrityError,
    InvalidInputError,
    InvalidReferenceError,
    RemoteError,
    RemoteTimeoutError,
    UnsupportedError,
)
from kstore.formats.archive import open_archive
from kstore.formats.docker_tar import list_images
from kstore.manifest import parse_image
from kstore.reference import Named
from kstore.signing.policy import AcceptAnything
from kstore.streams import Cancel
from kstore.transports.docker_daemon import DockerDaemonTransport
from kstore.transports.docker_endpoint import DockerDaemonSettings, Endpoint
from tests.support.dockertars import middle_docker, tar_of
from tests.support.fakedocker import FakeDocker, chunked, ok
from tests.support.faultserver import make_certificate
from tests.support.images import random_image
from tests.support.memory import Memory

IMAGE = random_image(1)
PLAIN = random_image(2, compression="none")
SAVED = tar_of(middle_docker({"app:1": PLAIN}))
LOADED = b'{"stream":"Loading layer"}\r\n{"stream":"Loaded image: app:1\\n"}\r\n'
GET = "/images/docker.io/library/app:1/get"


@pytest.fixture
def docker() -> Iterator[FakeDocker]:
    with FakeDocker() as docker:
        yield docker


@pytest.fixture
def transport(docker: FakeDocker, tmp_path: Path) -> DockerDaemonTransport:
    return DockerDaemonTransport(DockerDaemonSettings(host=docker.host), spool_dir=tmp_path)


def load(transport: DockerDaemonTransport, memory: Memory | None = None) -> None:
    memory = memory or Memory({"app": IMAGE})
    copy_image(memory.reference("app"), transport.parse_reference("app:1"), AcceptAnything())


def test_an_image_is_saved_by_name_and_by_id(
    docker: FakeDocker, transport: DockerDaemonTransport, tmp_path: Path
) -> None:
    docker.answers["/get"] = chunked(SAVED[:5000], SAVED[5000:])
    for text, path in (("app:1", GET), (f"sha256:{PLAIN.id}", f"/images/sha256:{PLAIN.id}/get")):
        memory = Memory({})
        reference = transport.parse_reference(text)
        copy_image(reference, memory.reference("copy"), AcceptAnything())
        raw = memory.committed["copy"].raw
        assert raw is not None
        assert parse_image(raw).config.digest.hex == PLAIN.id
        assert docker.requests[-2:] == ["GET /_ping", f"GET /v1.41{path}"]
        assert list(tmp_path.iterdir()) == []


def test_several_images_are_loaded_in_one_go(
    docker: FakeDocker, transport: DockerDaemonTransport, tmp_path: Path
) -> None:
    docker.answers["/images/load"] = ok(LOADED)
    memory = Memory({"app": IMAGE, "plain": PLAIN})
    with transport.open_writer() as writer:
        for name in memory.images:
            destination = writer.reference([Named.parse(f"{name}:1")])
            copy_image(memory.reference(name), destination, AcceptAnything())
    assert docker.requests == ["GET /_ping", "POST /v1.41/images/load?quiet=1"]
    with open_archive(io.BytesIO(docker.loaded[0]), spool_dir=tmp_path) as archive:
        assert [image.names for image in list_images(archive)] == [
            (Named.parse("app:1"),),
            (Named.parse("plain:1"),),
        ]


def test_a_daemon_that_tells_no_version_is_asked_without(
    docker: FakeDocker, transport: DockerDaemonTransport
) -> None:
    docker.answers["/_ping"] = ok(b"OK")
    docker.answers["/images/load"] = ok(b"")
    load(transport)
    assert docker.requests == ["GET /_ping", "POST /images/load?quiet=1"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ok(b'{"stream":"x"}\n{"error":"no space left on device"}'), "no space left on device$"),
        (
            ok(b'{"errorDetail":{"message":"bad\\nlayer"},"error":"x"}'),
            "take the image: bad layer$",
        ),
        (ok(b'{"message":"broken tar"}', status="500 Oops"), "refused the archive: broken tar$"),
        (ok(b"<html>", status="502 Bad"), "refused the archive: HTTP status 502$"),
        (ok(b'{"message":7}', status="500 Oops"), "HTTP status 500$"),
        (ok(b"[" * 5000, status="500 Oops"), "HTTP status 500$"),
        (ok(b'{"stream":'), "messages that are not JSON$"),
        (ok(b"[" * 100_000), "messages that are not JSON$"),
        (ok(b" " * (5 << 20)), "more than 4194304 bytes of messages$"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "an answer that is not HTTP$"),
        (b"", "docker daemon at unix://.* (broke|not HTTP|closed)"),
        (ok(LOADED)[:-9], "closed the connection too early$"),
    ],
)
def test_what_goes_wrong_in_a_load_is_one_sentence(
    docker: FakeDocker, transport: DockerDaemonTransport, answer: bytes, message: str
) -> None:
    docker.answers["/images/load"] = answer or b"HTTP"
    with pytest.raises(RemoteError, match=message) as caught:
        load(transport)
    assert docker.host in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_daemon_that_refuses_in_the_middle_is_heard(
    docker: FakeDocker, transport: DockerDaemonTransport
) -> None:
    docker.refuse_early = True
    docker.answers["/images/load"] = ok(b'{"message":"not today"}', status="403 Forbidden")
    memory = Memory({"app": random_image(5, layer_size=5 << 20)})
    with pytest.raises(RemoteError, match="refused the archive: not today|connection .* broke"):
        load(transport, memory)


def test_a_failed_copy_cuts_the_load_off(
    docker: FakeDocker, transport: DockerDaemonTransport
) -> None:
    docker.answers["/images/load"] = ok(LOADED)
    memory = Memory({"app": IMAGE})
    for layer in IMAGE.layers:
        memory.lies[layer.digest] = b"x" * layer.size
    with pytest.raises(DigestMismatchError):
        load(transport, memory)
    assert docker.cut_off.wait(timeout=20)
    assert docker.loaded == []


def test_an_image_the_daemon_has_not_is_not_found(
    docker: FakeDocker, transport: DockerDaemonTransport
) -> None:
    message = b'{"message":"reference does not exist"}'
    for answer in (
        ok(message, status="404 Not Found"),
        ok(b'{"message":"No such image: app:1"}', status="500 Internal Server Error"),
    ):
        docker.answers[GET] = answer
        with pytest.raises(ImageNotFoundError, match="has no image docker.io/library/app:1"):
            transport.parse_reference("app:1").open_source()


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (ok(b'{"message":"disk on fire"}', status="500 X"), RemoteError, "app:1: disk on fire$"),
        (chunked(SAVED[:7000], end=False), RemoteError, "closed the connection too early$"),
        (chunked(SAVED[:7000]), IntegrityError, "what the docker daemon at .* sent is cut off"),
        (chunked(b"x" * 2000), IntegrityError, "sent is not a tar archive"),
        (chunked(), IntegrityError, "sent is empty"),
        (chunked(tar_of({"manifest.json": b"[]"})), ImageNotFoundError, "no image; it is empty"),
    ],
)
def test_what_goes_wrong_in_a_save_is_one_sentence_and_leaves_nothing(
    docker: FakeDocker,
    transport: DockerDaemonTransport,
    tmp_path: Path,
    answer: bytes,
    kind: type[Exception],
    message: str,
) -> None:
    docker.answers[GET] = answer
    with pytest.raises(kind, match=message):
        transport.parse_reference("app:1").open_source()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (
            "unix:///nonexistent/docker.sock",
            "no docker daemon at unix:///nonexistent/docker.sock: no",
        ),
        (f"unix:///{'x' * 200}", "path too long"),
        ("tcp://127.0.0.1:1", "no docker daemon at tcp://127.0.0.1:1: connection refused"),
    ],
)
def test_no_daemon_is_said_with_the_socket(tmp_path: Path, host: str, message: str) -> None:
    transport = DockerDaemonTransport(DockerDaemonSettings(host=host), spool_dir=tmp_path)
    for fail in (
        lambda: transport.parse_reference("app:1").open_source(),
        lambda: transport.parse_reference("app:1").open_destination(),
    ):
        with pytest.raises(RemoteError, match=message) as caught:
            fail()
        assert "DOCKER_HOST" in (caught.value.hint or "")


@pytest.mark.unprivileged
def test_a_forbidden_socket_is_said_to_be_so(
    docker: FakeDocker, transport: DockerDaemonTransport
) -> None:
    Path(docker.host.removeprefix("unix://")).chmod(0)
    with pytest.raises(RemoteError, match="permission denied"):
        transport.parse_reference("app:1").open_source()


def test_a_silent_daemon_is_given_up(docker: FakeDocker, tmp_path: Path) -> None:
    docker.hold.clear()
    settings = DockerDaemonSettings(host=docker.host, idle_timeout=0.3)
    transport = DockerDaemonTransport(settings, spool_dir=tmp_path)
    with pytest.raises(RemoteTimeoutError, match=r"said nothing for 0\.3 s"):
        transport.parse_reference("app:1").open_source()


def test_waiting_for_a_daemon_ends_when_asked_to(docker: FakeDocker, tmp_path: Path) -> None:
    docker.hold.clear()
    cancel = Cancel()

    def stop_when_it_waits() -> None:
        until = time.monotonic() + 20
        while not docker.requests and time.monotonic() < until:
            time.sleep(0.01)
        cancel.cancel()

    thread = threading.Thread(target=stop_when_it_waits)
    thread.start()
    settings = DockerDaemonSettings(host=docker.host)
    transport = DockerDaemonTransport(settings, spool_dir=tmp_path, cancel=cancel)
    with pytest.raises(CancelledError):
        transport.parse_reference("app:1").open_source()
    thread.join()


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("app:1", "docker.io/library/app:1"),
        ("localhost:5000/x:y", "localhost:5000/x:y"),
        (f"sha256:{IMAGE.id}", f"sha256:{IMAGE.id}"),
        (IMAGE.id, f"sha256:{IMAGE.id}"),
    ],
)
def test_references_are_parsed_and_round_trip(tmp_path: Path, text: str, within: str) -> None:
    transport = DockerDaemonTransport(spool_dir=tmp_path)
    reference = transport.parse_reference(text)
    assert reference.within_transport == within
    assert transport.parse_reference(within) == reference
    assert reference.policy_identity == within
    with pytest.raises(UnsupportedError, match="own to delete"):
        reference.delete()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("app", "has no tag"),
        ("sha256:abc", "not an image ID"),
        (f"app@sha256:{IMAGE.id}", "asked by tag or ID"),
        (f"app:1@sha256:{IMAGE.id}", "asked by tag or ID"),
    ],
)
def test_bad_references_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidReferenceError, match=message):
        DockerDaemonTransport(spool_dir=tmp_path).parse_reference(text)


def test_an_id_cannot_be_written_to(tmp_path: Path) -> None:
    reference = DockerDaemonTransport(spool_dir=tmp_path).parse_reference(IMAGE.id)
    with pytest.raises(InvalidReferenceError, match="give a name and a tag"):
        reference.open_destination()


@pytest.mark.parametrize(
    ("settings", "endpoint"),
    [
        (DockerDaemonSettings(), ("/var/run/docker.sock", "", 0, False)),
        (DockerDaemonSettings("tcp://h"), (None, "h", 2375, False)),
        (DockerDaemonSettings("tcp://h:7/"), (None, "h", 7, False)),
        (DockerDaemonSettings("tcp://[::1]:7"), (None, "::1", 7, False)),
        (DockerDaemonSettings("tcp://h", tls_verify=True), (None, "h", 2376, True)),
        (DockerDaemonSettings("tcp://h:7", cert_dir=Path("/c")), (None, "h", 7, True)),
        (DockerDaemonSettings("https://h"), (None, "h", 2376, True)),
    ],
)
def test_docker_host_is_understood(
    settings: DockerDaemonSettings, endpoint: tuple[object, ...]
) -> None:
    found = Endpoint.of(settings)
    assert (found.path, found.name, found.port, found.tls) == endpoint


@pytest.mark.parametrize(
    "host",
    ["", "h:1", "unix://relative", "tcp://", "tcp://h:x", "tcp://u@h", "ftp://h", "tcp://h/p"],
)
def test_a_bad_docker_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidInputError, match="docker host"):
        Endpoint.of(DockerDaemonSettings(host))


def test_ssh_is_not_spoken_but_has_a_way_round() -> None:
    with pytest.raises(UnsupportedError, match="ssh:// is not supported") as caught:
        Endpoint.of(DockerDaemonSettings("ssh://me@host"))
    assert "ssh -NL" in (caught.value.hint or "")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.mark.parametrize("with_client", [True, False])
def test_a_daemon_behind_tls_is_reached(
    tmp_path: Path, certificate: tuple[Path, Path], with_client: bool
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    (tmp_path / "ca.pem").write_bytes(certificate[0].read_bytes())
    if with_client:
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(certificate[0])
        (tmp_path / "cert.pem").write_bytes(certificate[0].read_bytes())
        (tmp_path / "key.pem").write_bytes(certificate[1].read_bytes())
    with FakeDocker(server) as docker:
        docker.answers["/images/load"] = ok(LOADED)
        docker.answers[GET] = chunked(SAVED)
        settings = DockerDaemonSettings(docker.host, cert_dir=tmp_path, tls_verify=True)
        transport = DockerDaemonTransport(settings, spool_dir=tmp_path)
        load(transport, Memory({"app": random_image(6, layer_size=2 << 20)}))
        transport.parse_reference("app:1").open_source().close()
        assert len(docker.loaded[0]) > 4 << 20


def test_a_daemon_with_another_certificate_is_not_trusted(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    other = tmp_path / "other"
    other.mkdir()
    make_certificate(other)[0].rename(other / "ca.pem")
    with FakeDocker(server) as docker:
        docker.answers[GET] = chunked(SAVED)
        strict = DockerDaemonSettings(docker.host, cert_dir=other, tls_verify=True)
        with pytest.raises(RemoteError, match="no TLS with the docker daemon at tcp://127"):
            DockerDaemonTransport(strict, spool_dir=tmp_path).parse_reference("app:1").open_source()
        lax = DockerDaemonSettings(docker.host, cert_dir=other)
        transport = DockerDaemonTransport(lax, spool_dir=tmp_path)
        transport.parse_reference("app:1").open_source().close()


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        settings = DockerDaemonSettings(host, cert_dir=tmp_path, tls_verify=True)
        transport = DockerDaemonTransport(settings, spool_dir=tmp_path)
        with pytest.raises(InvalidInputError, match=f"{tmp_path} cannot be used: "):
            transport.parse_reference("app:1").open_source()
