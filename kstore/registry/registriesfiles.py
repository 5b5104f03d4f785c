"""registries.conf: which files there are, how they add up, and what may stand in them.

Source: containers-registries.conf(5), containers-registries.conf.d(5), containers-config(5).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from kstore.errors import InvalidInputError, InvalidReferenceError, StorageError
from kstore.reference import Named
from kstore.registry.plaintoml import read_toml
from kstore.registry.registriesconf import (
    WILDCARD,
    Mirror,
    PullFrom,
    RegistriesConf,
    Registry,
    ShortNameMode,
)
from kstore.values import dataclass

__all__ = ["RegistriesPaths", "load_registries"]

_MAX_FILES = 1000
_TOP_KEYS = frozenset({
    "unqualified-search-registries", "credential-helpers", "short-name-mode", "aliases",
    "additional-layer-store-auth-helper", "registry", "registries",
})  # fmt: skip
_REGISTRY_KEYS = {
    "prefix": str, "location": str, "insecure": bool, "blocked": bool,
    "mirror-by-digest-only": bool, "mirror": list,
}  # fmt: skip
_MIRROR_KEYS = {"location": str, "insecure": bool, "pull-from-mirror": str}
_WRONG = {str: "not a text", bool: "neither true nor false", list: "not a list of tables"}
_V1_KEYS = frozenset({"search", "insecure", "block"})
_V2_KEYS = _TOP_KEYS - {"registries"}


@dataclass(frozen=True, slots=True)
class RegistriesPaths:
    """Where configuration may be.

    The first of ``main`` that exists, then the ``*.conf`` files of ``drop_ins`` in the order of
    their names; of several with one name that of the later directory counts.  ``only`` takes the
    place of all of these, ``last`` is read after all others; both must exist.

    ``old_rules``, those before containers-config(5): where the first of ``main``, the user's own,
    is there, only the last of ``drop_ins``, the user's own, counts; ``only`` takes the place of
    ``main`` alone.
    """

    main: tuple[Path, ...] = ()
    drop_ins: tuple[Path, ...] = ()
    only: Path | None = None
    last: Path | None = None
    old_rules: bool = False


def load_registries(paths: RegistriesPaths) -> RegistriesConf:
    """Everything the files say.

    Raises InvalidInputError naming file and entry (for what is not TOML, the line) and StorageError
    for a file that cannot be read.
    """
    sum_ = _Sum()
    drop_ins = paths.drop_ins
    if paths.only is not None:
        sum_.add(paths.only, _required(paths.only), main=True)
        drop_ins = drop_ins if paths.old_rules else ()
    else:
        for number, file in enumerate(paths.main):
            document = read_toml(file)
            if document is not None:
                sum_.add(file, document, main=True)
                drop_ins = drop_ins[-1:] if paths.old_rules and number == 0 else drop_ins
                break
    for file in _drop_ins(drop_ins):
        document = read_toml(file)
        if document is not None:
            sum_.add(file, document, main=False)
    if paths.last is not None:
        sum_.add(paths.last, _required(paths.last), main=False)
    return sum_.result()


def _required(file: Path) -> dict[str, Any]:
    document = read_toml(file)
    if document is None:
        raise InvalidInputError(f"registry configuration {file} does not exist")
    return document


def _drop_ins(directories: tuple[Path, ...]) -> list[Path]:
    found: dict[str, Path] = {}
    for directory in directories:
        try:
            files = [path for path in directory.iterdir() if path.name.endswith(".conf")]
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise StorageError(f"{directory} cannot be read: {exc.strerror}") from exc
        found |= {path.name: path for path in files}
    if len(found) > _MAX_FILES:
        raise InvalidInputError(f"there are more than {_MAX_FILES} files of registry configuration")
    # A name that leads to no file (to /dev/null, say) hides those of earlier directories.
    return [path for _, path in sorted(found.items()) if path.is_file()]


class _Entry:
    """What messages call the table of a registry, put into words only where there is one."""

    __slots__ = ("_file", "_prefix")

    def __init__(self, file: Path, prefix: str) -> None:
        self._file = file
        self._prefix = prefix

    def __str__(self) -> str:
        return f"{self._file} [[registry]] {self._prefix!r:.100}"


class _Sum:
    """The files so far."""

    def __init__(self) -> None:
        self._registries: dict[str, Registry] = {}
        self._aliases: dict[str, str] = {}
        self._search: tuple[str, ...] = ()
        self._mode: ShortNameMode = "permissive"
        self._helpers: tuple[str, ...] | None = None
        self._files: list[Path] = []
        self._warnings: list[str] = []

    def add(self, file: Path, document: Mapping[str, Any], *, main: bool) -> None:
        self._files.append(file)
        self._warn_of(document, _TOP_KEYS, str(file))
        old = self._version_1(file, _table(document, "registries", str(file)))
        if any(old.values()):  # old files were shipped with empty lists, which say nothing
            if not main or not _V2_KEYS.isdisjoint(document):
                where = "mixed with version 2" if main else "in a drop-in file"
                raise InvalidInputError(f"{file} has the old [registries] tables {where}")
            self._add_version_1(file, old)
            return
        search = _texts(document, "unqualified-search-registries", str(file))
        if search is not None:
            self._search = tuple(_search_host(host, file) for host in search)
        mode = _text(document, "short-name-mode", str(file))
        if mode:
            self._mode = cast(ShortNameMode, _one_of(mode, get_args(ShortNameMode), file))
        helpers = _texts(document, "credential-helpers", str(file))
        if helpers is not None:
            self._helpers = tuple(helpers)
        aliases = _table(document, "aliases", str(file))
        for name, value in aliases.items():
            if not isinstance(value, str):
                raise InvalidInputError(f"{file}: the alias {name!r} is not a text")
        self._aliases.update(aliases)
        for table in _tables(document, "registry", str(file)):
            registry = self._registry(table, file)
            before = self._registries.get(registry.prefix)
            if before is not None and before.file is file:
                self._warnings.append(
                    f"{file}: of the tables for {registry.prefix}, the last counts"
                )
            self._registries[registry.prefix] = registry

    def result(self) -> RegistriesConf:
        _check_agreement(self._registries)
        return RegistriesConf(
            self._registries,
            self._aliases,
            self._search,
            self._mode,
            self._helpers,
            tuple(self._files),
            tuple(self._warnings),
        )

    def _version_1(self, file: Path, tables: Mapping[str, Any]) -> dict[str, list[str]]:
        self._warn_of(tables, _V1_KEYS, f"{file} [registries]")
        said: dict[str, list[str]] = {}
        for kind in _V1_KEYS & tables.keys():
            where = f"{file} [registries.{kind}]"
            said[kind] = _texts(_table(tables, kind, str(file)), "registries", where) or []
        return said

    def _add_version_1(self, file: Path, said: Mapping[str, list[str]]) -> None:
        self._search = tuple(_search_host(host, file) for host in said.get("search", []))
        insecure, blocked = said.get("insecure", []), said.get("block", [])
        for host in dict.fromkeys(map(_trimmed, (*insecure, *blocked))):
            _check_location(host, f"{file} [registries]")
            self._registries[host] = Registry(
                host, host, file, host in map(_trimmed, insecure), host in map(_trimmed, blocked)
            )

    def _registry(self, table: Mapping[str, Any], file: Path) -> Registry:
        prefix, location = _text(table, "prefix", file), _text(table, "location", file)
        prefix, location = _trimmed(prefix), _trimmed(location)
        if not prefix and not location:
            raise InvalidInputError(f"{file}: a [[registry]] has neither prefix nor location")
        prefix = prefix or location
        what = _Entry(file, prefix)
        if "pull-from-mirror" in table:
            raise InvalidInputError(f"{what}: pull-from-mirror belongs to a mirror")
        self._check_kinds(table, _REGISTRY_KEYS, what)
        if prefix.startswith(WILDCARD):
            if any(char in prefix for char in "/@:"):
                raise InvalidInputError(f"{what}: a prefix with a wildcard is a host without port")
        elif not location:
            raise InvalidInputError(f"{what} has no location")
        if prefix != location:
            _check_location(prefix, what)
        _check_location(location, what)
        by_digest = table.get("mirror-by-digest-only", False)
        mirrors = [self._mirror(mirror, what, by_digest) for mirror in table.get("mirror", ())]
        insecure, blocked = table.get("insecure", False), table.get("blocked", False)
        return Registry(prefix, location, file, insecure, blocked, tuple(mirrors))

    def _mirror(self, table: Any, what: object, by_digest: bool) -> Mirror:
        if not isinstance(table, dict):
            raise InvalidInputError(f"{what}: mirror is not a list of tables")
        self._check_kinds(table, _MIRROR_KEYS, what, "a mirror of ")
        location = _trimmed(table.get("location", ""))
        if not location:
            raise InvalidInputError(f"{what}: a mirror has no location")
        _check_location(location, what)
        pull = table.get("pull-from-mirror")
        if pull and by_digest:
            raise InvalidInputError(
                f"{what} has mirror-by-digest-only and a mirror with pull-from-mirror"
            )
        if pull:
            _one_of(pull, get_args(PullFrom), what)
        pull = pull or ("digest-only" if by_digest else "all")
        return Mirror(location, table.get("insecure", False), cast(PullFrom, pull))

    def _check_kinds(
        self, table: Mapping[str, Any], kinds: Mapping[str, type], what: object, part: str = ""
    ) -> None:
        """Refuse values of the wrong type, and warn of keys that are unknown."""
        for key, value in table.items():
            kind = kinds.get(key)
            if kind is None:
                self._warn(key, f"{part}{what}")
            elif type(value) is not kind:
                raise InvalidInputError(f"{what}: {key} is {_WRONG[kind]}")

    def _warn_of(self, table: Mapping[str, Any], known: frozenset[str], what: str) -> None:
        for key in table:
            if key not in known:
                self._warn(key, what)

    def _warn(self, key: str, what: str) -> None:
        self._warnings.append(f"{what}: the key {key!r:.100} is unknown, and ignored")


def _check_agreement(registries: Mapping[str, Registry]) -> None:
    """Two tables that lead to one server must agree about it."""
    by_location: dict[str, Registry] = {}
    for registry in registries.values():
        other = by_location.setdefault(registry.location, registry)
        if registry.location and (registry.insecure, registry.blocked) != (
            other.insecure,
            other.blocked,
        ):
            key = "insecure" if registry.insecure != other.insecure else "blocked"
            raise InvalidInputError(
                f"{registry.file} and {other.file} say different things about {key} of"
                f" {registry.location} (prefixes {registry.prefix} and {other.prefix})"
            )


def _trimmed(text: str) -> str:
    return text.rstrip("/")


def _check_location(text: str, what: object) -> None:
    if text.startswith(("http://", "https://")):
        raise InvalidInputError(
            f"{what}: {text!r:.200} must be written without http:// or https://"
        )


def _search_host(text: str, file: Path) -> str:
    host = _trimmed(text)
    _check_location(host, str(file))
    try:
        return Named(host, "any/name").domain
    except InvalidReferenceError as exc:
        raise InvalidInputError(f"{file}: {text!r:.200} is not a registry to search in") from exc


def _one_of(text: str, allowed: tuple[str, ...], what: object) -> str:
    if text not in allowed:
        raise InvalidInputError(f"{what}: {text!r:.100} is not one of {', '.join(allowed)}")
    return text


def _text(table: Mapping[str, Any], key: str, what: object) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise InvalidInputError(f"{what}: {key} is not a text")
    return value


def _texts(table: Mapping[str, Any], key: str, what: object) -> list[str] | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInputError(f"{what}: {key} is not a list of texts")
    return value


def _table(table: Mapping[str, Any], key: str, what: object) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise InvalidInputError(f"{what}: {key} is not a table")
    return value


def _tables(table: Mapping[str, Any], key: str, what: object) -> list[Mapping[str, Any]]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidInputError(f"{what}: {key} is not a list of tables")
    return value
