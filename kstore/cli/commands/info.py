"""``kstore info``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.text import human_size, printable

__all__ = ["command"]

_SIZES = ("_bytes", "_total", "_free")


@declare(
    "info",
    examples=(
        ("kstore info", "for people"),
        ("kstore info --format '{{.store.root}}'", "one fact, for scripts"),
        ("kstore info --debug", "for the report of a defect"),
        ("kstore info --format '{{.Host.MemTotal}}'", "by podman's name for it"),
    ),
)
@click.option(
    "-D", "--debug", is_flag=True, help="The interpreter and the libraries that are used, too"
)
@format_option(example="store.root", short=("-f",))
@pass_session
def command(session: Session, debug: bool, form: str | None) -> None:
    """Show facts about this machine, the store and kstore."""
    from kstore.operations.info import store_info

    shape = Form(form)
    with session.open_store("info", read_only=True) as store:
        facts = store_info(store, debug=debug).to_json()
    if shape.given:
        shape.write_list([_with_podman_names(facts)], as_json=lambda: facts)
    else:
        write("\n".join(_lines(facts)))


def _with_podman_names(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """What templates can use: the facts, and some of them by the names podman has for them."""
    host, store = facts["host"], facts["store"]
    known = {
        "GraphRoot": store["root"],
        "RunRoot": store["root"],  # locks and unfinished work are in the store, too
        "GraphDriverName": "kstore",
        "GraphOptions": {},
        "GraphStatus": {},
        "ImageStore": {"Number": store["images"]},
        "ContainerStore": {"Number": store["containers"]},
    }
    return {
        **facts,
        "host": {**host, "Uptime": host["uptime_seconds"]},
        "store": {**store, **known},
        "Version": {"Version": facts["versions"]["kstore"]},
    }


def _lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Nested facts as indented ``name: value`` lines."""
    for key, value in facts.items():
        label = f"{indent}{key.replace('_', ' ')}:"
        if isinstance(value, Mapping):
            yield label
            yield from _lines(value, f"{indent}  ")
        else:
            yield f"{label} {_shown(key, value)}"


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith(_SIZES):
        return human_size(value)
    return printable(str(value))
