"""Pulling every tag of a repository, and images for other platforms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kstore.app import App, RegistryOptions
from kstore.errors import (
    InvalidInputError,
    InvalidReferenceError,
    KstoreError,
    NotFoundError,
    UnsupportedError,
)
from kstore.operations.pull import PullOptions, PullResult, pull_image
from kstore.operations.push import push_image
from kstore.platforms import Platform, host_platform
from kstore.settings import load
from kstore.store import Store
from kstore.transports import Transports
from tests.support.faultserver import FaultServer
from tests.support.images import random_artifact, random_image
from tests.support.localregistry import LocalRegistry, serve

HERE = host_platform()
ELSEWHERE = Platform("linux", "s390x")
MINE, ALSO_MINE = random_image(1, platform=HERE), random_image(2, platform=HERE)
FOREIGN = random_image(3, platform=ELSEWHERE)
EVERY_TAG = PullOptions(all_tags=True)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    with serve(tmp_path / "registry") as registry:
        yield registry


def tags(result: PullResult) -> list[str | None]:
    return [pulled.name.tag for pulled in result.pulled]


def test_a_tag_that_is_no_image_does_not_stop_the_others(
    store: Store, transports: Transports, registry: LocalRegistry
) -> None:
    registry.push("team/app", "a", MINE)
    registry.push("team/app", "b", random_artifact(1))
    registry.push("team/app", "c", ALSO_MINE)
    result = pull_image(store, transports, f"{registry.host}/team/app", EVERY_TAG)
    assert tags(result) == ["a", "c"]
    [failure] = result.failed
    assert (failure.name.tag, type(failure.error)) == ("b", UnsupportedError)


def test_a_layer_that_is_wrong_does_not_stop_the_others_either(
    store: Store, transports: Transports, registry: LocalRegistry
) -> None:
    registry.push("team/app", "a", MINE)
    registry.push("team/app", "b", ALSO_MINE)
    blob = registry.root / "blobs/sha256" / MINE.layers[0].digest.hex
    blob.chmod(0o600)
    blob.write_bytes(bytes(blob.stat().st_size))
    result = pull_image(store, transports, f"{registry.host}/team/app", EVERY_TAG)
    assert (tags(result), [f.name.tag for f in result.failed]) == (["b"], ["a"])


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_a_damaged_image_is_missing_to_who_pulls_what_is_missing(
    store: Store, transports: Transports, registry: LocalRegistry, what: str
) -> None:
    registry.push("team/app", "a", MINE)
    name, options = f"{registry.host}/team/app:a", PullOptions(if_missing=True)
    pull_image(store, transports, name)
    digits = {
        "manifest": MINE.raw.digest.hex,
        "config": MINE.id,
        "layer": MINE.layers[0].digest.hex,
    }
    (store.root / "blobs" / "sha256" / digits[what]).unlink()
    store.check()
    assert not pull_image(store, transports, name, options).pulled[0].present
    assert store.check(deep=True).problems == ()
    assert pull_image(store, transports, name, options).pulled[0].present


def test_one_name_that_fails_is_an_error(
    store: Store, transports: Transports, registry: LocalRegistry
) -> None:
    registry.push("team/app", "b", random_artifact(1))
    with pytest.raises(UnsupportedError):
        pull_image(store, transports, f"{registry.host}/team/app:b")


@pytest.mark.parametrize("suffix", [":1", f"@sha256:{'0' * 64}"])
def test_every_tag_is_asked_for_without_a_tag(
    store: Store, transports: Transports, suffix: str
) -> None:
    with pytest.raises(InvalidInputError):
        pull_image(store, transports, f"localhost:1/team/app{suffix}", EVERY_TAG)


@pytest.mark.parametrize("platform", [None, HERE])
def test_an_image_for_another_platform_is_pulled_and_said_to_be_one(
    store: Store, transports: Transports, registry: LocalRegistry, platform: Platform | None
) -> None:
    registry.push("team/app", "1", FOREIGN)
    options = PullOptions(platform=platform)
    [pulled] = pull_image(store, transports, f"{registry.host}/team/app:1", options).pulled
    assert pulled.other_platform == ELSEWHERE


@pytest.mark.parametrize(("image", "platform"), [(MINE, None), (FOREIGN, ELSEWHERE)])
def test_an_image_for_the_wanted_platform_needs_no_word(
    store: Store, transports: Transports, registry: LocalRegistry, image: object, platform: Platform
) -> None:
    registry.push("team/app", "1", image)  # type: ignore[arg-type]
    options = PullOptions(platform=platform)
    [pulled] = pull_image(store, transports, f"{registry.host}/team/app:1", options).pulled
    assert pulled.other_platform is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nothing://image", InvalidReferenceError),
        ("kstore:image", InvalidInputError),
        ("storage:image", InvalidInputError),
        ("docker://", InvalidReferenceError),
        ("docker://Upper", InvalidReferenceError),
    ],
)
def test_what_cannot_be_pulled_from_or_pushed_to_says_why(
    store: Store, transports: Transports, text: str, error: type[KstoreError]
) -> None:
    with pytest.raises(error):
        pull_image(store, transports, text)
    with pytest.raises(error):
        push_image(store, transports, MINE.id, text)


@pytest.mark.parametrize("text", ["oci:directory", "dir:directory", "docker-archive:file.tar"])
def test_an_image_that_is_not_in_a_registry_is_not_pulled(
    store: Store, transports: Transports, text: str
) -> None:
    with pytest.raises(UnsupportedError):
        pull_image(store, transports, text)


def test_a_choice_among_registries_is_remembered_once_it_has_proved_right(
    store: Store, faulty: FaultServer, tmp_path: Path
) -> None:
    conf, recorded = tmp_path / "registries.conf", tmp_path / "cache/short-names.conf"
    conf.write_text(
        f'unqualified-search-registries = ["127.0.0.1:1", "{faulty.host}"]\n'
        f'short-name-mode = "enforcing"\n'
    )
    settings = replace(load({}, root=store.root), registries_only=conf, short_names=recorded)
    image = random_image(1)
    for data in image.blobs.values():
        faulty.add_blob(data, "team/app")
    asked: list[tuple[str, ...]] = []

    def choose(short: str, names: Sequence[str]) -> str:
        asked.append((short, *names))
        return names[1]

    app = App(settings, choose=choose)
    with app.transports(store, RegistryOptions(tls_verify=False)) as transports:
        with pytest.raises(NotFoundError):
            pull_image(store, transports, "team/app:v1")
        assert not recorded.exists(), "nothing was found there"
        faulty.add_manifest(image.raw.data, image.raw.media_type, "team/app", "v1")
        result = pull_image(store, transports, "team/app:v1")
        assert str(result.pulled[0].name) == f"{faulty.host}/team/app:v1"
        pull_image(store, transports, "team/app:v1")
    wanted = ("team/app", "127.0.0.1:1/team/app:v1", f"{faulty.host}/team/app:v1")
    assert asked == [wanted, wanted], "the third time it is known"
