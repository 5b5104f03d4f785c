"""What a reference of the store is, to whoever asks about trust."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.errors import ImageNotFoundError, InvalidReferenceError
from kstore.reference import Named
from kstore.store import Store
from kstore.transports.storage import StorageTransport
from tests.support.images import random_artifact, random_image
from tests.support.stores import put_artifact, put_image

IMAGE = random_image(1)


@pytest.fixture
def transport(tmp_path: Path) -> Iterator[StorageTransport]:
    with Store.open(tmp_path / "root", command="test") as store:
        put_image(store, IMAGE, "quay.io/a/b:1")
        yield StorageTransport(store)


@pytest.mark.parametrize(
    ("text", "identity", "namespaces"),
    [
        (
            "quay.io/a/b:1",
            "quay.io/a/b:1",
            ["quay.io/a/b", "quay.io/a", "quay.io", ""],
        ),
        (
            f"quay.io/a/b:1@{IMAGE.id}",
            f"quay.io/a/b:1@{IMAGE.id}",
            ["quay.io/a/b:1", "quay.io/a/b", "quay.io/a", "quay.io", ""],
        ),
        (f"@{IMAGE.id}", f"@{IMAGE.id}", [""]),
    ],
    ids=["a name", "a name with an ID", "an ID"],
)
def test_a_reference_has_an_identity_and_wider_scopes(
    transport: StorageTransport, text: str, identity: str, namespaces: list[str]
) -> None:
    reference = transport.parse_reference(text)
    root = f"[{transport.store.root}]"
    assert reference.policy_identity == root + identity
    assert list(reference.policy_namespaces) == [root + scope for scope in namespaces]
    for scope in (reference.policy_identity, *reference.policy_namespaces):
        transport.validate_policy_scope(scope)


def test_a_name_with_an_id_is_read_and_not_written(transport: StorageTransport) -> None:
    reference = transport.parse_reference(f"quay.io/a/b:1@{IMAGE.id[:12]}")
    assert reference.docker_reference is None
    assert transport.parse_reference(reference.within_transport) == reference
    with reference.open_source() as source:
        assert source.read_manifest().data == IMAGE.raw.data
    with pytest.raises(InvalidReferenceError, match="cannot be the name"):
        reference.open_destination()
    with pytest.raises(InvalidReferenceError, match="not an image name"):
        reference.delete()


@pytest.mark.parametrize("text", ["", "Upper@abc", "a b@abc", "quay.io/a/b@xyz", "@xy"])
def test_what_is_neither_name_nor_id_is_refused(transport: StorageTransport, text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        transport.parse_reference(text)


def test_a_short_name_is_judged_as_the_local_name_it_was_found_under(
    transport: StorageTransport,
) -> None:
    put_image(transport.store, random_image(2), "localhost/tools:1")
    put_image(transport.store, random_image(3), "docker.io/library/tools:2")
    root = f"[{transport.store.root}]"
    for text, name in (
        ("tools:1", "localhost/tools:1"),
        ("tools:2", "docker.io/library/tools:2"),
        (f"tools@{random_image(2).raw.digest}", f"localhost/tools@{random_image(2).raw.digest}"),
    ):
        with transport.parse_reference(text).open_source() as source:
            assert str(source.reference.docker_reference) == name
            assert source.reference.policy_identity == root + name


def test_an_id_that_could_be_a_name_is_judged_as_an_id(transport: StorageTransport) -> None:
    reference = transport.parse_reference(IMAGE.id[:12])
    with reference.open_source() as source:
        assert source.reference.docker_reference is None
        assert list(source.reference.policy_namespaces) == [f"[{transport.store.root}]"]


@pytest.mark.parametrize("text", ["tools:1", "localhost/tools:1", "quay.io/a/artifact:1"])
def test_deleting_takes_away_the_name_that_reading_finds(
    transport: StorageTransport, text: str
) -> None:
    put_image(transport.store, random_image(2), "localhost/tools:1", "docker.io/library/tools:1")
    put_artifact(transport.store, random_artifact(1), "quay.io/a/artifact:1")
    before = {str(record.name) for record in transport.store.names()}
    transport.parse_reference(text).delete()
    (gone,) = before - {str(record.name) for record in transport.store.names()}
    assert gone == str(Named.parse(text, default_domain="localhost"))
    with pytest.raises(ImageNotFoundError):
        transport.parse_reference("localhost/tools:2").delete()
