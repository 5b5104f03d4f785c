"""The fast reader sees what the standard one sees, or leaves the file to it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.errors import InvalidInputError, StorageError
from kstore.registry.plaintoml import MAX_FILE, read_simple, read_toml

SIMPLE = """\
# comment
unqualified-search-registries = ["a.example", "b.example:5000",] # two
empty = []
  short-name-mode="enforcing"

[aliases]
"a/b" = "c.example/a/b"
x = "y"
[[registry]]
prefix = "a.example" # where
insecure = true
[[registry.mirror]]
location = "m.example"
[[registry.mirror]]
[[registry]]
blocked = false
"""

HARD = [
    "a = []\n[[a]]", 'a = """x"""', "a = 'x'", "a = '''x'''", 'a."b" = "c"', "[a]\n[a]",
    'a = "x" b', 'a = "x\\n"', "[[a.b]]", 'a = ["x" "y"]', "a = [,]", 'a = "1"\na = "2"',
    "[a]\n[[a]]", "[[a]]\n[a]", '[[a]]\nb = "x"\n[[a.b]]', 'a = "x\r"', "a = [] #\x01", "a = 3",
    'a = ["x",\n"y"]', "a = {}", 'a = "', "=", "[a", "[[a]", "a", 'a = "x"\n\x00', "a = True",
    'a = "\x7f"', '"" = "x" "', "[a.b]", "[ a ]", 'a = "b" = "c"', 'a b = "c"', 'é = "x"',
]  # fmt: skip


def test_what_is_simple_is_read_as_the_standard_reader_does() -> None:
    assert read_simple(SIMPLE) == tomllib.loads(SIMPLE)


@pytest.mark.parametrize("text", HARD, ids=range(len(HARD)))
def test_what_is_not_simple_is_left_to_the_standard_reader(text: str) -> None:
    assert read_simple(text) is None


_LINES = st.lists(
    st.one_of(
        st.sampled_from([*SIMPLE.splitlines(), *"\n".join(HARD).split("\n")]),
        st.text(alphabet="ab\"'[]=.,#\\ \t\n-_\r", max_size=12),
    ),
    max_size=8,
)


@given(_LINES)
def test_the_two_readers_never_see_different_things(lines: list[str]) -> None:
    text = "\n".join(lines)
    found = read_simple(text)
    if found is not None:
        assert found == tomllib.loads(text)


def test_a_file_is_read_whatever_of_toml_it_uses(tmp_path: Path) -> None:
    file = tmp_path / "x.conf"
    file.write_text("a = '''x\ny'''\n")
    assert read_toml(file) == {"a": "x\ny"}
    assert read_toml(tmp_path / "absent") is None


def test_a_file_that_is_not_toml_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "x.conf"
    file.write_text('[[registry]]\nprefix = "a\n')
    with pytest.raises(InvalidInputError, match=r"x\.conf is not valid TOML: .*line 2"):
        read_toml(file)
    file.write_bytes(b"a = 1\n\xff\n")
    with pytest.raises(InvalidInputError, match=r"x\.conf is not UTF-8 text \(line 2\)"):
        read_toml(file)
    file.write_text("a = " + "[" * 100_000)
    with pytest.raises(InvalidInputError, match=r"x\.conf is not valid TOML"):
        read_toml(file)


def test_a_file_of_any_size_is_not_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "x.conf"
    with file.open("wb") as stream:
        stream.truncate(MAX_FILE * 100)
    with pytest.raises(InvalidInputError, match="larger than the limit"):
        read_toml(file)
    with pytest.raises(StorageError, match="cannot be read"):
        read_toml(tmp_path)
