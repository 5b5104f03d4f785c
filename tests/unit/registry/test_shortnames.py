"""What a name without a registry means, and how a choice is remembered."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import InvalidInputError, InvalidReferenceError
from kstore.reference import Named
from kstore.registry.registriesconf import RegistriesConf, ShortNameMode
from kstore.registry.shortnames import Resolved, ShortNames

DIGEST = Digest.of(b"x")


def candidates(resolved: Resolved | None) -> list[str]:
    assert resolved is not None
    return [str(named) for named in resolved.candidates]


@pytest.mark.parametrize("name", ["r.io/a", "localhost/a", "r:5000/a", "docker.io/library/a:1"])
def test_a_full_name_is_no_short_name(name: str) -> None:
    assert ShortNames(RegistriesConf(search=("s.io",))).resolve(name) is None


@pytest.mark.parametrize("name", ["", "A", "a:", "a@b", "/a"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidReferenceError):
        ShortNames(RegistriesConf()).resolve(name)


def test_docker_io_is_meant_where_nothing_is_configured() -> None:
    assert candidates(ShortNames(RegistriesConf()).resolve("a:1")) == ["docker.io/library/a:1"]


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("a", "r.io/x/a"),
        ("a:1", "r.io/x/a:1"),
        (f"a@{DIGEST}", f"r.io/x/a@{DIGEST}"),
        ("ns/b", "docker.io/library/b"),
        ("other", "s.io/other"),
    ],
)
def test_an_alias_comes_before_the_search(name: str, there: str) -> None:
    conf = RegistriesConf(
        aliases={"a": "r.io/x/a", "ns/b": "docker.io/b"}, search=("s.io",), mode="enforcing"
    )
    assert candidates(ShortNames(conf).resolve(name)) == [there]


def test_an_alias_that_was_taken_back_is_none() -> None:
    conf = RegistriesConf(aliases={"a": ""}, search=("s.io",))
    assert candidates(ShortNames(conf).resolve("a")) == ["s.io/a"]


@pytest.mark.parametrize("value", ["r.io/x:1", "plain", "r.io/UP", f"r.io/x@{DIGEST}", "r.io"])
def test_an_alias_that_is_no_repository_is_an_error(value: str) -> None:
    with pytest.raises(InvalidInputError, match="alias 'a'"):
        ShortNames(RegistriesConf(aliases={"a": value})).resolve("a")


def test_one_registry_to_search_needs_no_choice() -> None:
    conf = RegistriesConf(search=("docker.io",), mode="enforcing")
    assert candidates(ShortNames(conf).resolve("a:1")) == ["docker.io/library/a:1"]


@pytest.mark.parametrize(
    ("mode", "terminal", "expected"),
    [
        ("disabled", True, ["s.io/a", "t.io/a"]),
        ("disabled", False, ["s.io/a", "t.io/a"]),
        ("permissive", True, ["t.io/a"]),
        ("permissive", False, ["s.io/a", "t.io/a"]),
        ("enforcing", True, ["t.io/a"]),
        ("enforcing", False, None),
    ],
)
def test_the_mode_says_whether_to_ask_to_try_or_to_fail(
    mode: ShortNameMode, terminal: bool, expected: list[str] | None
) -> None:
    asked = []

    def second(short: str, names: Sequence[str]) -> str:
        asked.append((short, *names))
        return names[1]

    conf = RegistriesConf(search=("s.io", "t.io"), mode=mode)
    names = ShortNames(conf, choose=second if terminal else None)
    if expected is None:
        with pytest.raises(InvalidInputError, match=r"s\.io, t\.io.*enforcing") as caught:
            names.resolve("a")
        assert "s.io/a" in (caught.value.hint or "")
        return
    resolved = names.resolve("a")
    assert candidates(resolved) == expected
    assert resolved is not None
    assert resolved.chosen == bool(asked) == (len(expected) == 1)
    assert asked in ([], [("a", "s.io/a", "t.io/a")])


def test_a_choice_is_remembered_and_counts_first(tmp_path: Path) -> None:
    file = tmp_path / "cache/short-name-aliases.conf"
    conf = RegistriesConf(aliases={"a": "r.io/a"}, search=("s.io", "t.io"), mode="enforcing")
    names = ShortNames(conf, file)
    names.remember("a", Named.parse("t.io/a:1"))
    names.remember("ns/b", Named.parse("t.io/ns/b"))
    assert candidates(names.resolve("a:2")) == ["t.io/a:2"]
    assert candidates(ShortNames(conf, file).resolve("ns/b")) == ["t.io/ns/b"]
    assert file.read_text() == '[aliases]\n"a" = "t.io/a"\n"ns/b" = "t.io/ns/b"\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_damaged_file_of_choices_is_named(tmp_path: Path) -> None:
    file = tmp_path / "aliases.conf"
    for text in ("[aliases]\na = 3\n", "aliases = 3\n", "[aliases\n"):
        file.write_text(text)
        with pytest.raises(InvalidInputError, match=r"aliases\.conf"):
            ShortNames(RegistriesConf(), file).resolve("a")
