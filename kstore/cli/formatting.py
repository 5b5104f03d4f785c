"""``--format``: records to JSON, to a template's text, or to neither."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import click

from kstore.cli.output import write, write_json
from kstore.cli.text import printable
from kstore.errors import InvalidInputError

__all__ = ["Form", "format_option"]

F = TypeVar("F", bound=Callable[..., Any])
Record = Mapping[str, Any]


class Form:
    """What ``--format`` asked for: ``given`` is False when it was not used, or is ``""`` or
    ``table``, which mean what a command does without it.

    Made before anything else happens, so that a mistake in a template costs nothing.
    """

    def __init__(self, text: str | None, fields: Collection[str] | None = None) -> None:
        wish = (text or "").strip()
        self.given = wish not in ("", "table")
        self._template = None
        if text is not None and self.given and wish != "json":
            from kstore.cli.templates import Template

            if "{{" not in wish:  # a misspelt word would be printed once for each record
                raise InvalidInputError(
                    f"--format {wish[:100]!r} is neither json nor a template with {{{{...}}}}"
                )
            self._template = Template.parse(text, fields)

    def uses(self, field: str) -> bool:
        """Whether records are needed with this field, for a template that may show it."""
        return self._template is not None and self._template.uses(field)

    def write_list(
        self,
        records: Sequence[Record],
        *,
        as_json: Callable[[], Any] | None = None,
        titles: Mapping[str, str] | None = None,
        heading: bool = True,
    ) -> None:
        """Write one line for each record, or a JSON array (of ``as_json()`` where it differs)."""
        if self._template is None:
            write_json(list(records) if as_json is None else as_json())
            return
        lines = self._template.lines(
            records, titles=titles, heading=heading, escape=_escape_for_output()
        )
        write("".join(f"{line}\n" for line in lines))

    def write_one(self, record: Record) -> None:
        """Write a single record."""
        if self._template is None:
            write_json(record)
        else:
            self.write_list([record])


def format_option(
    fields: Sequence[str] = (), *, example: str | None = None, short: tuple[str, ...] = ()
) -> Callable[[F], F]:
    """``--format``; for the help, ``fields`` are those a template can use and ``example`` is one
    (default: the first).  ``short``: other spellings."""
    known = f"  Fields: {' '.join(f'.{field}' for field in fields)}" if fields else ""
    return click.option(
        *short,
        "--format",
        "form",
        metavar="json|TEMPLATE",
        help=f"JSON, or a Go template such as '{{{{.{example or fields[0]}}}}}';"
        f" 'table' before it aligns and adds a header.{known}",
    )


def _escape_for_output() -> Callable[[str], str]:
    """Data stays as it is in a pipe; on a terminal it must not steer it."""
    return functools.partial(printable, keep="\n\t") if sys.stdout.isatty() else str
