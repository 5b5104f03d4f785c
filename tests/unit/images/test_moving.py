"""Pulling and pushing by kpod's names, over a registry on loopback, archives and layouts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kstore.app import App, RegistryOptions, SigningOptions, TrustOptions
from kstore.copier.progress import Event
from kstore.errors import (
    ImageNotFoundError,
    InvalidInputError,
    InvalidReferenceError,
    KstoreError,
    NotFoundError,
    PolicyRejectedError,
    UnsupportedError,
)
from kstore.images import DEFAULT_REGISTRY, CopyOptions, find_image, pull_image, push_image
from kstore.operations.save import SaveOptions, save_images
from kstore.settings import load
from kstore.store import ImageRecord, Store
from tests.support.dockertars import modern_docker, tar_of
from tests.support.faultserver import Basic, FaultServer
from tests.support.fixturestore import FixtureStore
from tests.support.gpgkeys import GpgHome
from tests.support.images import TestImage, random_image, write_oci_layout

PLAIN = CopyOptions(registry=RegistryOptions(tls_verify=False))


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(load({"TMPDIR": str(tmp_path)}, root=tmp_path / "root"))


def offer(server: FaultServer, image: TestImage, tag: str, path: str = "team/app") -> str:
    """Put an image into the registry; its name."""
    for data in image.blobs.values():
        server.add_blob(data, path)
    server.add_manifest(image.raw.data, image.raw.media_type, path, tag)
    return f"{server.host}/{path}:{tag}"


def names(images: tuple[ImageRecord, ...]) -> list[list[str]]:
    return [[str(record.name) for record in image.names] for image in images]


# ---- pulling


@pytest.mark.parametrize("prefix", ["", DEFAULT_REGISTRY], ids=["a name", "docker://"])
def test_an_image_is_pulled_from_its_registry(store: Store, app: App, prefix: str) -> None:
    image = random_image(1)
    with FaultServer() as server:
        name = offer(server, image, "v1")
        (pulled,) = pull_image(store, app, prefix + name, options=PLAIN)
    assert (pulled.id, names((pulled,))) == (image.id, [[name]])
    assert store.read_manifest(find_image(store, name).manifests[0]).data == image.raw.data


def test_registry_options_are_honoured(store: Store, app: App) -> None:
    with FaultServer() as server:
        server.auth = Basic(("ann", "secret"))
        name = offer(server, random_image(1), "v1")
        with pytest.raises(KstoreError):
            pull_image(store, app, name, options=PLAIN)
        options = CopyOptions(registry=RegistryOptions(tls_verify=False, creds="ann:secret"))
        assert names(pull_image(store, app, name, options=options)) == [[name]]


def test_all_tags_are_pulled(store: Store, app: App) -> None:
    with FaultServer() as server:
        wanted = {offer(server, random_image(n), f"v{n}") for n in (1, 2)}
        pulled = pull_image(store, app, f"{server.host}/team/app", True, PLAIN)
    assert {name for each in names(pulled) for name in each} == wanted


def test_one_of_all_tags_that_fails_does_not_stop_the_others(store: Store, app: App) -> None:
    with FaultServer() as server:
        offer(server, random_image(1), "v1")
        bad = random_image(2)
        server.add_manifest(bad.raw.data, bad.raw.media_type, "team/app", "v0")
        with pytest.raises(NotFoundError):
            pull_image(store, app, f"{server.host}/team/app", True, PLAIN)
        assert [str(record.name) for record in store.names()] == [f"{server.host}/team/app:v1"]


def test_a_pull_by_digest_leaves_latest_where_it_is(store: Store, app: App) -> None:
    with FaultServer() as server:
        latest = offer(server, random_image(1), "latest")
        pull_image(store, app, latest, options=PLAIN)
        other = random_image(2)
        offer(server, other, "other")
        by_digest = f"{server.host}/team/app@{other.raw.digest}"
        (pulled,) = pull_image(store, app, by_digest, options=PLAIN)
    assert (pulled.id, names((pulled,))) == (other.id, [[by_digest]])
    assert find_image(store, latest).id == random_image(1).id


def test_pulling_twice_is_the_same_image(store: Store, app: App) -> None:
    with FaultServer() as server:
        name = offer(server, random_image(1), "v1")
        for _ in range(2):
            (pulled,) = pull_image(store, app, name, options=PLAIN)
            assert (pulled.id, names((pulled,))) == (random_image(1).id, [[name]])
    assert len(store.images()) == 1


def test_an_archive_brings_all_its_images_under_all_their_names(
    store: Store, app: App, tmp_path: Path
) -> None:
    one, two = random_image(1, compression="none"), random_image(2, compression="none")
    path = tmp_path / "images.tar"
    path.write_bytes(tar_of(modern_docker({"a.io/x:1 a.io/x:2": one, "": two})))
    pulled = pull_image(store, app, f"docker-archive:{path}")
    assert sorted(names(pulled)) == [[], ["a.io/x:1", "a.io/x:2"]]
    assert {image.id for image in pulled} == {one.id, two.id}


def test_one_image_of_an_archive_can_be_chosen(store: Store, app: App, tmp_path: Path) -> None:
    one, two = random_image(1, compression="none"), random_image(2, compression="none")
    path = tmp_path / "images.tar"
    path.write_bytes(tar_of(modern_docker({"a.io/x:1": one, "a.io/y:1": two})))
    pulled = pull_image(store, app, f"docker-archive:{path}:a.io/y:1")
    assert (names(pulled), pulled[0].id) == ([["a.io/y:1"]], two.id)


def test_a_layout_brings_images_under_the_names_in_it(
    store: Store, app: App, tmp_path: Path
) -> None:
    one, two = random_image(1), random_image(2)
    write_oci_layout(tmp_path / "layout", {"quay.io/a/b:1": one, "short": two})
    pulled = pull_image(store, app, f"oci:{tmp_path / 'layout'}:short")
    assert (names(pulled), pulled[0].id) == ([["localhost/short:latest"]], two.id)
    pulled = pull_image(store, app, f"oci:{tmp_path / 'layout'}")
    assert sorted(names(pulled)) == [["localhost/short:latest"], ["quay.io/a/b:1"]]


def test_a_directory_brings_an_image_without_a_name(
    own: FixtureStore, app: App, tmp_path: Path
) -> None:
    push_image(own.store, app, "foobar", f"dir:{tmp_path / 'out'}")
    with Store.open(tmp_path / "second", command="test") as second:
        (pulled,) = pull_image(second, app, f"dir:{tmp_path / 'out'}")
    assert (pulled.id, pulled.names) == (own.b.id, ())


@pytest.mark.parametrize(
    ("text", "all_tags", "error", "message"),
    [
        ("", False, InvalidInputError, "empty"),
        ("nosuch://x", False, InvalidReferenceError, "unknown transport 'nosuch'"),
        ("kstore:alpine", False, InvalidInputError, "in the store already"),
        ("oci-archive:/x", True, InvalidInputError, "only a registry has tags"),
        ("docker-archive:/does/not/exist", False, NotFoundError, "no such file"),
        ("dir:/does/not/exist", False, NotFoundError, "/does/not/exist"),
        ("containers-storage:x", False, UnsupportedError, "not supported"),
        ("Upper/Case", False, InvalidReferenceError, "lower case"),
    ],
)
def test_what_cannot_be_pulled_says_why(
    store: Store, app: App, text: str, all_tags: bool, error: type[KstoreError], message: str
) -> None:
    with pytest.raises(error, match=message):
        pull_image(store, app, text, all_tags)
    assert store.images() == []


def test_an_archive_without_images_is_an_error(store: Store, app: App, tmp_path: Path) -> None:
    path = tmp_path / "empty.tar"
    path.write_bytes(tar_of(modern_docker({})))
    with pytest.raises(ImageNotFoundError, match="holds no image"):
        pull_image(store, app, f"docker-archive:{path}")


# ---- trust


REJECT = {"default": [{"type": "reject"}]}


def policy_file(path: Path, policy: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(policy))
    return path


@pytest.mark.parametrize("text", ["docker-archive:{0}/x.tar", "docker-archive:{0}/x.tar:a.io/x:1"])
def test_a_policy_that_is_named_counts_for_everything_that_is_pulled(
    store: Store, app: App, tmp_path: Path, text: str
) -> None:
    image = random_image(1, compression="none")
    (tmp_path / "x.tar").write_bytes(tar_of(modern_docker({"a.io/x:1": image})))
    trust = TrustOptions(policy=policy_file(tmp_path / "reject.json", REJECT))
    text = text.format(tmp_path)
    with pytest.raises(PolicyRejectedError):
        pull_image(store, app, text, options=CopyOptions(trust=trust))
    assert store.images() == []
    assert names(pull_image(store, app, text)) == [["a.io/x:1"]]


def test_the_policy_of_the_machine_counts_if_none_is_named(
    own: FixtureStore, tmp_path: Path
) -> None:
    policy_file(tmp_path / ".config" / "containers" / "policy.json", REJECT)
    app = App(load({"HOME": str(tmp_path)}, root=own.store.root))
    with FaultServer() as server:
        name = offer(server, random_image(1), "v1")
        with pytest.raises(PolicyRejectedError):
            pull_image(own.store, app, name, options=PLAIN)
        options = replace(PLAIN, trust=TrustOptions(insecure=True))
        assert names(pull_image(own.store, app, name, options=options)) == [[name]]


@pytest.mark.peer
def test_what_is_signed_when_it_is_pushed_is_trusted_when_it_is_pulled(
    own: FixtureStore, tmp_path: Path
) -> None:
    with GpgHome() as home:
        key, other = home.make("Alice <alice@example.org>"), home.make("Eve <eve@example.org>")
        settings = replace(load({}, root=own.store.root), gnupg_home=home.path)
        app = App(settings)
        signing = SigningOptions((key,), identity="a.io/foobar:1")
        place = f"dir:{tmp_path / 'signed'}"
        push_image(own.store, app, "foobar", place, CopyOptions(signing=signing))
        public = {}
        for each in (key, other):
            public[each] = tmp_path / f"{each}.gpg"
            public[each].write_bytes(home.export(each))
    with Store.open(tmp_path / "second", command="test") as second:
        for each, trusted in ((other, False), (key, True)):
            rule = {
                "type": "signedBy",
                "keyType": "GPGKeys",
                "keyPath": str(public[each]),
                "signedIdentity": {"type": "exactReference", "dockerReference": "a.io/foobar:1"},
            }
            policy = policy_file(tmp_path / "policy.json", {"default": [rule]})
            options = CopyOptions(trust=TrustOptions(policy=policy))
            if trusted:
                assert [image.id for image in pull_image(second, app, place, options=options)] == [
                    own.b.id
                ]
            else:
                with pytest.raises(PolicyRejectedError):
                    pull_image(second, app, place, options=options)
                assert second.images() == []


# ---- pushing


def test_an_image_is_pushed_as_it_is(own: FixtureStore, app: App) -> None:
    with FaultServer() as server:
        for destination in (f"docker://{server.host}/a/b:1", f"{server.host}/a/c:1"):
            result = push_image(own.store, app, "foobar", destination, PLAIN)
            assert result.digest == own.b.raw.digest
        for path in ("a/b", "a/c"):
            assert server.manifests[path]["1"] == (own.b.raw.media_type, own.b.raw.data)


def test_an_image_is_pushed_by_a_name_and_an_id_that_agree(
    own: FixtureStore, app: App, tmp_path: Path
) -> None:
    destination = f"oci:{tmp_path / 'out'}:x"
    assert push_image(own.store, app, f"foobar@{own.b.id}", destination).digest == own.b.raw.digest
    with pytest.raises(ImageNotFoundError):
        push_image(own.store, app, f"foobar@{own.a.id}", destination)


@pytest.mark.parametrize("kind", ["none", "zstd"])
def test_layers_are_pushed_in_the_compression_that_is_asked_for(
    own: FixtureStore, app: App, tmp_path: Path, kind: str
) -> None:
    options = CopyOptions(compression=kind)  # type: ignore[arg-type]
    push_image(own.store, app, "foobar", f"oci:{tmp_path / 'out'}:x", options)
    with Store.open(tmp_path / "second", command="test") as second:
        (pulled,) = pull_image(second, app, f"oci:{tmp_path / 'out'}")
        assert pulled.id == own.b.id, "the config says what the layers unpack to"
        text = second.read_manifest(pulled.manifests[0]).data.decode()
    assert text.count(f"tar+{kind}" if kind != "none" else 'layer.v1.tar"') == 1


@pytest.mark.parametrize(
    ("source", "destination", "error"),
    [
        ("", "dir:/x", InvalidInputError),
        ("foobar", "", InvalidInputError),
        ("nosuch", "dir:/x", ImageNotFoundError),
        ("foobar", "nosuch://x", InvalidReferenceError),
        ("foobar", "kstore:x", InvalidInputError),
    ],
)
def test_what_cannot_be_pushed_says_why(
    own: FixtureStore, app: App, source: str, destination: str, error: type[KstoreError]
) -> None:
    with pytest.raises(error):
        push_image(own.store, app, source, destination)


@pytest.mark.parametrize("quiet", [False, True], ids=["told", "quiet"])
def test_events_are_told_unless_quiet(
    own: FixtureStore, app: App, tmp_path: Path, quiet: bool
) -> None:
    events: list[Event] = []
    options = CopyOptions(report=events.append, quiet=quiet)
    push_image(own.store, app, "foobar", f"oci:{tmp_path / 'out'}:x", options)
    assert bool(events) is not quiet


def test_what_was_saved_is_pulled_again(own: FixtureStore, app: App, tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    with app.transports(own.store) as transports:
        texts = ["foobar", "alpine:3.20", "alpine"]
        save_images(own.store, transports, texts, str(path), SaveOptions())
    with Store.open(tmp_path / "second", command="test") as second:
        pulled = pull_image(second, app, f"docker-archive:{path}")
        assert {image.id for image in pulled} == {own.a.id, own.b.id}
        assert len(second.names()) == 3
