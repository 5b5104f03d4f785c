"""``--format``: the subset of Go templates that image tools have taught people to write.

A template is parsed and its fields are checked before anything is printed; every mistake is an
InvalidInputError that says where.  Work and output are bounded.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kstore.cli.output import render_table
from kstore.cli.template_functions import FUNCTIONS, MAX_TEXT, call, shown
from kstore.cli.template_syntax import (
    Assignment,
    Call,
    Choice,
    Declaration,
    Dot,
    Expression,
    Field,
    Literal,
    Loop,
    Node,
    Output,
    Text,
    Variable,
    parse,
)
from kstore.cli.template_tokens import template_error
from kstore.cli.text import printable
from kstore.values import dataclass

__all__ = ["Template", "column_title"]

_MAX_STEPS = 200_000
_MAX_OUTPUT = 16 * MAX_TEXT
_TABLE = re.compile(r"table(?:\s+|\\t)")
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

#: Maps whose keys are anybody's: a missing key is empty text there, not a mistake.
_OPEN_MAPS = frozenset({"labels", "annotations", "exposedports", "volumes"})

#: Fields that JSON leaves out where they are not set: empty text there, and no mistake.
#: Source: OCI image specification, "Properties" of the image config; what docker adds to it.
_OPTIONAL = {
    "config": frozenset(
        {
            *("cmd", "entrypoint", "env", "exposedports", "labels", "stopsignal", "user"),
            *("volumes", "workingdir", "healthcheck", "hostname", "onbuild", "shell"),
        }
    )
}

_NOTHING: Mapping[str, Any] = {}

Escape = Callable[[str], str]


def column_title(field: str) -> str:
    """The heading of a column: ``CreatedBy`` becomes ``CREATED BY``."""
    return _WORD_START.sub(" ", field).upper()


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template; ``table`` when it began with the word, ``fields`` what records have."""

    nodes: tuple[Node, ...]
    table: bool
    fields: tuple[str, ...] | None

    @classmethod
    def parse(cls, text: str, fields: Collection[str] | None = None) -> Template:
        """Parse ``text``; with ``fields``, check every field of the record that it names.

        Raises InvalidInputError naming the position for a syntax error, an unknown function, or
        an unknown field (with the known ones).
        """
        match = _TABLE.match(text)
        # Blanks keep the positions in messages those of the text the user wrote.
        body = " " * match.end() + text[match.end() :] if match else text
        nodes = parse(body)
        if match:
            nodes = _columns(nodes)
        known = None if fields is None else tuple(fields)
        for expression, own_dot in _expressions(nodes, own_dot=True):
            _check(expression, own_dot, known)
        return cls(nodes, match is not None, known)

    def uses(self, field: str) -> bool:
        """Whether the text may depend on this field of the record."""
        found = _expressions(self.nodes, own_dot=True)
        return any(_reads(expression, _plain(field)) for expression, _ in found)

    def render(self, record: Mapping[str, Any], escape: Escape = str) -> str:
        """The text for one record; values, not the template's own text, go through ``escape``."""
        run = _Run(record, escape)
        run.nodes(self.nodes, record)
        return "".join(run.parts)

    def lines(
        self,
        records: Iterable[Mapping[str, Any]],
        *,
        titles: Mapping[str, str] | None = None,
        heading: bool = True,
        escape: Escape = str,
    ) -> list[str]:
        """The text for each record; of a table, aligned and below a header.

        ``titles`` are the headings that do not follow from the field's name.
        """
        if not self.table:
            return [self.render(record, escape) for record in records]
        rows = [self.render(record, printable).split("\t") for record in records]
        header = "".join(_titles(self.nodes, titles or {})).split("\t")
        return render_table([header, *rows] if heading else rows)


def _columns(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """The nodes of a table: without tabs, blanks between two actions separate the columns."""
    first = nodes[0] if nodes else None
    if isinstance(first, Text):
        rest = first.text.lstrip(" ")
        nodes = (*([Text(rest)] if rest else []), *nodes[1:])
    if any(isinstance(node, Text) and "\t" in node.text for node in nodes):
        return nodes
    return tuple(
        Text("\t") if isinstance(node, Text) and node.text.isspace() else node for node in nodes
    )


def _expressions(nodes: Sequence[Node], *, own_dot: bool) -> Iterator[tuple[Expression, bool]]:
    """Every expression, and whether ``.`` is the record itself where it stands."""
    for node in nodes:
        match node:
            case Output(expression) | Declaration(_, expression) | Assignment(_, expression):
                yield expression, own_dot
            case Choice(condition, then, otherwise, rebinds):
                yield condition, own_dot
                yield from _expressions(then, own_dot=own_dot and not rebinds)
                yield from _expressions(otherwise, own_dot=own_dot)
            case Loop(items, body, otherwise):
                yield items, own_dot
                yield from _expressions(body, own_dot=False)
                yield from _expressions(otherwise, own_dot=own_dot)


def _check(expression: Expression, own_dot: bool, known: Collection[str] | None) -> None:
    match expression:
        case Call(name, arguments, position):
            if name not in FUNCTIONS:
                names = ", ".join(FUNCTIONS)
                raise template_error(position, f"no function {name!r} (there are: {names})")
            for argument in arguments:
                _check(argument, own_dot, known)
        case Field(Dot(root), name, position):
            if known is not None and (root or own_dot) and _key(known, name) is None:
                raise _unknown(position, name, known)
        case Field(base):
            _check(base, own_dot, known)


def _reads(expression: Expression, field: str) -> bool:
    match expression:
        case Dot():
            return True  # all of it, or a part that is not known here
        case Field(base, name):
            return _plain(name) == field or (not isinstance(base, Dot) and _reads(base, field))
        case Call(_, arguments):
            return any(_reads(argument, field) for argument in arguments)
    return False


def _unknown(position: int, name: str, known: Iterable[str]) -> Exception:
    return template_error(position, f"no field {name!r} (there are: {', '.join(known)})")


def _key(known: Collection[str], name: str) -> str | None:
    """The key that ``name`` means: itself, or the only one that differs in case and ``_`` alone."""
    if name in known:
        return name
    alike = [key for key in known if _plain(key) == _plain(name)]
    return alike[0] if len(alike) == 1 else None


def _plain(key: str) -> str:
    return key.replace("_", "").lower()


def _titles(nodes: Sequence[Node], titles: Mapping[str, str]) -> Iterator[str]:
    """The header: the template's own text, and for each action the title of its first field."""
    for node in nodes:
        match node:
            case Text(text):
                yield text
            case Output(Literal(str(text))):
                yield text
            case Declaration() | Assignment():
                pass
            case _:
                first = next(
                    (
                        name
                        for found, _ in _expressions([node], own_dot=True)
                        if (name := _first_field(found)) is not None
                    ),
                    None,
                )
                yield "" if first is None else titles.get(first, column_title(first))


def _first_field(expression: Expression) -> str | None:
    match expression:
        case Field(_, name):
            return name
        case Call(_, arguments):
            return next(filter(None, map(_first_field, arguments)), None)
    return None


class _Run:
    """One rendering: what was written, and how much work it took."""

    def __init__(self, record: Mapping[str, Any], escape: Escape) -> None:
        self.parts: list[str] = []
        self._record = record
        self._escape = escape
        self._variables: ChainMap[str, Any] = ChainMap()
        self._steps = 0
        self._length = 0

    def nodes(
        self, nodes: Sequence[Node], dot: Any, declared: Mapping[str, Any] = _NOTHING
    ) -> None:
        """A block, with the variables that are declared for it."""
        outside = self._variables
        self._variables = outside.new_child(dict(declared))
        for node in nodes:
            self._node(node, dot)
        self._variables = outside

    def _node(self, node: Node, dot: Any) -> None:
        match node:
            case Text(text) | Output(Literal(str(text))):
                self._write(text, 0)
            case Output(expression, position):
                self._write(self._escape(shown(self._value(expression, dot))), position)
            case Declaration(name, expression):
                self._variables[name] = self._value(expression, dot)
            case Assignment(name, expression):
                scope = next(scope for scope in self._variables.maps if name in scope)
                scope[name] = self._value(expression, dot)
            case Choice(condition, then, otherwise, rebinds, names):
                value = self._value(condition, dot)
                declared = dict.fromkeys(names, value)
                if value:
                    self.nodes(then, value if rebinds else dot, declared)
                else:
                    self.nodes(otherwise, dot, declared)
            case Loop(items, body, otherwise, position, names):
                found = _items(self._value(items, dot), position)
                for pair in found:
                    self._step(position)
                    declared = dict(zip(reversed(names), reversed(pair), strict=False))
                    self.nodes(body, pair[1], declared)
                if not found:
                    self.nodes(otherwise, dot, dict.fromkeys(names))

    def _write(self, text: str, position: int) -> None:
        self._step(position)
        self._length += len(text)
        if self._length > _MAX_OUTPUT:
            raise template_error(position, f"more than {_MAX_OUTPUT} characters of output")
        self.parts.append(text)

    def _step(self, position: int) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise template_error(position, f"more than {_MAX_STEPS} steps")

    def _value(self, expression: Expression, dot: Any) -> Any:
        match expression:
            case Literal(value):
                return value
            case Dot(root):
                return self._record if root else dot
            case Variable(name):
                return self._variables[name]
            case Field(base, name, position):
                self._step(position)
                within = base.name.lower() if isinstance(base, Field) else ""
                return _field(self._value(base, dot), name, position, within)
            case Call(name, arguments, position):
                self._step(position)
                values = [self._value(argument, dot) for argument in arguments]
                try:
                    return call(name, values)
                except ValueError as exc:
                    raise template_error(position, str(exc)) from exc


def _field(value: Any, name: str, position: int, within: str) -> Any:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise template_error(position, f"{name!r} is asked of something without fields")
    if within in _OPEN_MAPS:
        return value.get(name)
    key = _key(value.keys(), name)
    if key is not None:
        return value[key]
    if name.lower() in _OPTIONAL.get(within, ()):
        return None
    raise _unknown(position, name, map(str, value))


def _items(value: Any, position: int) -> list[tuple[Any, Any]]:
    """Index or key, and value, of everything in a list or a map."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return sorted(value.items(), key=lambda pair: str(pair[0]))
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    raise template_error(position, "range needs a list or a map")
