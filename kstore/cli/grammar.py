"""click classes of this program: lazily loaded commands, Go-style flags, help with examples."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from kstore.values import dataclass

__all__ = ["Command", "Entry", "LazyGroup", "ParamType", "PathType", "declare"]

if TYPE_CHECKING:
    # Generic since click 8.3 only; at run time any version will do.
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType


class PathType(click.Path):
    """A file or directory.  No text at all is an error: an unset variable in a script ("$FILE")
    must not mean the current directory."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        if value == "":
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


_YES = frozenset({"1", "t", "true", "y", "yes", "on"})
_NO = frozenset({"0", "f", "false", "n", "no", "off"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that is not imported yet: where it is, its place and line in the help."""

    module: str
    section: str
    summary: str
    attribute: str = "command"


class Command(click.Command):
    """A command with examples in its help, and flags that also take ``=true`` or ``=false``.

    ``examples``: command lines, each with what it does.
    """

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._plain_flags(ctx, args))

    def _plain_flags(self, ctx: click.Context, args: Sequence[str]) -> list[str]:
        """``--tls-verify=false`` as click knows it, ``--no-tls-verify``."""
        flags = {
            opt: param
            for param in self.params
            if isinstance(param, click.Option) and param.is_flag
            for opt in param.opts
        }
        result: list[str] = []
        for position, arg in enumerate(args):
            if arg == "--":
                return [*result, *args[position:]]
            name, equals, value = arg.partition("=")
            param = flags.get(name)
            if param is None or not equals:
                result.append(arg)
            elif value.lower() in _YES:
                result.append(name)
            elif value.lower() in _NO:
                result.extend(param.secondary_opts[:1])
            else:
                raise click.BadOptionUsage(
                    name, f"option {name} takes true or false, not {value!r}", ctx
                )
        return result

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        _write_examples(formatter, self.examples)


def _write_examples(formatter: click.HelpFormatter, examples: Sequence[tuple[str, str]]) -> None:
    if not examples:
        return
    with formatter.section("Examples"):
        for number, (line, meaning) in enumerate(examples):
            if number:
                formatter.write("\n")
            formatter.write_text(f"# {meaning}")
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def declare(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a function the :class:`Command` called ``name``; its docstring is the help."""
    return click.command(name, cls=Command, **attributes)


class LazyGroup(click.Group):
    """A group whose commands are imported when they run; its help needs only ``table``.

    ``examples`` as for :class:`Command`.
    """

    def __init__(
        self,
        *args: Any,
        table: Mapping[str, Entry],
        examples: Sequence[tuple[str, str]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.table = table
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        _write_examples(formatter, self.examples)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.table.get(cmd_name)
        if entry is None:
            return None
        found: click.Command = getattr(importlib.import_module(entry.module), entry.attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.table and not name.startswith("-"):
            import difflib

            from kstore.cli.spellings import command_meant

            if meant := command_meant(name, {*self.table, "--help"}):
                raise click.UsageError(f"no such command {name!r}; here that is {meant}", ctx)
            # Almost any three letters are in some name: 'run' is not a misspelt 'prune'.
            alike = 0.8 if len(name) <= 3 else 0.6
            near = difflib.get_close_matches(name, self.table, n=1, cutoff=alike)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"no such command {name!r}{guess}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in self.table.items():
            sections.setdefault(entry.section, []).append((name, entry.summary))
        # One width for all sections, so that their summaries line up.
        widest = max(map(len, self.table))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(widest), summary) for name, summary in rows])
