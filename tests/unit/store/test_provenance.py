"""The file ``provenance`` tells what the catalog does, whatever happens to it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kstore.errors import StorageError
from kstore.store import Store
from kstore.store.provenance import Provenance, read_provenance, recorded
from kstore.store.root import Root
from tests.support.images import random_image
from tests.support.stores import named, put_image

ONE, TWO = random_image(1), random_image(2)
ZERO = "sha256:" + "0" * 64
OTHER = ("docker.io", "library/other")
ORIGIN = ("example.com:5000", "team/app")


def told(root: Path) -> Provenance:
    return read_provenance(Root(root, read_only=False))


def known(root: Path) -> Provenance:
    with Store.open(root) as store:
        return recorded(store._session)


def fill(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, ONE, "one", origin=ORIGIN)
        put_image(store, TWO, "two", origin=OTHER)
        put_image(store, random_image(4), "four", origin=("", "team/uploaded"))
        store.add_signatures(ONE.raw.digest, [b"signed", bytes(range(256))])


def test_what_comes_from_somewhere_or_is_signed_is_written_down(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(3), "plain")
    assert not (root / "provenance").exists()
    fill(root)
    assert told(root) == known(root)
    assert {origin[1:] for origin in told(root).origins} == {ORIGIN, OTHER}, "not what was uploaded"
    assert told(root).signatures == {ONE.raw.digest: [b"signed", bytes(range(256))]}
    assert (root / "provenance").stat().st_mode & 0o777 == 0o600


def test_tag_and_untag_write_nothing_there(root: Path) -> None:
    fill(root)
    before = (root / "provenance").stat()
    with Store.open(root) as store:
        store.tag(store.find_image("one"), [named("another")])
        store.untag(named("another"))
    assert (root / "provenance").stat() == before


def test_a_second_signature_is_added_and_the_same_one_is_not(root: Path) -> None:
    fill(root)
    for signature in (b"signed", b"another"):
        with Store.open(root) as store:
            store.add_signatures(ONE.raw.digest, [signature])
    assert told(root) == known(root)
    assert (root / "provenance").read_bytes().count(b'"signature"') == 3


@pytest.mark.parametrize("end", [b'{"manifest":"sha256:', b"\xff\xfe", b"", b"\n\n"])
def test_a_line_that_a_crash_has_torn_spoils_no_other(root: Path, end: bytes) -> None:
    fill(root)
    with (root / "provenance").open("ab") as file:
        file.write(end)
    with Store.open(root) as store:
        put_image(store, random_image(3), "three", origin=ORIGIN)
    assert told(root) == known(root)
    assert len(told(root).origins) == 9


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        f'{{"registry":"example.com","repository":"UPPER","at":1,"blobs":["{ZERO}"]}}',
        '{"registry":"example.com","repository":"team/app","at":1,"blobs":["sha256:0"]}',
        f'{{"registry":"example.com","repository":"app","at":{"9" * 19},"blobs":["{ZERO}"]}}',
        f'{{"registry":"example.com","repository":"team/app","at":"1","blobs":["{ZERO}"]}}',
        f'{{"registry":"user:secret@example.com","repository":"app","at":1,"blobs":["{ZERO}"]}}',
        f'{{"registry":"","repository":"team/app","at":1,"blobs":["{ZERO}"]}}',
        '{"registry":null,"repository":"team/app","at":1,"blobs":null}',
        '{"manifest":"sha256:0","signature":"AAAA"}',
        f'{{"manifest":"{ZERO}","signature":"?"}}',
        f'{{"manifest":"{ZERO}","signature":7}}',
    ],
)
def test_a_line_that_makes_no_sense_tells_nothing(root: Path, line: str) -> None:
    fill(root)
    before = told(root)
    with (root / "provenance").open("a") as file:
        file.write(f"\n{line}\n")
    assert told(root) == before


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [lose, cut])
@pytest.mark.parametrize("command", ["check", "prune"])
def test_a_check_and_a_prune_write_down_what_is_missing(
    root: Path, damage: Callable[[Path], None], command: str
) -> None:
    fill(root)
    damage(root / "provenance")
    assert told(root) != known(root)
    with Store.open(root) as store:
        assert getattr(store, command)()
    assert told(root) == known(root)


def test_a_prune_forgets_what_is_no_longer_true(root: Path) -> None:
    fill(root)
    with Store.open(root) as store:
        store.remove_name(named("one"))
    assert len(told(root).origins) == 6
    with Store.open(root) as store:
        store.prune()
    assert told(root) == known(root)
    (line,) = (root / "provenance").read_text().splitlines()
    assert json.loads(line)["repository"] == "library/other"


def test_a_file_that_cannot_be_written_is_a_warning_and_the_command_succeeds(root: Path) -> None:
    with Store.open(root):
        (root / "provenance").mkdir()
    warnings: list[str] = []
    with Store.open(root, warn=warnings.append) as store:
        put_image(store, ONE, "one", origin=ORIGIN)
    assert len(warnings) == 1
    assert warnings[0].startswith("provenance will be behind until the next check")
    assert b"one:latest" in (root / "index.json").read_bytes()


def test_a_file_that_cannot_be_read_is_an_error(root: Path) -> None:
    (root / "provenance").mkdir(parents=True)
    with pytest.raises(StorageError, match="provenance"):
        told(root)


def test_a_check_names_a_file_that_cannot_be_read_and_a_repair_writes_it_anew(root: Path) -> None:
    fill(root)
    (root / "provenance").unlink()
    (root / "provenance").symlink_to("provenance")
    with Store.open(root) as store:
        (problem,) = store.check().problems
        assert (problem.kind, problem.harmless) == ("provenance", False)
        assert store.repairs.mend([problem]) == [problem]
        assert store.check().problems == ()
    assert told(root) == known(root)


def test_what_stands_in_its_place_and_cannot_be_replaced_remains_a_problem(root: Path) -> None:
    fill(root)
    (root / "provenance").unlink()
    (root / "provenance").mkdir()
    with Store.open(root) as store:
        assert store.repairs.mend(store.check().problems) == []


def test_what_a_killed_prune_left_is_no_damage_and_goes_with_the_next(root: Path) -> None:
    fill(root)
    (root / ".provenance.0123456789ab").write_bytes(b"half")
    with Store.open(root) as store:
        assert store.check().problems == ()
        store.prune()
    assert not (root / ".provenance.0123456789ab").exists()


def test_a_link_in_its_place_is_not_followed(root: Path, tmp_path: Path) -> None:
    fill(root)
    (root / "provenance").unlink()
    (root / "provenance").symlink_to(tmp_path / "elsewhere")
    warnings: list[str] = []
    with Store.open(root, warn=warnings.append) as store:
        put_image(store, random_image(3), "three", origin=ORIGIN)
    assert len(warnings) == 1
    assert not (tmp_path / "elsewhere").exists()
