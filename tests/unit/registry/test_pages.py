from __future__ import annotations

import json

import pytest

from kstore.errors import IntegrityError, NotFoundError, RemoteError
from kstore.registry import RegistryClient, pages
from tests.support.faultserver import Fault, FaultServer


@pytest.fixture
def stocked(server: FaultServer) -> FaultServer:
    for number in range(7):
        server.add_manifest(b"{}", "x/y", tag=f"v{number}")
    return server


TAGS = [f"v{number}" for number in range(7)]


def link(text: str) -> Fault:
    return Fault(headers={"Link": text})


def test_tags_come_page_by_page(stocked: FaultServer, client: RegistryClient) -> None:
    stocked.page_size = 3
    tags = client.tags("team/app")
    assert [next(tags), next(tags)] == TAGS[:2]
    assert len(stocked.seen("GET", "/tags/")) == 1
    assert list(tags) == TAGS[2:]
    assert len(stocked.seen("GET", "/tags/")) == 3


def test_the_catalog_comes_page_by_page(stocked: FaultServer, client: RegistryClient) -> None:
    for name in ("a", "b/c", "d"):
        stocked.add_manifest(b"{}", "x/y", path=name, tag="x")
    stocked.page_size = 2
    assert list(client.catalog()) == ["a", "b/c", "d", "team/app"]


def test_an_unknown_repository_is_named(client: RegistryClient) -> None:
    with pytest.raises(NotFoundError, match="has no repository nobody/here"):
        list(client.tags("nobody/here"))


def test_no_tags_may_be_null(stocked: FaultServer, client: RegistryClient) -> None:
    stocked.fault(Fault(body=b'{"name":"team/app","tags":null}'), "GET", "/tags/")
    assert list(client.tags("team/app")) == []


def test_names_outside_the_grammar_are_left_out_with_a_warning(
    stocked: FaultServer, client: RegistryClient, warnings: list[str]
) -> None:
    body = json.dumps({"tags": ["good", "../bad", "", 5, "x\x1b[2J", "sha256:0"]}).encode()
    stocked.fault(Fault(body=body), "GET", "/tags/")
    assert list(client.tags("team/app")) == ["good"]
    assert len(warnings) == 5
    assert not any("\x1b" in text for text in warnings)
    body = json.dumps({"repositories": ["good/one", "Bad", "../x"]}).encode()
    stocked.fault(Fault(body=body), "GET", "/_catalog")
    assert list(client.catalog()) == ["good/one"]


@pytest.mark.parametrize(
    "text",
    [
        '</v2/team/app/tags/list?n=1000>; rel="next"',
        "<?n=1000>; rel=next",
        '</v2/team/app/tags/list?n=1000>; title="x"; rel="next"',
    ],
)
def test_a_page_that_names_itself_as_the_next_is_not_followed_for_ever(
    stocked: FaultServer, client: RegistryClient, text: str
) -> None:
    stocked.fault(link(text), "GET", "/tags/", times=99)
    with pytest.raises(RemoteError, match="never end"):
        list(client.tags("team/app"))
    assert len(stocked.seen("GET", "/tags/")) == 1


def test_two_pages_that_name_each_other_are_not_followed_for_ever(
    stocked: FaultServer, client: RegistryClient
) -> None:
    for number in range(50):
        stocked.fault(link(f'<?n={number % 2}>; rel="next"'), "GET", "/tags/")
    with pytest.raises(RemoteError, match="never end"):
        list(client.tags("team/app"))
    assert len(stocked.seen("GET", "/tags/")) == 3


def test_an_endless_chain_of_new_pages_is_cut_off(
    stocked: FaultServer, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGES", 5)
    for number in range(50):
        stocked.fault(link(f'<?n={number}>; rel="next"'), "GET", "/tags/")
    with pytest.raises(RemoteError, match="more than 5 pages"):
        list(client.tags("team/app"))


def test_too_many_tags_are_cut_off(
    stocked: FaultServer, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_ITEMS", 5)
    with pytest.raises(RemoteError, match="more than 5 entries"):
        list(client.tags("team/app"))


def test_a_list_does_not_continue_elsewhere(stocked: FaultServer, client: RegistryClient) -> None:
    with FaultServer() as other:
        for text in (f"{other.url}/v2/team/app/tags/list", f"//{other.host}/x"):
            stocked.fault(link(f'<{text}>; rel="next"'), "GET", "/tags/")
            with pytest.raises(RemoteError, match="continues on another host"):
                list(client.tags("team/app"))
        assert other.requests == []


def test_a_list_does_not_continue_in_a_file(stocked: FaultServer, client: RegistryClient) -> None:
    stocked.fault(link('<file:///etc/passwd>; rel="next"'), "GET", "/tags/")
    with pytest.raises(RemoteError, match="not http"):
        list(client.tags("team/app"))


@pytest.mark.parametrize(
    "text", ['<x>; rel="prev"', "garbage", "<", '<x>; rel="nextish"', '<x>; title="rel=next']
)
def test_a_link_that_is_no_next_page_ends_the_list(
    stocked: FaultServer, client: RegistryClient, text: str
) -> None:
    stocked.fault(link(text), "GET", "/tags/")
    assert list(client.tags("team/app")) == TAGS


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"tags": {}}', b'{"tags":[],"tags":["x"]}'])
def test_a_page_that_is_no_list_is_an_error(
    stocked: FaultServer, client: RegistryClient, body: bytes
) -> None:
    stocked.fault(Fault(body=body), "GET", "/tags/")
    with pytest.raises(RemoteError):
        list(client.tags("team/app"))


def test_an_endless_page_is_cut_off(stocked: FaultServer, client: RegistryClient) -> None:
    stocked.fault(Fault(endless=True), "GET", "/tags/")
    with pytest.raises(IntegrityError, match="larger than the limit"):
        list(client.tags("team/app"))
