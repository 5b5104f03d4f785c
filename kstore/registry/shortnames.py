"""Short names: which repository a name without a registry means.

A name recorded by an earlier choice counts first, then an alias of the configuration, then the
registries to search in; where nothing of that says anything, Docker Hub, as docker has it.

Source: containers-registries.conf(5), "SHORT-NAME ALIASING".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from kstore.errors import InvalidInputError, InvalidReferenceError
from kstore.reference import Named, has_domain
from kstore.registry.plaintoml import read_toml
from kstore.registry.privatefile import changing, replace_private
from kstore.registry.registriesconf import RegistriesConf
from kstore.values import dataclass

__all__ = ["Chooser", "Resolved", "ShortNames"]

#: Asks the user which of several (the argument after the short name) is meant.
Chooser = Callable[[str, Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a short name may mean, in the order to try; ``short`` is it without tag and digest.

    ``why`` says where the candidates come from; ``chosen``: the user chose, so the answer is worth
    remembering once it has proved right.
    """

    short: str
    candidates: tuple[Named, ...]
    why: str
    chosen: bool = False


class ShortNames:
    """Resolves short names by ``conf`` and by ``file``, which holds earlier choices (None: none).

    ``choose`` asks the user; None where there is nobody to ask.
    """

    def __init__(
        self, conf: RegistriesConf, file: Path | None = None, choose: Chooser | None = None
    ) -> None:
        self.conf = conf
        self._file = file
        self._choose = choose

    def resolve(self, text: str) -> Resolved | None:
        """What ``text`` (a name that a user wrote) may mean; None for one that says its registry.

        Raises InvalidReferenceError for what is no name, InvalidInputError where a choice is needed
        and nobody can be asked, or an alias is no name.
        """
        if has_domain(text):
            return None
        plain = Named.parse(text)  # says what is wrong with it
        return self._alias(text, plain) or self._searched(text, plain)

    def meanings(self, text: str) -> tuple[Named, ...]:
        """Everything the short name ``text`` may mean; nobody is asked, and nothing is refused."""
        plain = Named.parse(text)
        resolved = self._alias(text, plain)
        return resolved.candidates if resolved is not None else self._in_every_registry(text)

    def _alias(self, text: str, plain: Named) -> Resolved | None:
        short = _stripped(text)
        for aliases, where in ((self._recorded(), str(self._file)), (self.conf.aliases, None)):
            value = aliases.get(short)
            if value:
                found = _alias(short, value, where or "the registry configuration")
                found = replace(found, tag=plain.tag, digest=plain.digest)
                return Resolved(short, (found,), f"alias in {where or 'registries.conf'}")
            if value == "":
                break  # taken back: what comes after does not count
        return None

    def _in_every_registry(self, text: str) -> tuple[Named, ...]:
        return tuple(Named.parse(text, default_domain=host) for host in self.conf.search)

    def _searched(self, text: str, plain: Named) -> Resolved:
        short, found = _stripped(text), self._in_every_registry(text)
        if not found:
            return Resolved(short, (plain,), "docker.io is meant by default")
        why = "unqualified-search-registries"
        mode = self.conf.mode
        if len(found) == 1 or mode == "disabled":
            return Resolved(short, found, why)
        if self._choose is not None:
            shown = [str(named) for named in found]
            chosen = self._choose(short, shown)
            return Resolved(short, (found[shown.index(chosen)],), "chosen", chosen=True)
        if mode == "enforcing":
            registries = ", ".join(self.conf.search)
            raise InvalidInputError(
                f"{text!r} may mean an image of any of {registries}, and short-name-mode enforcing"
                " wants one to be chosen",
                hint=f"give the full name, e.g. {found[0]}",
            )
        return Resolved(short, found, why)

    def remember(self, short: str, named: Named) -> None:
        """Record that ``short`` means the repository of ``named``; StorageError, ConflictError."""
        if self._file is None:
            return
        what = f"short-name file {self._file}"
        with changing(self._file, what) as target:
            aliases = {**self._recorded(), short: named.repository}
            lines = [f'"{name}" = "{value}"\n' for name, value in sorted(aliases.items())]
            replace_private(target, "[aliases]\n" + "".join(lines), what)

    def _recorded(self) -> dict[str, str]:
        document = read_toml(self._file) if self._file is not None else None
        aliases = (document or {}).get("aliases", {})
        if not isinstance(aliases, dict) or not all(
            isinstance(value, str) and '"' not in name + value for name, value in aliases.items()
        ):
            raise InvalidInputError(f"{self._file}: aliases is not a table of texts")
        return aliases


def _stripped(text: str) -> str:
    """``text`` as a user wrote it, without tag and digest."""
    name = text.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def _alias(short: str, value: str, where: str) -> Named:
    try:
        found = Named.parse(value)
    except InvalidReferenceError as exc:
        raise InvalidInputError(f"alias {short!r} in {where}: {exc.message}") from exc
    if not has_domain(value) or not found.is_bare:
        raise InvalidInputError(
            f"alias {short!r} in {where} is {value!r:.200}, not a full repository name"
        )
    return found
