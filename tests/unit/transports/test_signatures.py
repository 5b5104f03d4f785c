"""Signatures travel with images between every place that keeps them, and are lost nowhere."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

from kstore.copier import CopyOptions, copy_image
from kstore.digest import Digest
from kstore.errors import InvalidInputError, RemoteError, UnsupportedError
from kstore.interfaces import ImageReference
from kstore.reference import Named
from kstore.registry import RegistryClient, RegistrySettings
from kstore.registry.lookaside import Lookaside
from kstore.registry.registriesd import Section
from kstore.signature import SigstoreSignature, SimpleSignature
from kstore.signing.policy import ACCEPT_ANYTHING
from kstore.signing.signer import Signer
from kstore.store import Store
from kstore.streams import Cancel
from kstore.transports.dir import DirTransport
from kstore.transports.docker import DockerTransport
from kstore.transports.oci import OciTransport
from kstore.transports.storage import StorageTransport
from tests.support.faultserver import Fault
from tests.support.images import AMD64, ARM64, index_of, random_image
from tests.support.memory import Memory
from tests.support.signatureserver import SignatureServer

FAST = RegistrySettings(tls_verify=False, attempts=2, backoff_base=0.01)
IMAGE = random_image(1)
MEMBERS = [random_image(2, platform=AMD64), random_image(3, platform=ARM64)]
INDEX = index_of(MEMBERS)
ONE, TWO = b"\x90one", b"\x90two"


class Stamp(Signer):
    """Signs by saying what is signed."""

    kind = SimpleSignature.kind

    def sign(self, manifest_digest: Digest, docker_reference: str) -> SimpleSignature:
        return SimpleSignature(b"\x90" + f"{manifest_digest} {docker_reference}".encode())


@dataclass
class Places:
    """References of every kind, made on demand."""

    path: Path
    server: SignatureServer
    extended: SignatureServer
    store: Store
    section: Section = field(default_factory=Section)

    @cached_property
    def transport(self) -> DockerTransport:
        def place(named: Named) -> Lookaside:
            usual = self.path / "lookaside"
            return Lookaside(self.section, usual, FAST, cancel=Cancel(), warn=warnings.warn)

        return DockerTransport(lambda peer: RegistryClient(peer.host, FAST), lookaside=place)

    def _docker(self, server: SignatureServer, name: str) -> ImageReference:
        return self.transport.reference(Named.parse(f"{server.host}/team/{name}"))

    def docker(self, name: str = "app:1") -> ImageReference:
        return self._docker(self.server, name)

    def extension(self) -> ImageReference:
        return self._docker(self.extended, "app:1")

    def dir(self) -> ImageReference:
        return DirTransport().parse_reference(str(self.path / "dir"))

    def stored(self) -> ImageReference:
        return StorageTransport(self.store).parse_reference("app:1")

    def oci(self) -> ImageReference:
        return OciTransport().parse_reference(f"{self.path}/oci:app")


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    with (
        SignatureServer() as server,
        SignatureServer(extension=True) as extended,
        Store.open(tmp_path / "root") as store,
    ):
        places = Places(tmp_path, server, extended, store)
        yield places
        places.transport.close()


def signed_memory() -> Memory:
    memory = Memory({"a.org/app:1": IMAGE, "a.org/index:1": (INDEX, MEMBERS)})
    memory.signatures["a.org/app:1"] = [ONE, TWO]
    memory.signatures["a.org/index:1"] = [ONE]
    for member, data in zip(MEMBERS, (b"\x90amd", b"\x90arm"), strict=True):
        memory.signatures[f"a.org/index:1@{member.raw.digest}"] = [data]
    return memory


def copy(source: ImageReference, target: ImageReference, **wishes: object) -> None:
    copy_image(source, target, ACCEPT_ANYTHING, CopyOptions(**wishes))  # type: ignore[arg-type]


def signatures(reference: ImageReference, instance: Digest | None = None) -> list[bytes]:
    with reference.open_source() as source:
        return list(source.read_signatures(instance))


KEEPING: dict[str, Callable[[Places], ImageReference]] = {
    "docker": Places.docker,
    "extension": Places.extension,
    "dir": Places.dir,
    "store": Places.stored,
}


@pytest.mark.parametrize("place", KEEPING)
def test_signatures_arrive_where_they_are_kept_and_leave_again(places: Places, place: str) -> None:
    target = KEEPING[place](places)
    copy(signed_memory().reference("a.org/app:1"), target)
    assert signatures(target) == [ONE, TWO]
    copy(target, places.dir() if place != "dir" else places.stored())
    assert signatures(places.dir() if place != "dir" else places.stored()) == [ONE, TWO]


@pytest.mark.parametrize("place", KEEPING)
def test_members_of_an_index_keep_their_own(places: Places, place: str) -> None:
    target = KEEPING[place](places)
    copy(signed_memory().reference("a.org/index:1"), target, instances="all")
    assert signatures(target) == [ONE]
    found = [signatures(target, member.raw.digest) for member in MEMBERS]
    assert found == [[b"\x90amd"], [b"\x90arm"]]


@pytest.mark.parametrize("place", KEEPING)
def test_signatures_are_left_behind_when_that_is_wished(places: Places, place: str) -> None:
    target = KEEPING[place](places)
    copy(signed_memory().reference("a.org/app:1"), target, remove_signatures=True)
    assert signatures(target) == []


def test_a_copy_that_would_lose_signatures_fails_and_says_how_to_want_it(places: Places) -> None:
    source = signed_memory().reference("a.org/app:1")
    with pytest.raises(UnsupportedError, match="cannot keep the image's signatures") as raised:
        copy(source, places.oci())
    assert "--remove-signatures" in str(raised.value.hint)
    assert not (places.path / "oci").exists()
    copy(source, places.oci(), remove_signatures=True)


def test_a_copy_that_would_break_signatures_fails(places: Places) -> None:
    with pytest.raises(UnsupportedError, match="it is signed"):
        copy(
            signed_memory().reference("a.org/app:1"),
            places.dir(),
            compression="zstd",
            force_compression=True,
        )


def test_where_nothing_is_kept_signatures_are_not_even_read_to_be_left(places: Places) -> None:
    places.section = Section(f"{places.server.url}/broken", None)
    copy(Memory({"a.org/app:1": IMAGE}).reference("a.org/app:1"), places.docker())
    places.server.fault(Fault(status=500), "GET", "/broken", times=99)
    with pytest.raises(RemoteError):
        copy(places.docker(), places.dir())
    copy(places.docker(), places.dir(), remove_signatures=True)


@pytest.mark.parametrize("place", KEEPING)
def test_what_is_written_is_signed_under_its_own_name(places: Places, place: str) -> None:
    target = KEEPING[place](places)
    name = "a.org/x:1" if place == "dir" else str(target.docker_reference)
    wishes = {"sign_identity": Named.parse(name)} if place == "dir" else {}
    source = Memory({"a.org/index:1": (INDEX, MEMBERS)}).reference("a.org/index:1")
    copy(source, target, instances="all", signers=(Stamp(),), **wishes)
    for digest in (INDEX.digest, *(member.raw.digest for member in MEMBERS)):
        instance = None if digest == INDEX.digest else digest
        assert signatures(target, instance) == [b"\x90" + f"{digest} {name}".encode()]


def test_new_signatures_join_the_old_ones(places: Places) -> None:
    copy(signed_memory().reference("a.org/app:1"), places.docker(), signers=(Stamp(),))
    assert signatures(places.docker())[:2] == [ONE, TWO]
    assert len(signatures(places.docker())) == 3


def test_another_tag_of_the_same_manifest_does_not_take_the_signature_away(places: Places) -> None:
    source = Memory({"a.org/app:1": IMAGE}).reference("a.org/app:1")
    for name in ("app:1", "app:2"):
        copy(source, places.docker(name), signers=(Stamp(),))
    found = b"".join(signatures(places.docker("app:1")))
    assert b"team/app:1" in found
    assert b"team/app:2" in found


def test_a_place_without_a_name_needs_one_to_sign(places: Places) -> None:
    source = Memory({"a.org/app:1": IMAGE}).reference("a.org/app:1")
    with pytest.raises(InvalidInputError, match="no name that could be signed"):
        copy(source, places.dir(), signers=(Stamp(),))
    with pytest.raises(InvalidInputError, match="neither|no tag"):
        copy(source, places.dir(), signers=(Stamp(),), sign_identity=Named.parse("a.org/x"))


def test_a_place_that_keeps_none_signs_nothing(places: Places) -> None:
    source = Memory({"a.org/app:1": IMAGE}).reference("a.org/app:1")
    with pytest.raises(UnsupportedError, match="nothing is signed"):
        copy(source, places.oci(), signers=(Stamp(),), sign_identity=Named.parse("a.org/x:1"))


def test_a_name_appears_at_the_registry_after_the_signatures(places: Places) -> None:
    copy(signed_memory().reference("a.org/app:1"), places.extension())
    order = [
        record.target.rpartition("/")[2] if "/manifests/" in record.target else "signature"
        for record in places.extended.seen("PUT")
        if "/manifests/" in record.target or "/signatures/" in record.target
    ]
    assert order == [str(IMAGE.raw.digest), "signature", "signature", "1"]


def test_signatures_go_with_an_image_that_is_deleted(places: Places) -> None:
    copy(signed_memory().reference("a.org/app:1"), places.docker())
    places.docker().delete()
    assert not [path for path in (places.path / "lookaside").rglob("*") if path.is_file()]


def test_a_registry_beside_which_nothing_can_be_written_is_asked_itself(places: Places) -> None:
    places.section = Section("https://signatures.example.org/", "https://signatures.example.org/")
    with places.docker().open_destination() as destination:
        assert not destination.traits.signatures
    with places.extension().open_destination() as destination:
        assert destination.traits.signatures


def test_a_sigstore_signature_is_refused_by_a_place_for_others_before_anything_moves(
    places: Places,
) -> None:
    memory = signed_memory()
    memory.signatures["a.org/app:1"] = [ONE, SigstoreSignature(b"{}", {}).to_bytes()]
    with pytest.raises(UnsupportedError, match="cannot keep the image's sigstore") as raised:
        copy(memory.reference("a.org/app:1"), places.docker())
    assert "--sigstore-attachments" in str(raised.value.hint)
    assert not memory.asked("open_blob")
    assert not places.server.seen("POST")
    assert not places.server.seen("PUT")


def test_nothing_is_signed_in_a_way_that_the_place_does_not_keep(places: Places) -> None:
    class Seal(Stamp):
        kind = SigstoreSignature.kind

    memory = Memory({"a.org/app:1": IMAGE})
    with pytest.raises(UnsupportedError, match="cannot keep sigstore .* so that nothing is signed"):
        copy(memory.reference("a.org/app:1"), places.docker(), signers=(Seal(),))
    assert not places.server.seen("POST")
