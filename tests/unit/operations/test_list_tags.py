"""Listing tags: of repositories, layouts and archives."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstore.errors import InvalidInputError, KstoreError, NotFoundError, RemoteError
from kstore.operations.list_tags import TagList, list_tags
from kstore.transports import Transports
from tests.support.dockertars import modern_docker, tar_of
from tests.support.faultserver import Fault, FaultServer
from tests.support.images import random_image, write_oci_layout

ONE, TWO = random_image(1, compression="none"), random_image(2, compression="none")


def tag(server: FaultServer, *tags: str) -> None:
    for each in tags:
        server.add_manifest(ONE.raw.data, ONE.raw.media_type, "team/app", each)


@pytest.mark.parametrize("prefix", ["", "docker://"])
def test_every_page_of_a_repository_is_listed(
    transports: Transports, faulty: FaultServer, prefix: str
) -> None:
    wanted = [f"v{number:03}" for number in range(25)]
    tag(faulty, *wanted)
    faulty.page_size = 10
    found = list_tags(transports, f"{prefix}{faulty.host}/team/app")
    assert found == TagList(f"{faulty.host}/team/app", tuple(wanted))
    assert len(faulty.seen("GET", "/tags/list")) == 3


@pytest.mark.parametrize("mark", [":v1", f"@{ONE.raw.digest}"])
def test_one_image_is_no_repository(transports: Transports, mark: str) -> None:
    with pytest.raises(InvalidInputError, match="is one image") as caught:
        list_tags(transports, f"docker://127.0.0.1:1/team/app{mark}")
    assert caught.value.hint == "kstore list-tags docker://127.0.0.1:1/team/app"


def test_a_repository_that_is_not_there_is_not_found(
    transports: Transports, faulty: FaultServer
) -> None:
    with pytest.raises(NotFoundError, match="has no repository team/none"):
        list_tags(transports, f"{faulty.host}/team/none")


def test_a_list_that_leads_round_in_circles_is_given_up(
    transports: Transports, faulty: FaultServer
) -> None:
    tag(faulty, "a")
    same = Fault(headers={"Link": '</v2/team/app/tags/list?n=1000>; rel="next"'})
    faulty.fault(same, "GET", "/tags/list", times=5)
    with pytest.raises(RemoteError, match="would never end"):
        list_tags(transports, f"{faulty.host}/team/app")


def test_a_layout_lists_its_refs(transports: Transports, tmp_path: Path) -> None:
    write_oci_layout(tmp_path / "layout", {"v1": ONE, "v2": TWO})
    found = list_tags(transports, f"oci:{tmp_path / 'layout'}")
    assert found == TagList(None, ("v1", "v2"))
    assert found.to_json() == {"Tags": ["v1", "v2"]}


def test_an_image_without_a_tag_is_listed_by_its_place(
    transports: Transports, tmp_path: Path
) -> None:
    archive = tmp_path / "images.tar"
    archive.write_bytes(tar_of(modern_docker({"app:1 app:2": ONE, "": TWO})))
    found = list_tags(transports, f"docker-archive:{archive}")
    names = ("docker.io/library/app:1", "docker.io/library/app:2")
    assert found == TagList(None, (*names, "@1"))


def test_one_image_of_a_layout_has_no_tags_to_list(transports: Transports, tmp_path: Path) -> None:
    write_oci_layout(tmp_path / "layout", {"v1": ONE})
    with pytest.raises(InvalidInputError, match="is one image of several"):
        list_tags(transports, f"oci:{tmp_path / 'layout'}:v1")


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("dir:images", 6, None),
        ("nonsense://x", 2, None),
        ("kstore:app", 6, "kstore images app"),
        ("Not A Name", 2, None),
    ],
)
def test_what_has_no_tags_is_one_sentence(
    transports: Transports, text: str, code: int, hint: str | None
) -> None:
    with pytest.raises(KstoreError) as caught:
        list_tags(transports, text)
    assert (caught.value.exit_code, caught.value.hint) == (code, hint)
