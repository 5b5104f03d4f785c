"""registries.d: where the signatures of an image are kept, beside its registry.

Every ``*.yaml`` file of one directory counts.  For each field, the most specific scope that has it
decides, then ``default-docker``: the manual says that only the most specific scope counts, but this
is what podman and skopeo do, and what users have.

Source: containers-registries.d(5); the order of scopes is that of containers-policy.json(5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from functools import partial
from pathlib import Path
from typing import Any

from kstore.errors import InvalidInputError, StorageError
from kstore.registry.plainyaml import as_mapping, parse_yaml
from kstore.values import dataclass

__all__ = ["RegistriesD", "Section", "read_registries_d"]

MAX_FILE = 1 << 20
_MAX_FILES = 1000


@dataclass(frozen=True, slots=True)
class Section:
    """What is said about one scope, None where nothing is.

    ``read`` and ``write`` are the addresses (``file:``, ``http:``, ``https:``) of signatures;
    ``attachments``: the registry itself keeps sigstore signatures.
    """

    read: str | None = None
    write: str | None = None
    attachments: bool | None = None


@dataclass(frozen=True, slots=True)
class RegistriesD:
    """Everything the files say."""

    default: Section = Section()
    scopes: Mapping[str, Section] = field(default_factory=dict)

    def lookup(self, names: Sequence[str]) -> Section:
        """What holds for an image whose scopes are ``names``, the most specific first."""
        found = [self.scopes[name] for name in names if name in self.scopes]
        values: dict[str, Any] = {}
        for each in fields(Section):
            given = (getattr(section, each.name) for section in (*found, self.default))
            values[each.name] = next((value for value in given if value is not None), None)
        return Section(**values)


def read_registries_d(directories: Sequence[Path]) -> RegistriesD:
    """The files of the first of ``directories`` that exists; nothing without one.

    Unknown keys are ignored.  Raises InvalidInputError naming the file (and line) for what is not
    understood, or said in two files; StorageError for what cannot be read.
    """
    for directory in directories:
        try:
            names = sorted(path for path in directory.iterdir() if path.name.endswith(".yaml"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise StorageError(f"cannot read {directory}: {exc.strerror}") from exc
        return _merged(names[:_MAX_FILES])
    return RegistriesD()


def _merged(files: Sequence[Path]) -> RegistriesD:
    default: tuple[Path, Section] | None = None
    scopes: dict[str, tuple[Path, Section]] = {}
    for file in files:
        document = _load(file)
        if document.get("default-docker") is not None:
            if default is not None:
                raise _invalid(file, f"default-docker is in {default[0]} already")
            default = file, _section(document["default-docker"], file, "default-docker")
        for scope, value in _map(document.get("docker"), file, "docker").items():
            if scope in scopes:
                raise _invalid(file, f"scope {scope!r:.200} is in {scopes[scope][0]} already")
            scopes[scope] = file, _section(value, file, f"docker.{scope}")
    found = {scope: section for scope, (_, section) in scopes.items()}
    return RegistriesD(default[1] if default else Section(), found)


def _section(value: Any, file: Path, where: str) -> Section:
    section = _map(value, file, where)

    def text(*names: str) -> str | None:
        for name in names:
            if (said := section.get(name)) is not None and said != "":
                if not isinstance(said, str):
                    raise _invalid(file, f"{where}.{name} is not a text")
                return said
        return None

    attachments = section.get("use-sigstore-attachments")
    if attachments is not None and not isinstance(attachments, bool):
        raise _invalid(file, f"{where}.use-sigstore-attachments is neither true nor false")
    read = text("lookaside", "sigstore")
    return Section(read, text("lookaside-staging", "sigstore-staging") or read, attachments)


def _map(value: Any, file: Path, where: str) -> dict[str, Any]:
    return as_mapping(value, where, partial(_invalid, file))


def _invalid(file: Path, why: str) -> InvalidInputError:
    return InvalidInputError(f"{file} is not a valid file for registries.d: {why}")


def _load(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE + 1)
    except OSError as exc:
        raise StorageError(f"cannot read {file}: {exc.strerror}") from exc
    if len(data) > MAX_FILE:
        raise _invalid(file, f"it has more than {MAX_FILE} bytes")
    return parse_yaml(data, partial(_invalid, file))
