"""Man pages, made from the commands themselves: ``python -m kstore.cli.manpages DIRECTORY``.

The text depends on nothing but the commands: no date, no width of a terminal, no version.

Source: man-pages(7), sections and fonts; groff_man(7).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from kstore import errors
from kstore.cli.grammar import Command, LazyGroup

__all__ = ["man_pages", "write_pages"]

_PROGRAM = "kstore"
_ENVIRONMENT = (
    ("KSTORE_ROOT", "Where the store is, where --root does not say it."),
    ("KSTORE_OFFLINE", "Set to 1, no network is used, as with --offline."),
    (
        "KSTORE_KEYCHAINS",
        "Further sources of credentials, separated by commas: cloud (the default), kubernetes, or"
        " those of installed packages.",
    ),
    (
        "KSTORE_PULL_SECRETS",
        "Files and directories with pull secrets for the keychain kubernetes, separated by colons.",
    ),
    ("REGISTRY_AUTH_FILE", "The credentials file, where --authfile does not say it."),
    ("DOCKER_CONFIG", "The directory of docker's config.json, whose credentials are read, too."),
    (
        "CONTAINERS_REGISTRIES_CONF",
        "A registries.conf to read instead of all others; with _OVERRIDE behind it, after them.",
    ),
    (
        "KSTORE_REGISTRIES_OLD_RULES",
        "Set to 1, files of registries.conf.d count as for podman before version 6: the system's do"
        " not where a user has a registries.conf, and all do beside CONTAINERS_REGISTRIES_CONF.",
    ),
    ("https_proxy, http_proxy, no_proxy", "The ways out of this network."),
    (
        "DOCKER_HOST, DOCKER_CERT_PATH, DOCKER_TLS_VERIFY",
        "How the Docker daemon is reached by docker-daemon: references.",
    ),
    ("TMPDIR", "Where archives that are compressed or come through a pipe are unpacked to."),
    ("NO_COLOR", "Set to anything, headings are not bold."),
)
_FILES = (
    (
        "~/.local/share/kstore",
        "The store of a user, an OCI image layout that other tools can read.",
    ),
    ("/var/lib/kstore", "The store of root."),
    ("$XDG_RUNTIME_DIR/containers/auth.json", "Credentials, as podman and skopeo keep them."),
    (
        "~/.config/containers, /etc/containers",
        "What podman and skopeo go by: registries.conf, policy.json, certs.d and registries.d.",
    ),
)
_OTHER_STATUS = (
    ("0", "Success."),
    ("1", "Any other failure."),
    ("130", "Stopped by Ctrl-C."),
    ("141", "The reader of standard output went away."),
    ("143", "Stopped by SIGTERM."),
)


def man_pages(group: LazyGroup) -> dict[str, str]:
    """File name -> text of the page, for the program and each of its commands."""
    # With its settings: the help option is made but once, and kept for later runs of the group.
    root = click.Context(group, info_name=_PROGRAM, **group.context_settings)
    pages = {f"{_PROGRAM}.1": _page(root, group, "Keep container images on this machine")}
    for context, summary in _commands(root, group):
        pages[f"{_name(context)}.1"] = _page(context, context.command, summary)
    return pages


def write_pages(directory: Path, pages: dict[str, str]) -> None:
    """Write the pages, and remove those of commands that are gone."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob(f"{_PROGRAM}*.1"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (directory / name).write_text(text, encoding="utf-8")


def _commands(parent: click.Context, group: LazyGroup) -> Iterator[tuple[click.Context, str]]:
    """Every command below ``group``, with its line in the help."""
    for name, entry in group.table.items():
        command = group.get_command(parent, name)
        if command is None:
            continue
        context = click.Context(command, info_name=name, parent=parent)
        yield context, entry.summary
        if isinstance(command, LazyGroup):
            yield from _commands(context, command)


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _page(context: click.Context, command: click.Command, summary: str) -> str:
    name = _name(context)
    lines = [
        f'.TH "{_roff(name.upper())}" 1 "" "{_PROGRAM}" "User Commands"',
        ".nh",  # a command or an option that is broken in two cannot be copied
        *(".SH NAME", f"{_roff(name)} \\- {_roff(summary)}"),
        *(".SH SYNOPSIS", *_synopsis(context, command)),
        *(".SH DESCRIPTION", *_paragraphs(command.help or "")),
        *(".SH OPTIONS", *_options(command)),
    ]
    if isinstance(command, LazyGroup):
        lines += [".SH COMMANDS", *_table_of(context, command)]
    if isinstance(command, (Command, LazyGroup)) and command.examples:
        lines += [".SH EXAMPLES", *_examples(command.examples)]
    if context.parent is None:
        lines += [".SH EXIT STATUS", *_definitions(_statuses())]
        lines += [".SH ENVIRONMENT", *_definitions(_ENVIRONMENT)]
        lines += [".SH FILES", *_definitions(_FILES)]
    else:
        lines += [".SH SEE ALSO", _reference(_name(context.parent))]
    return "\n".join(lines) + "\n"


def _synopsis(context: click.Context, command: click.Command) -> list[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    return [f"\\fB{_roff(context.command_path)}\\fR {_roff(pieces)}"]


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        yield _roff(" ".join(paragraph.split()))


def _options(command: click.Command) -> Iterator[str]:
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            value = _value_of(option)
            names = ", ".join(
                f"\\fB{_roff(name)}\\fR" for name in (*option.opts, *option.secondary_opts)
            )
            yield ".TP"
            yield f"{names} \\fI{_roff(value)}\\fR" if value else names
            yield _roff(" ".join(f"{option.help or ''} {_default_of(option)}".split()))
    yield from (".TP", r"\fB\-h\fR, \fB\-\-help\fR", "Show the help and exit")


def _value_of(option: click.Option) -> str:
    """What follows the name of an option; "" for a flag."""
    if option.is_flag or option.count:
        return ""
    if option.metavar is not None:
        return option.metavar
    choice: Any = option.type
    if isinstance(choice, click.Choice):
        return "|".join(map(str, choice.choices))
    return str(choice.name).upper()


def _default_of(option: click.Option) -> str:
    shown = option.show_default and not option.is_flag and option.default is not None
    return f"[default: {option.default}]" if shown else ""


def _table_of(context: click.Context, group: LazyGroup) -> Iterator[str]:
    for name, entry in group.table.items():
        yield from (".TP", _reference(f"{_name(context)}-{name}"), _roff(entry.summary))


def _reference(page: str) -> str:
    return f"\\fB{_roff(page)}\\fR(1)"


def _examples(examples: Sequence[tuple[str, str]]) -> Iterator[str]:
    for line, meaning in examples:
        yield from (".PP", _roff(f"{meaning[:1].upper()}{meaning[1:]}:"))
        yield from (".PP", ".RS 4", ".nf", _roff(line), ".fi", ".RE")


def _statuses() -> list[tuple[str, str]]:
    """Exit codes and what they mean: the categories of errors, and the ends that are none."""
    categories = (
        (str(kind.exit_code), str(kind.__doc__).partition("\n")[0])
        for kind in errors.KstoreError.__subclasses__()
    )
    own = {code for code, _ in _OTHER_STATUS}
    found = [*_OTHER_STATUS, *(pair for pair in categories if pair[0] not in own)]
    return sorted(found, key=lambda pair: int(pair[0]))


def _definitions(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, meaning in pairs:
        yield from (".TP", f"\\fB{_roff(term)}\\fR", _roff(meaning))


def _roff(text: str) -> str:
    """``text`` so that roff prints it as it is."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    plain = plain.replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    plain = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in plain)
    return f"\\&{plain}" if plain.startswith((".", "\\(aq")) else plain


if __name__ == "__main__":
    from kstore.cli.main import cli

    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m {__spec__.name} DIRECTORY")
    assert isinstance(cli, LazyGroup)
    write_pages(Path(sys.argv[1]), man_pages(cli))
