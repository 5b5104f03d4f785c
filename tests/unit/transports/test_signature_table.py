"""What becomes of each kind of signature on the way from each place to each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from kstore.app import App, RegistryOptions
from kstore.copier import CopyOptions, copy_image
from kstore.errors import UnsupportedError
from kstore.interfaces import ImageReference
from kstore.settings import load
from kstore.signature import SignatureKind, SigstoreSignature
from kstore.signing.policy import ACCEPT_ANYTHING
from kstore.signing.sigstore import ANNOTATION
from kstore.store import Store
from kstore.transports import Transports
from tests.support.fakedocker import FakeDocker, ok
from tests.support.images import random_image
from tests.support.memory import Memory
from tests.support.signatureserver import SignatureServer

Outcome = Literal["kept", "refused"]

#: Whether a place keeps signatures by GnuPG, and those by sigstore.
KEEPS: dict[str, tuple[Outcome, Outcome]] = {
    "store": ("kept", "kept"),
    "lookaside": ("kept", "refused"),
    "attachments": ("kept", "kept"),
    "extension": ("kept", "refused"),
    "dir": ("kept", "kept"),
    "oci": ("refused", "refused"),
    "oci-archive": ("refused", "refused"),
    "docker-archive": ("refused", "refused"),
    "docker-daemon": ("refused", "refused"),
}
KINDS: tuple[SignatureKind, ...] = ("simple", "sigstore")
#: Where signatures can come from.
SOURCES = [
    (place, kind)
    for place, kept in KEEPS.items()
    for kind, outcome in zip(KINDS, kept, strict=True)
    if outcome == "kept"
]
SIGNATURES: dict[SignatureKind, list[bytes]] = {
    "simple": [b"\x90one", b"\x90two"],
    "sigstore": [
        SigstoreSignature(b"{}", {ANNOTATION: text}).to_bytes() for text in ("eA==", "eQ==")
    ],
}
CHANGED: dict[str, Any] = {"compression": "none"}


@dataclass
class Side:
    """Every kind of place, those that are files in a directory of their own."""

    transports: Transports
    path: Path
    servers: dict[str, SignatureServer]
    docker: FakeDocker

    def reference(self, place: str, name: str) -> ImageReference:
        texts = {
            "store": f"kstore:{name}:1",
            "dir": f"dir:{self.path}/{name}",
            "docker-daemon": f"docker-daemon:{name}:1",
        }
        if place in self.servers:
            return self.transports.parse(f"docker://{self.servers[place].host}/{name}:1")
        return self.transports.parse(texts.get(place, f"{place}:{self.path}/{name}"))

    def traffic(self) -> int:
        """What was sent to servers so far, and the blobs and files that there are."""
        sent = sum(
            len(server.seen(how)) for server in self.servers.values() for how in ("PUT", "POST")
        )
        files = sum(1 for path in self.path.rglob("*") if path.is_file())
        stored = self.transports.storage.store.facts().blobs
        return sent + stored + files + len(self.docker.loaded)


@dataclass
class World:
    here: Side
    there: Side
    seeded: list[ImageReference] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        docker = stack.enter_context(FakeDocker())
        docker.answers["/images/load"] = ok(b'{"stream":"Loaded image: app:1\\n"}')

        def side(name: str) -> Side:
            path = tmp_path_factory.mktemp(name)
            servers = {
                place: stack.enter_context(SignatureServer(extension=place == "extension"))
                for place in ("lookaside", "attachments", "extension")
            }
            (path / "registries.d").mkdir()
            (path / "registries.d/all.yaml").write_text(
                f"docker:\n  {servers['attachments'].host}:\n    use-sigstore-attachments: true\n"
            )
            settings = replace(
                load({}, root=path / "root"),
                registries_d=(path / "registries.d",),
                lookaside_dir=path / "signatures",
                docker_host=docker.host,
                spool_dir=path,
            )
            store = stack.enter_context(Store.open(settings.root, command="test"))
            options = RegistryOptions(tls_verify=False)
            transports = stack.enter_context(App(settings).transports(store, options))
            (path / "files").mkdir()
            return Side(transports, path / "files", servers, docker)

        yield World(side("here"), side("there"))


def copy(source: ImageReference, target: ImageReference, **wishes: Any) -> None:
    copy_image(source, target, ACCEPT_ANYTHING, CopyOptions(**wishes))


def signed_image(world: World, place: str, kind: SignatureKind) -> ImageReference:
    """An image at a place, signed in one way."""
    number = SOURCES.index((place, kind))
    source = world.here.reference(place, f"app{number}")
    if source not in world.seeded:
        memory = Memory({"x.test/app:1": random_image(number, layers=1, layer_size=10)})
        memory.signatures["x.test/app:1"] = SIGNATURES[kind]
        copy(memory.reference("x.test/app:1"), source)
        world.seeded.append(source)
    return source


def signatures(reference: ImageReference) -> list[bytes]:
    with reference.open_source() as source:
        return list(source.read_signatures())


@pytest.mark.parametrize("place", KEEPS)
@pytest.mark.parametrize(("origin", "kind"), SOURCES)
def test_signatures_are_kept_or_the_copy_is_refused_unless_they_are_to_be_left(
    world: World, origin: str, kind: SignatureKind, place: str
) -> None:
    source = signed_image(world, origin, kind)
    assert signatures(source) == SIGNATURES[kind]
    there = world.there

    def target(name: str) -> ImageReference:
        return there.reference(place, f"{name}{next(world.numbers)}")

    for wishes in ({}, CHANGED):
        wanted, before = target("app"), there.traffic()
        if KEEPS[place][KINDS.index(kind)] == "kept" and not wishes:
            copy(source, wanted)
            assert signatures(wanted) == SIGNATURES[kind]
            continue
        with pytest.raises(UnsupportedError, match="signatures|it is signed") as refused:
            copy(source, wanted, **wishes)
        assert there.traffic() == before, "nothing has moved"
        assert "--remove-signatures" in str(refused.value.hint)
        attachable = kind == "sigstore" and place in ("lookaside", "extension")
        assert ("--sigstore-attachments" in str(refused.value.hint)) == attachable

    for wishes in ({}, CHANGED):
        unsigned = target("unsigned")
        copy(source, unsigned, remove_signatures=True, **wishes)
        if place == "docker-daemon":
            continue  # it has them in a form that has no room for signatures
        if place != "store" or wishes:  # whose signatures belong to the manifest, by any name
            assert signatures(unsigned) == []
