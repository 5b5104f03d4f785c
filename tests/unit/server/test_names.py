from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstore.errors import InvalidReferenceError
from kstore.reference import Named
from kstore.server.names import path_of, paths_of, repositories_for

A = "a" * 64


@pytest.mark.parametrize(
    ("path", "repositories"),
    [
        ("app", ["localhost/app", "docker.io/library/app"]),
        ("team/app", ["localhost/team/app", "docker.io/team/app"]),
        ("library/app", ["localhost/library/app", "docker.io/library/app"]),
        ("quay.io/app", ["quay.io/app", "localhost/quay.io/app", "docker.io/quay.io/app"]),
        (
            "docker.io/app",
            ["docker.io/library/app", "localhost/docker.io/app", "docker.io/docker.io/app"],
        ),
        ("localhost/app", ["localhost/app", "localhost/localhost/app", "docker.io/localhost/app"]),
        (
            "example.com_5000/app",
            ["example.com:5000/app", "localhost/example.com_5000/app"],
        ),
        ("localhost_5000/app", ["localhost:5000/app", "localhost/localhost_5000/app"]),
        ("registry_5000/app", ["localhost/registry_5000/app", "docker.io/registry_5000/app"]),
        ("example.com:5000/app", ["example.com:5000/app"]),
        (A, [f"localhost/{A}"]),
    ],
)
def test_a_path_means_the_host_it_starts_with_then_local_names_then_docker_hub(
    path: str, repositories: list[str]
) -> None:
    found = [each.repository for each in repositories_for(path)]
    assert found[: len(repositories)] == repositories


def test_a_host_without_dots_but_with_a_port_is_the_last_meaning() -> None:
    assert repositories_for("registry_5000/app")[-1].repository == "registry:5000/app"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "App",
        "a//b",
        "a/",
        "../etc",
        "a/../b",
        ".",
        "a b",
        "a:tag",
        "a/b:tag",
        "quay.io/a:tag",
        f"quay.io/a@sha256:{A}",
        "a\nb",
        "a\n",
        "é",
        "quay.io/",
        "a" * 300,
    ],
)
def test_what_is_no_repository_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidReferenceError):
        repositories_for(path)


def test_a_local_repository_is_listed_without_its_domain() -> None:
    assert paths_of(["localhost/team/app"]) == ["team/app"]


def test_repositories_of_registries_are_listed_with_their_host() -> None:
    stored = ["docker.io/library/busybox", "quay.io/x/y", "example.com:5000/app"]
    assert paths_of(stored) == [
        "docker.io/library/busybox",
        "example.com_5000/app",
        "quay.io/x/y",
    ]


def test_a_local_repository_that_another_one_hides_is_listed_in_full() -> None:
    stored = ["localhost/quay.io/app", "quay.io/app"]
    assert paths_of(stored) == ["localhost/quay.io/app", "quay.io/app"]


_hosts = st.sampled_from(
    ["localhost", "docker.io", "quay.io", "example.com:5000", "localhost:5000", "registry:80"]
)
_paths = st.lists(
    st.sampled_from(["app", "library", "quay.io", "localhost", "docker.io", "a_b", "x.y_80"]),
    min_size=1,
    max_size=3,
).map("/".join)


@settings(database=None)
@given(st.sets(st.builds(lambda h, p: Named.parse(f"{h}/{p}").repository, _hosts, _paths)))
def test_every_listed_path_leads_to_a_stored_repository_and_all_are_led_to(
    stored: set[str],
) -> None:
    reached = set()
    for repository in stored:
        domain, _, path = repository.partition("/")
        listed = path_of(Named(domain, path), frozenset(stored))
        meanings = [each.repository for each in repositories_for(listed)]
        # "P:tag" is looked up in each meaning, so being among them is enough to be pullable.
        assert repository in meanings
        reached.add(listed)
    assert set(paths_of(stored)) == reached
