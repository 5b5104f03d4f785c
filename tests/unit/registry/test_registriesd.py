"""registries.d: which fields count for which image, and what makes a file invalid."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstore.errors import InvalidInputError, StorageError
from kstore.registry.registriesd import RegistriesD, Section, read_registries_d

SCOPES = ("a.org/x/y:1", "a.org/x/y", "a.org/x", "a.org", "*.org")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "registries.d").mkdir()
    return tmp_path / "registries.d"


def read(directory: Path, **files: str) -> RegistriesD:
    for name, text in files.items():
        (directory / f"{name}.yaml").write_text(text)
    return read_registries_d([directory])


def test_the_most_specific_scope_that_has_a_field_decides(directory: Path) -> None:
    found = read(
        directory,
        a="default-docker:\n  lookaside: https://default/\n  use-sigstore-attachments: true\n"
        "docker:\n  a.org:\n    lookaside: https://host/\n",
        b="docker:\n  a.org/x:\n    lookaside-staging: file:///staging\n"
        "  a.org/x/y:\n    use-sigstore-attachments: false\n",
    )
    assert found.lookup(SCOPES) == Section("https://host/", "file:///staging", False)
    assert found.lookup(("b.org/x", "b.org")) == Section(
        "https://default/", "https://default/", True
    )


def test_a_scope_without_staging_is_written_where_it_is_read(directory: Path) -> None:
    found = read(
        directory,
        a="default-docker: {lookaside-staging: 'file:///staging'}\n"
        "docker: {a.org: {lookaside: 'file:///host'}}\n",
    )
    assert found.lookup(SCOPES) == Section("file:///host", "file:///host", None)


def test_the_old_names_of_fields_count_after_the_new_ones(directory: Path) -> None:
    found = read(
        directory,
        a="docker:\n  a.org: {sigstore: 'file:///old', sigstore-staging: 'file:///s'}\n"
        "  b.org: {sigstore: 'file:///old', lookaside: 'file:///new'}\n",
    )
    assert found.lookup(SCOPES) == Section("file:///old", "file:///s", None)
    assert found.lookup(("b.org",)) == Section("file:///new", "file:///new", None)


def test_unknown_keys_and_other_files_are_ignored(directory: Path) -> None:
    (directory / "notes.txt").write_text("{")
    (directory / "old.yml").write_text("{")
    found = read(directory, a="more: 1\ndocker: {a.org: {lookaside: 'file:///x', more: [1]}}\n")
    assert found.lookup(SCOPES).read == "file:///x"
    assert read(directory, a="", b="# nothing\n", c="docker:\ndefault-docker:\n") == RegistriesD()


def test_the_first_directory_that_is_there_counts_alone(directory: Path, tmp_path: Path) -> None:
    (directory / "a.yaml").write_text("default-docker: {lookaside: 'file:///x'}")
    gone, empty = tmp_path / "gone", tmp_path / "empty"
    empty.mkdir()
    assert read_registries_d([gone, directory]).default.read == "file:///x"
    assert read_registries_d([empty, directory]) == RegistriesD()
    assert read_registries_d([gone]) == RegistriesD()


BOMB = "a: &a [x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("docker: [", "line "),
        ("docker:\n  a: b\n c: d\n", "line 3"),
        ("docker: {a.org: {}}\ndocker: {}\n", "line 2: key 'docker' appears twice"),
        ("docker:\n  a.org: {}\n  a.org: {}\n", "line 3: key 'a.org' appears twice"),
        ("- 1\n", "not a mapping"),
        ("text", "not a mapping"),
        ("docker: [1]\n", "docker is not a mapping"),
        ("docker: {a.org: text}\n", "docker.a.org is not a mapping"),
        ("docker: {5: {}}\n", "docker is not a mapping with names"),
        ("default-docker: {lookaside: 5}\n", "default-docker.lookaside is not a text"),
        ("default-docker: {use-sigstore-attachments: 'yes'}\n", "neither true nor false"),
        ("docker: !!python/object/apply:os.system [id]\n", "line 1"),
        ("docker: &x\n  a: *x\n", "too large, or refers to itself"),
        (BOMB, "too large, or refers to itself"),
        ("[" * 5000, "not YAML|line"),
        ("\x00", "not YAML|line"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("# " + "x" * (1 << 20), "more than"),
    ],
    ids=lambda value: (
        value[:20].encode("unicode_escape").decode() if isinstance(value, str) else ""
    ),
)
def test_what_is_not_understood_is_said_with_file_and_line(
    directory: Path, text: str, reason: str
) -> None:
    with pytest.raises(InvalidInputError, match=reason) as raised:
        read(directory, a=text)
    assert str(directory / "a.yaml") in str(raised.value)


def test_what_two_files_say_is_refused(directory: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"b\.yaml .*'a\.org' is in .*a\.yaml already"):
        read(directory, a="docker: {a.org: {}}", b="docker: {a.org: {}}")
    with pytest.raises(InvalidInputError, match="default-docker is in"):
        read(directory, a="default-docker: {x: 1}", b="default-docker: {x: 1}")


@pytest.mark.unprivileged
def test_a_directory_that_must_not_be_read_is_said(directory: Path) -> None:
    directory.chmod(0)
    with pytest.raises(StorageError, match="cannot read"):
        read_registries_d([directory])
