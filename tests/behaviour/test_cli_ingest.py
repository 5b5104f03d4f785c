"""``kstore ingest``: what stopped pulls have left, and dropping it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.store import Store
from kstore.store.partials import Part
from tests.support.cli import Result, run
from tests.support.stores import listing

SIZE = 20_000
ORIGIN = "registry.example/team/app"


def of_prefix(prefix: str) -> bytes:
    """Some bytes whose digest begins so."""
    return next(
        data for n in range(1_000_000) if Digest.of(data := b"%d" % n).hex.startswith(prefix)
    )


ONE, TWO, OTHER = (Digest.of(of_prefix(prefix)) for prefix in ("ab1", "ab2", "c"))


def begin(root: Path, digest: Digest, count: int, age: float) -> None:
    """Leave a partial download of ``count`` bytes that last grew ``age`` seconds ago."""
    with (
        Store.open(root) as store,
        store.lease("test") as lease,
        lease.ingest(digest, SIZE, origin=ORIGIN) as ingest,
    ):
        ingest.write(bytes(count))
    moment = time.time() - age
    os.utime(Part.of(root / "ingest", digest).path, (moment, moment))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    begin(root, ONE, 5_000, age=7300)
    begin(root, TWO, 12_345, age=30)
    begin(root, OTHER, 1, age=3 * 86400 + 5)
    return root


def ingest(root: Path, *args: object) -> Result:
    return run("--root", root, "ingest", *args)


def left(root: Path) -> set[Digest]:
    with Store.open(root) as store:
        return {partial.digest for partial in store.partial_downloads()}


def test_ls_shows_what_is_held_the_latest_first(root: Path) -> None:
    result = ingest(root, "ls")
    assert (result.code, result.err) == (0, "")
    header, *lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert header == "DIGEST HELD SIZE ORIGIN AGE"
    assert lines == [
        f"{TWO} 12.35 kB 20 kB {ORIGIN} 30 seconds ago",
        f"{ONE} 5 kB 20 kB {ORIGIN} 2 hours ago",
        f"{OTHER} 1 B 20 kB {ORIGIN} 3 days ago",
    ]
    assert ingest(root, "ls", "-n").out == result.out.partition("\n")[2]
    assert ingest(root, "ls", "--format", "table").out == result.out


def test_ls_as_json_and_through_a_template(root: Path) -> None:
    shown = json.loads(ingest(root, "ls", "--format", "json").out)
    assert [entry["digest"] for entry in shown] == [str(TWO), str(ONE), str(OTHER)]
    assert shown[1] | {"age_seconds": 0} == {
        "digest": str(ONE),
        "held": 5_000,
        "size": SIZE,
        "origin": ORIGIN,
        "age_seconds": 0,
    }
    assert 7300 <= shown[1]["age_seconds"] < 7360
    lines = ingest(root, "ls", "--format", "{{.HeldBytes}} of {{.Bytes}}").out.splitlines()
    assert lines == ["12345 of 20000", "5000 of 20000", "1 of 20000"]


def test_ls_of_a_store_that_is_not_there_is_empty_and_makes_none(tmp_path: Path) -> None:
    assert ingest(tmp_path / "none", "ls", "-n") == Result(0, "", "")
    assert not (tmp_path / "none").exists()


def test_rm_takes_a_digest_or_a_unique_beginning(root: Path) -> None:
    assert ingest(root, "rm", str(ONE), "c") == Result(0, f"Dropped: {ONE}\nDropped: {OTHER}\n", "")
    assert left(root) == {TWO}
    assert ingest(root, "rm", f"sha256:{TWO.hex[:2]}").out == f"Dropped: {TWO}\n"
    assert listing(root / "ingest") == []


def test_rm_refuses_an_ambiguous_beginning_and_names_the_candidates(root: Path) -> None:
    result = ingest(root, "rm", "ab")
    assert (result.code, result.out) == (4, "")
    assert ONE.short in result.err
    assert TWO.short in result.err
    assert left(root) == {ONE, TWO, OTHER}


@pytest.mark.parametrize(
    ("text", "code"), [("f" * 64, 3), ("sha512:ab1", 3), ("xyz", 2), ("", 2), ("sha256:", 2)]
)
def test_rm_reports_what_it_cannot_find_and_drops_the_rest(
    root: Path, text: str, code: int
) -> None:
    result = ingest(root, "rm", text, "ab1")
    assert (result.code, result.out) == (code, f"Dropped: {ONE}\n")
    assert result.err.startswith("kstore: ")


def test_rm_all_drops_every_one(root: Path) -> None:
    result = ingest(root, "rm", "--all")
    assert (result.code, len(result.out.splitlines())) == (0, 3)
    assert left(root) == set()
    assert ingest(root, "rm", "--all") == Result(0, "", "")


def test_rm_wants_digests_or_all_and_not_both(root: Path) -> None:
    assert ingest(root, "rm").code == 2
    assert ingest(root, "rm", "--all", "ab1").code == 2
    assert left(root) == {ONE, TWO, OTHER}


def test_rm_leaves_what_somebody_is_writing(root: Path) -> None:
    with Store.open(root) as store, store.lease("test") as lease, lease.ingest(ONE, SIZE) as held:
        held.write(b"more")
        one = ingest(root, "rm", "ab1")
        every = ingest(root, "rm", "--all")
    assert (one.code, one.out) == (4, "")
    assert f"being written by process {os.getpid()}" in one.err
    assert every.code == 0
    assert "1 download being written by other commands stayed" in every.err
    assert left(root) == {ONE}


def test_the_help_says_that_they_age_out() -> None:
    result = run("ingest", "--help")
    assert "7 days" in " ".join(result.out.split())
    assert run("ingest") == result


@pytest.mark.parametrize("name", ["ls", "rm"])
def test_each_subcommand_explains_itself(name: str) -> None:
    out = run("ingest", name, "--help").out
    assert out.startswith(f"Usage: kstore ingest {name}")
    assert "Examples:" in out


def test_an_unknown_subcommand_is_refused_with_the_nearest_one() -> None:
    result = run("ingest", "lss")
    assert result.code == 2
    assert "no such command 'lss'; did you mean 'ls'?" in result.err
