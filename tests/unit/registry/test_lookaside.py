"""Signatures beside a registry, and in it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import (
    IntegrityError,
    InvalidInputError,
    InvalidManifestError,
    KstoreError,
    RemoteError,
    StorageError,
    UnsupportedError,
)
from kstore.registry import RegistryClient, RegistrySettings
from kstore.registry.lookaside import MAX_SIGNATURES, Lookaside
from kstore.registry.registriesd import Section
from kstore.signature import MAX_SIGNATURE_SIZE
from kstore.streams import Cancel
from tests.support.faultserver import Fault
from tests.support.signatureserver import SignatureServer

DIGEST = Digest.of(b"manifest")
PLACE = f"team/app@sha256={DIGEST.hex}"
FAST = RegistrySettings(tls_verify=False, attempts=2, backoff_base=0.01)


def lookaside(tmp_path: Path, section: Section | None = None) -> Lookaside:
    return Lookaside(
        section or Section(), tmp_path / "usual", FAST, cancel=Cancel(), warn=warnings.warn
    )


def test_nothing_said_means_the_usual_directory(tmp_path: Path) -> None:
    place = lookaside(tmp_path)
    assert place.read("team/app", DIGEST) == []
    place.add("team/app", DIGEST, [b"one", b"two"])
    assert place.read("team/app", DIGEST) == [b"one", b"two"]
    files = sorted(path for path in (tmp_path / "usual").rglob("*") if path.is_file())
    assert files == [tmp_path / "usual" / PLACE / f"signature-{n}" for n in (1, 2)]
    assert place.read("team/other", DIGEST) == place.read("team/app", Digest.of(b"x")) == []


@pytest.mark.unprivileged
def test_a_usual_directory_of_another_user_is_as_good_as_none_and_is_told(tmp_path: Path) -> None:
    """Root of a user namespace finds root's directory, and has no rights to it."""
    said: list[str] = []
    usual = tmp_path / "closed/usual"
    options = {"cancel": Cancel(), "warn": said.append}
    place = Lookaside(Section(), usual, FAST, **options)  # type: ignore[arg-type]
    place.add("team/app", DIGEST, [b"one"])
    usual.parent.chmod(0)
    try:
        assert list(place.read("team/app", DIGEST)) == []
        assert len(said) == 1
        assert f"{usual / PLACE} is another user's" in said[0]
        named = Lookaside(Section(usual.as_uri(), None), usual, FAST, **options)  # type: ignore[arg-type]
        with pytest.raises(StorageError, match="Permission denied"):
            named.read("team/app", DIGEST)
    finally:
        usual.parent.chmod(0o700)
    (usual / PLACE / "signature-1").chmod(0)
    with pytest.raises(StorageError, match="Permission denied") as caught:
        place.read("team/app", DIGEST)
    assert caught.value.hint == "registries.d says where signatures are", "and no --root"


def test_signatures_are_added_and_none_takes_the_place_of_another(tmp_path: Path) -> None:
    place = lookaside(tmp_path)
    place.add("team/app", DIGEST, [b"one"])
    place.add("team/app", DIGEST, [b"one", b"two", b"two"])
    assert place.read("team/app", DIGEST) == [b"one", b"two"]


def test_reading_ends_at_the_first_number_that_is_missing(tmp_path: Path) -> None:
    place = lookaside(tmp_path)
    place.add("team/app", DIGEST, [b"one", b"two", b"three"])
    (tmp_path / "usual" / PLACE / "signature-2").unlink()
    assert place.read("team/app", DIGEST) == [b"one"]


def test_staging_is_written_and_not_read(tmp_path: Path) -> None:
    section = Section((tmp_path / "read").as_uri(), (tmp_path / "a b").as_uri())
    place = lookaside(tmp_path, section)
    place.add("team/app", DIGEST, [b"one"])
    assert place.read("team/app", DIGEST) == []
    assert (tmp_path / "a b" / PLACE / "signature-1").read_bytes() == b"one"


def test_signatures_go_with_their_manifest(tmp_path: Path) -> None:
    place = lookaside(tmp_path)
    place.add("team/app", DIGEST, [b"one", b"two"])
    place.remove("team/app", DIGEST)
    assert not (tmp_path / "usual" / PLACE).exists()
    place.remove("team/app", DIGEST)


@pytest.mark.parametrize(
    "address",
    ["ftp://a.org/x", "/var/sigs", "file://host/x", "file:relative", "x", "https://u:p@h/"],
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises((InvalidInputError, RemoteError)):
        lookaside(tmp_path, Section(address, address)).read("team/app", DIGEST)


def test_a_link_is_no_signature(tmp_path: Path) -> None:
    place = lookaside(tmp_path)
    place.add("team/app", DIGEST, [b"one"])
    (tmp_path / "usual" / PLACE / "signature-2").symlink_to("signature-1")
    with pytest.raises(StorageError, match="cannot read .*signature-2"):
        place.read("team/app", DIGEST)


def test_files_are_bounded_in_number_and_size(tmp_path: Path) -> None:
    place = lookaside(tmp_path)
    directory = tmp_path / "usual" / PLACE
    directory.mkdir(parents=True)
    (directory / "signature-1").write_bytes(b"x" * (MAX_SIGNATURE_SIZE + 1))
    with pytest.raises(IntegrityError, match="larger than"):
        place.read("team/app", DIGEST)
    for number in range(1, MAX_SIGNATURES + 2):
        (directory / f"signature-{number}").write_bytes(b"x")
    with pytest.raises(IntegrityError, match="more than 128"):
        place.read("team/app", DIGEST)
    (directory / f"signature-{MAX_SIGNATURES + 1}").unlink()
    with pytest.raises(IntegrityError, match="more than 128"):
        place.add("team/app", DIGEST, [b"new"])


# ---- over http


@pytest.fixture
def server() -> Iterator[SignatureServer]:
    with SignatureServer() as server:
        yield server


def web(tmp_path: Path, server: SignatureServer, base: str = "/sigs") -> Lookaside:
    return lookaside(tmp_path, Section(f"{server.url}{base}", f"{server.url}{base}"))


@pytest.mark.parametrize("base", ["/sigs", "/sigs/"])
def test_a_web_server_is_read_until_a_number_is_missing(
    tmp_path: Path, server: SignatureServer, base: str
) -> None:
    for number, data in enumerate((b"one", b"two"), 1):
        server.files[f"/sigs/{PLACE}/signature-{number}"] = data
    place = web(tmp_path, server, base)
    assert place.read("team/app", DIGEST) == [b"one", b"two"]
    assert place.read("team/other", DIGEST) == []
    assert all("authorization" not in record.headers for record in server.requests)


def test_http_will_do_for_what_is_signed_although_registries_need_tls(
    tmp_path: Path, server: SignatureServer
) -> None:
    server.files[f"/sigs/{PLACE}/signature-1"] = b"one"
    section = Section(f"{server.url}/sigs", None)
    place = Lookaside(section, tmp_path, RegistrySettings(), cancel=Cancel(), warn=warnings.warn)
    assert place.read("team/app", DIGEST) == [b"one"]


def test_a_web_server_is_not_written_to(tmp_path: Path, server: SignatureServer) -> None:
    place = web(tmp_path, server)
    assert not place.writable
    with pytest.raises(UnsupportedError, match="cannot be written") as raised:
        place.add("team/app", DIGEST, [b"one"])
    assert "lookaside-staging" in str(raised.value.hint)
    place.remove("team/app", DIGEST)
    assert server.requests == []


def test_a_web_server_that_fails_is_an_error_and_not_an_absence(
    tmp_path: Path, server: SignatureServer
) -> None:
    server.fault(Fault(status=500), "GET", "/sigs/", times=10)
    with pytest.raises(RemoteError, match="500"):
        web(tmp_path, server).read("team/app", DIGEST)
    server.fault(Fault(status=403), "GET", "/sigs/", times=20)
    with pytest.raises(KstoreError, match="signature"):
        web(tmp_path, server).read("team/app", DIGEST)


def test_a_web_server_is_bounded(tmp_path: Path, server: SignatureServer) -> None:
    server.files[f"/sigs/{PLACE}/signature-1"] = b"x" * (MAX_SIGNATURE_SIZE + 1)
    with pytest.raises(IntegrityError, match="limit"):
        web(tmp_path, server).read("team/app", DIGEST)
    for number in range(1, MAX_SIGNATURES + 2):
        server.files[f"/sigs/{PLACE}/signature-{number}"] = b"x"
    with pytest.raises(IntegrityError, match="more than 128"):
        web(tmp_path, server).read("team/app", DIGEST)


# ---- the extension


@pytest.fixture
def registry() -> Iterator[SignatureServer]:
    with SignatureServer(extension=True) as server:
        yield server


@pytest.fixture
def client(registry: SignatureServer) -> Iterator[RegistryClient]:
    with RegistryClient(registry.host, FAST) as client:
        yield client


def test_a_registry_says_that_it_keeps_signatures(
    client: RegistryClient, server: SignatureServer
) -> None:
    assert not client.keeps_signatures  # nothing was asked yet
    client.ping()
    assert client.keeps_signatures
    with RegistryClient(server.host, FAST) as other:
        other.ping()
        assert not other.keeps_signatures


def test_a_registrys_signatures_are_read_and_added_to(
    client: RegistryClient, registry: SignatureServer
) -> None:
    assert client.signatures("team/app", DIGEST) == []
    client.add_signatures("team/app", DIGEST, [b"one"])
    client.add_signatures("team/app", DIGEST, [b"one", b"two"])
    assert client.signatures("team/app", DIGEST) == [b"one", b"two"]
    entry = registry.kept["team/app", str(DIGEST)][0]
    assert (entry["schemaVersion"], entry["type"]) == (2, "atomic")
    assert entry["name"].startswith(f"{DIGEST}@")


def test_kinds_that_are_unknown_do_not_count(
    client: RegistryClient, registry: SignatureServer
) -> None:
    registry.keep("team/app", DIGEST, b"one", type="other")
    registry.keep("team/app", DIGEST, b"two", schemaVersion=3)
    registry.keep("team/app", DIGEST, b"three")
    assert client.signatures("team/app", DIGEST) == [b"three"]


def test_an_answer_that_is_none_is_an_error(
    client: RegistryClient, registry: SignatureServer
) -> None:
    registry.keep("team/app", DIGEST, b"", content="not base64!")
    with pytest.raises(InvalidManifestError, match="base64"):
        client.signatures("team/app", DIGEST)
    for _ in range(MAX_SIGNATURES):
        registry.keep("team/app", DIGEST, b"x")
    with pytest.raises(IntegrityError, match="more than 128"):
        client.signatures("team/app", DIGEST)
    registry.fault(Fault(status=403), "GET", "/signatures/", times=9)
    with pytest.raises(KstoreError, match="signatures"):
        client.signatures("team/app", DIGEST)
