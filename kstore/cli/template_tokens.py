"""The text of a ``--format`` template in pieces: plain text, and actions made of tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kstore.errors import InvalidInputError
from kstore.values import dataclass

__all__ = ["Action", "Text", "Token", "literal_value", "pieces", "template_error"]

#: Tokens of one action; what keeps expressions shallow enough for recursive descent.
_MAX_TOKENS = 128

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_COMMENT = re.compile(r"\{\{(-\s)?\s*/\*.*?\*/\s*(-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""
      (?P<close>(?:\s-)?\}\})
    | (?P<space>\s+)
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<raw>`[^`]*`)
    | (?P<number>-?[0-9]{1,18}(?![0-9A-Za-z_.]))
    | (?P<field>\.[^\W\d]\w*)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<variable>\$[^\W\d]\w*)
    | (?P<mark>:=|[=.$()|,])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Text:
    """Text outside of actions; ``\\t`` and ``\\n`` are already a tab and a newline."""

    text: str


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    position: int

    @property
    def end(self) -> int:
        return self.position + len(self.text)


@dataclass(frozen=True, slots=True)
class Action:
    """One ``{{...}}``: its tokens without space."""

    tokens: tuple[Token, ...]
    position: int


def template_error(position: int, problem: str) -> InvalidInputError:
    """The error for ``problem`` at character ``position`` (from 0) of a template."""
    return InvalidInputError(f"--format template, character {position + 1}: {problem}")


def pieces(text: str) -> Iterator[Text | Action]:
    """Plain text and actions in turn; trim markers are already applied to the text."""
    position, trim_left = 0, False
    while True:
        start = text.find("{{", position)
        plain = text[position : start if start >= 0 else len(text)]
        if trim_left:
            plain = plain.lstrip()
        if start >= 0 and _trims_left(text, start):
            plain = plain.rstrip()
        if plain:
            yield Text(plain.replace("\\t", "\t").replace("\\n", "\n"))
        if start < 0:
            return
        comment = _COMMENT.match(text, start)
        if comment is not None:
            position, trim_left = comment.end(), comment.group(2) is not None
            continue
        action, position = _scan(text, start)
        trim_left = text[position - 3] == "-"
        yield action


def _trims_left(text: str, start: int) -> bool:
    return text[start + 2 : start + 3] == "-" and text[start + 3 : start + 4].isspace()


def _scan(text: str, start: int) -> tuple[Action, int]:
    """The action that opens at ``start``, and where the text goes on after it."""
    position = start + (3 if _trims_left(text, start) else 2)
    tokens: list[Token] = []
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise template_error(position, f"{text[position]!r} is not understood here")
        kind = match.lastgroup or ""
        if kind == "close":
            return Action(tuple(tokens), start), match.end()
        if len(tokens) >= _MAX_TOKENS:
            raise template_error(start, f"more than {_MAX_TOKENS} words in one {{{{...}}}}")
        if kind != "space":
            tokens.append(Token(kind, match.group(), position))
        position = match.end()
    raise template_error(start, "{{ without }}")


def literal_value(token: Token) -> str | int:
    """What a ``number``, ``string`` or ``raw`` token stands for."""
    if token.kind == "number":
        return int(token.text)
    if token.kind == "raw":
        return token.text[1:-1]
    return _ESCAPE.sub(_unescape, token.text[1:-1])


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPES.get(code, match.group())
