"""``kstore search``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import no_trunc_option, registry_options
from kstore.cli.output import write_table
from kstore.cli.session import Session, pass_session
from kstore.cli.text import shorten

if TYPE_CHECKING:
    from kstore.app import RegistryOptions
    from kstore.operations.search import Repository
    from kstore.transports import Transports

__all__ = ["command"]

_FIELDS = ("Index", "Name", "Description", "Stars", "Official", "Automated", "Tag")
_WIDTH = 47
_LIMIT = 25


@declare(
    "search",
    examples=(
        ("kstore search busybox", "at Docker Hub"),
        ("kstore search --filter is-official --limit 5 python", "only what docker answers for"),
        ("kstore search localhost:5000/app", "at a registry that tells its catalog"),
        ("kstore search --list-tags quay.io/podman/hello", "the tags of a repository"),
    ),
)
@click.argument("term", metavar="[REGISTRY/]TERM")
@click.option("--registry", "host", metavar="HOST[:PORT]", help="Where to search")
@click.option(
    "--limit",
    type=click.IntRange(1, 2000),
    default=_LIMIT,
    show_default=True,
    metavar="COUNT",
    help="At most so many results of a registry",
)
@click.option(
    "-f",
    "--filter",
    "filters",
    metavar="KEY=VALUE",
    multiple=True,
    help="stars=N (at least), is-official[=false] or is-automated[=false]; may be repeated",
)
@click.option("--list-tags", is_flag=True, help="TERM is a repository: list its tags")
@no_trunc_option
@format_option(_FIELDS, example="Name")
@registry_options
@pass_session
def command(
    session: Session,
    term: str,
    host: str | None,
    limit: int,
    filters: tuple[str, ...],
    list_tags: bool,
    no_trunc: bool,
    form: str | None,
    registry: RegistryOptions,
) -> None:
    """Find repositories at a registry whose names have TERM in them.

    Without a registry, those that registries.conf has for short names are asked, and if it has none
    Docker Hub, which also looks into descriptions.  Others tell the names in their catalog, if they
    do.  Unknown stars and marks are left blank.
    """
    shape = Form(form, _FIELDS)
    if list_tags and filters:
        raise click.UsageError("--filter does not go with --list-tags", click.get_current_context())
    with session.transports("search", registry) as transports:
        if list_tags:
            _write_tags(transports, term if host is None else f"{host}/{term}", limit, shape)
            return
        from kstore.operations.search import search_images

        found = search_images(
            transports, term, registry=host, limit=limit, filters=filters, warn=session.warn
        )
    if shape.given:
        records = [{**each.to_json(), "Tag": None} for each in found]
        shape.write_list(records, as_json=lambda: [each.to_json() for each in found])
    elif found:
        write_table(
            ("NAME", "STARS", "OFFICIAL", "DESCRIPTION"),
            [_cells(each, no_trunc=no_trunc) for each in found],
        )


def _cells(found: Repository, *, no_trunc: bool) -> tuple[str, ...]:
    words = " ".join((found.description or "").split())
    return (
        found.name,
        "" if found.stars is None else str(found.stars),
        "[OK]" if found.official else "",
        words if no_trunc else shorten(words, _WIDTH),
    )


def _write_tags(transports: Transports, place: str, limit: int, shape: Form) -> None:
    from kstore.operations.list_tags import list_tags

    listed = list_tags(transports, f"docker://{place.removeprefix('docker://')}")
    tags = listed.tags[:limit]
    if not shape.given:
        write_table(("NAME", "TAG"), [(listed.repository or place, tag) for tag in tags])
        return
    blank: dict[str, Any] = dict.fromkeys(_FIELDS)
    shape.write_list(
        [{**blank, "Name": listed.repository, "Tag": tag} for tag in tags],
        as_json=lambda: [{"Name": listed.repository, "Tags": list(tags)}],
    )
