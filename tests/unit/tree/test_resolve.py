"""Paths in a tree, followed as a program inside would."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstore.errors import ConflictError, InvalidInputError
from kstore.formats.layer_tar import TarReader
from kstore.streams import BytesStream
from kstore.tree.contents import Contents
from kstore.tree.layer import LayerTar
from kstore.tree.resolve import resolve
from tests.support.trees import made, make_tree


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    files = {
        "usr/lib/libc.so": b"",
        "lib": "usr/lib",
        "etc/motd": b"hello",
        "away": "../../../../etc",
        "abs": "/usr",
        "loop": "loop2",
        "loop2": "loop",
        "dangling": "nowhere/at/all",
    }
    with LayerTar(make_tree(tmp_path / "tree", files), warn=lambda _: None) as tar:
        data = made(tar)
    contents = Contents()
    contents.add_layer(TarReader(BytesStream(data)), "base")
    return contents


@pytest.mark.parametrize(
    ("path", "found", "kind"),
    [
        ("/etc/motd", "etc/motd", "file"),
        ("etc//./motd", "etc/motd", "file"),
        ("/lib/libc.so", "usr/lib/libc.so", "file"),
        ("/lib", "usr/lib", "dir"),
        ("/abs/lib/../lib/new", "usr/lib/new", None),
        ("/away/motd", "etc/motd", "file"),
        ("/../../etc", "etc", "dir"),
        ("/lib/../x", "usr/x", None),
        ("/new/../etc/motd", "etc/motd", "file"),
        ("/new/a/../../etc/a/b", "etc/a/b", None),
        ("/dangling/x", "nowhere/at/all/x", None),
        ("/", "", "dir"),
    ],
)
def test_a_path_leads_where_it_leads_inside(
    contents: Contents, path: str, found: str, kind: str | None
) -> None:
    spot = resolve(contents, path)
    assert ("/".join(spot.parts), spot.kind) == (found, kind)


def test_the_last_link_is_followed_only_if_wanted(contents: Contents) -> None:
    spot = resolve(contents, "/lib", follow=False)
    assert (spot.parts, spot.kind) == (("lib",), "symlink")
    assert resolve(contents, "/lib/libc.so", follow=False).parts == ("usr", "lib", "libc.so")


def test_links_in_circles_are_given_up(contents: Contents) -> None:
    with pytest.raises(InvalidInputError, match="too many symbolic links"):
        resolve(contents, "/loop/x")


def test_a_file_is_no_way_to_anywhere(contents: Contents) -> None:
    with pytest.raises(ConflictError, match="/etc/motd is not a directory"):
        resolve(contents, "/etc/motd/x")
