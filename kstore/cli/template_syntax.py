"""The text of a ``--format`` template as a tree of nodes.

The subset of Go's text/template that formatting needs: fields, pipelines, function calls, ``if``,
``with``, ``range``, variables and assignments to them, literals, comments and trim markers.  No
nested definitions.

Source: the documentation of Go's text/template package.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TypeAlias

from kstore.cli.template_tokens import (
    Action,
    Text,
    Token,
    literal_value,
    pieces,
    template_error,
)
from kstore.errors import InvalidInputError
from kstore.values import dataclass

__all__ = [
    "Assignment",
    "Call",
    "Choice",
    "Declaration",
    "Dot",
    "Expression",
    "Field",
    "Literal",
    "Loop",
    "Node",
    "Output",
    "Text",
    "Variable",
    "parse",
]

_MAX_LENGTH = 16 * 1024
_MAX_DEPTH = 32
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "nil": None}


@dataclass(frozen=True, slots=True)
class Literal:
    value: str | int | bool | None


@dataclass(frozen=True, slots=True)
class Dot:
    """The current value (``.``), or with ``root`` the whole record (``$``)."""

    root: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """``base.name``; ``position`` counts the template's characters from 0."""

    base: Expression
    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: tuple[Expression, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Variable:
    """``$name``, which is declared where it stands."""

    name: str


Expression: TypeAlias = Literal | Dot | Field | Call | Variable


@dataclass(frozen=True, slots=True)
class Output:
    expression: Expression
    position: int


@dataclass(frozen=True, slots=True)
class Declaration:
    """``$name := expression``, to the end of the block it stands in."""

    name: str
    expression: Expression


@dataclass(frozen=True, slots=True)
class Assignment:
    """``$name = expression``, to where the variable is declared."""

    name: str
    expression: Expression


@dataclass(frozen=True, slots=True)
class Choice:
    """``if``, or with ``rebinds`` ``with``: the condition becomes dot inside ``then``.

    ``names`` has the variable that the condition becomes, if there is one.
    """

    condition: Expression
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    rebinds: bool
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """``range``: every item becomes dot inside ``body``; ``otherwise`` stands for no items.

    ``names`` are the variables for the item, or for its index (or key) and the item.
    """

    items: Expression
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    position: int
    names: tuple[str, ...]


Node: TypeAlias = Text | Output | Declaration | Assignment | Choice | Loop


def parse(text: str) -> tuple[Node, ...]:
    """The nodes of a template; InvalidInputError naming the position of a syntax error."""
    if len(text) > _MAX_LENGTH:
        raise InvalidInputError(f"--format template is longer than {_MAX_LENGTH} characters")
    parser = _Parser(text)
    nodes, _ = parser.nodes(depth=0, block=None)
    return nodes


class _Parser:
    def __init__(self, text: str) -> None:
        self._pieces = pieces(text)
        self._declared: list[str] = []  # the variables that are known where the parser is

    def nodes(self, depth: int, block: Action | None) -> tuple[tuple[Node, ...], Action | None]:
        """Nodes up to the end of the template, or of ``block`` (with the action that ends it)."""
        found: list[Node] = []
        for piece in self._pieces:
            if isinstance(piece, Text):
                found.append(piece)
                continue
            word = piece.tokens[0].text if piece.tokens else ""
            if word in ("end", "else"):
                if block is None:
                    raise template_error(piece.position, f"{{{{{word}}}}} without a block")
                return tuple(found), piece
            if word in ("if", "with", "range"):
                found.append(self._block(piece, word, depth))
            else:
                found.append(self._statement(piece))
        if block is not None:
            raise template_error(block.position, "block without {{end}}")
        return tuple(found), None

    def _statement(self, action: Action) -> Node:
        target, *rest = action.tokens[:2] or (None,)
        if target is not None and target.kind == "variable" and [t.text for t in rest] == ["="]:
            if target.text not in self._declared:
                raise template_error(target.position, f"no variable {target.text}")
            return Assignment(target.text, self._pipeline(action, 2, most=0)[1])
        names, expression = self._pipeline(action, 0, most=1)
        if names:
            return Declaration(names[0], expression)
        return Output(expression, action.position)

    def _block(self, action: Action, word: str, depth: int) -> Node:
        if depth >= _MAX_DEPTH:
            raise template_error(action.position, f"more than {_MAX_DEPTH} nested blocks")
        outside = len(self._declared)
        names, condition = self._pipeline(action, 1, most=2 if word == "range" else 1)
        inside = len(self._declared)
        then, ending = self.nodes(depth + 1, action)
        otherwise: tuple[Node, ...] = ()
        del self._declared[inside:]
        if ending is not None and ending.tokens[0].text == "else":
            rest = ending.tokens[1:]
            if rest and rest[0].text == "if" and word == "if":
                nested = self._block(Action(rest, ending.position), "if", depth + 1)
                del self._declared[outside:]
                return Choice(condition, then, (nested,), rebinds=False, names=names)
            if rest:
                raise template_error(rest[0].position, f"{{{{else}}}} with {rest[0].text!r}")
            otherwise, ending = self.nodes(depth + 1, action)
            if ending is not None and ending.tokens[0].text == "else":
                raise template_error(ending.position, "a second {{else}} in one block")
        if ending is not None and len(ending.tokens) > 1:
            raise template_error(ending.tokens[1].position, "{{end}} takes nothing")
        del self._declared[outside:]
        if word == "range":
            return Loop(condition, then, otherwise, action.position, names)
        return Choice(condition, then, otherwise, word == "with", names)

    def _pipeline(
        self, action: Action, first: int, *, most: int
    ) -> tuple[tuple[str, ...], Expression]:
        """The variables (at most so many) that ``action`` declares from its token number ``first``
        on, which are known from now on, and the expression they get."""
        names, first = _names(action.tokens, first, most)
        reader = _Reader(action, first, self._declared)
        expression = reader.pipeline(0)
        rest = reader.peek()
        if rest is not None:
            raise template_error(rest.position, f"{rest.text!r} is not understood here")
        self._declared += names
        return names, expression


def _names(tokens: Sequence[Token], first: int, most: int) -> tuple[tuple[str, ...], int]:
    """The variables before ``:=``, and the number of the token behind it."""
    for count in range(1, most + 1):
        head = tokens[first : first + 2 * count]
        marks = [token.text for token in head[1::2]]
        names = head[::2]
        if marks == [*[","] * (count - 1), ":="] and all(n.kind == "variable" for n in names):
            return tuple(name.text for name in names), first + 2 * count
    return (), first


class _Reader:
    """Recursive descent over the tokens of one action."""

    def __init__(self, action: Action, first: int, declared: Collection[str]) -> None:
        self._action = action
        self._next = first
        self._declared = declared

    def peek(self) -> Token | None:
        tokens = self._action.tokens
        return tokens[self._next] if self._next < len(tokens) else None

    def pipeline(self, depth: int) -> Expression:
        if depth > _MAX_DEPTH:
            raise template_error(self._action.position, f"more than {_MAX_DEPTH} nested brackets")
        expression = self._command(depth, piped=None)
        while (token := self.peek()) is not None and token.text == "|":
            self._next += 1
            expression = self._command(depth, piped=expression)
        return expression

    def _command(self, depth: int, piped: Expression | None) -> Expression:
        token = self.peek()
        if token is None or token.text in ("|", ")"):
            where = self._action.position if token is None else token.position
            raise template_error(where, "a field or function is missing")
        if token.kind == "word" and token.text not in _CONSTANTS:
            self._next += 1
            arguments = list(self._operands(depth))
            if piped is not None:
                arguments.append(piped)
            return Call(token.text, tuple(arguments), token.position)
        operand = self._operand(token, depth)
        following = self.peek()
        if piped is not None:
            raise template_error(token.position, f"{token.text!r} is not a function to pipe into")
        if following is not None and following.text not in ("|", ")"):
            raise template_error(token.position, f"{token.text!r} is not a function")
        return operand

    def _operands(self, depth: int) -> Iterator[Expression]:
        while (token := self.peek()) is not None and token.text not in ("|", ")"):
            yield self._operand(token, depth)

    def _operand(self, token: Token, depth: int) -> Expression:
        self._next += 1
        end = token.end
        expression: Expression
        if token.kind in ("string", "raw", "number"):
            return Literal(literal_value(token))
        if token.text in _CONSTANTS:
            return Literal(_CONSTANTS[token.text])
        if token.kind == "word":
            return Call(token.text, (), token.position)
        if token.kind == "field":
            expression = Field(Dot(), token.text[1:], token.position)
        elif token.text == "(":
            expression = self.pipeline(depth + 1)
            closing = self.peek()
            if closing is None or closing.text != ")":
                raise template_error(token.position, "'(' without ')'")
            self._next += 1
            end = closing.end
        elif token.kind == "variable":
            if token.text not in self._declared:
                raise template_error(token.position, f"no variable {token.text}")
            expression = Variable(token.text)
        elif token.text in (".", "$"):
            expression = Dot(root=token.text == "$")
        else:
            raise template_error(token.position, f"{token.text!r} is not understood here")
        # ".A.B" is one operand, ".A .B" are two: only touching fields belong together.
        while (more := self.peek()) is not None and more.kind == "field" and more.position == end:
            self._next += 1
            expression = Field(expression, more.text[1:], more.position)
            end = more.end
        return expression
