"""``kstore images``."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import filter_option, image_argument, no_trunc_option
from kstore.cli.output import write, write_table
from kstore.cli.session import Session, pass_session
from kstore.cli.text import NONE, human_age, human_size, short_id
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.operations.images import ImageSummary
    from kstore.store import Store

__all__ = ["command"]

_FIELDS = (
    *("ID", "Name", "Names", "Repository", "Tag", "RepoTags", "RepoDigests", "Digest", "Digests"),
    *("Created", "CreatedSince", "CreatedAt", "CreatedTime", "Size", "Bytes", "VirtualSize"),
    *("Platform", "Labels", "Dangling", "Containers", "IsManifestList", "ReadOnly", "ParentId"),
    *("History", "SharedSize"),
)
_TITLES = {"ID": "IMAGE ID", "CreatedSince": "CREATED"}
_ORDERS: Mapping[str, Callable[[ImageSummary], Any] | None] = {
    "created": None,  # the order the store answers in
    "size": lambda row: -row.size,
    "repository": lambda row: (row.repository is None, row.repository, row.tag or ""),
    "tag": lambda row: (row.tag is None, row.tag, row.repository or ""),
    "id": lambda row: row.id,
}


@declare(
    "images",
    examples=(
        ("kstore images", "everything in the store"),
        ("kstore images busybox", "every tag of a repository"),
        ("kstore images --filter dangling=true -q", "IDs of the images without a name"),
        ("kstore images --filter until=30d --filter 'label!=keep'", "old ones you may not need"),
        ("kstore images --format 'table {{.Name}} {{.Size}}'", "your own table"),
    ),
)
@image_argument("name", metavar="[NAME]", required=False)
@click.option(
    "-a",
    "--all",
    is_flag=True,
    expose_value=False,
    help="Nothing more: every image is listed anyway, as docker and podman do with this",
)
@click.option("-q", "--quiet", is_flag=True, help="Only image IDs, each once")
@no_trunc_option
@click.option("--digests", is_flag=True, help="Show manifest digests, too")
@click.option("-n", "--noheading", is_flag=True, help="No header line")
@filter_option("-f")
@click.option(
    "--sort",
    type=click.Choice(list(_ORDERS)),
    default="created",
    show_default=True,
    help="Which lines come first: the newest, the largest, or by the alphabet",
)
@format_option(_FIELDS)
@pass_session
def command(
    session: Session,
    name: str | None,
    quiet: bool,
    no_trunc: bool,
    digests: bool,
    noheading: bool,
    filters: tuple[str, ...],
    sort: str,
    form: str | None,
) -> None:
    """List the images in the store, newest first, a line for each name.

    NAME keeps the images of one repository (or of one tag); patterns like 'team/*' work.  SIZE is
    what an image takes in the store: its config and its layers, which mostly are compressed, each
    counted once; images that share layers share that part ('kstore tree' shows which).
    """
    from kstore.operations.images import list_images

    shape = Form(form, _FIELDS)
    with session.open_store("images", read_only=True) as store:
        rows = list_images(store, name, filters)
        facts = _Facts.of(store, shape)
    if (order := _ORDERS[sort]) is not None:
        rows.sort(key=order)
    if quiet:
        write("\n".join(dict.fromkeys(short_id(row.id, full=no_trunc) for row in rows)))
        return
    now = dt.datetime.now(dt.UTC)
    if shape.given:
        shape.write_list(
            [_fields(row, now, facts, no_trunc=no_trunc) for row in rows],
            as_json=lambda: _json(rows),
            titles=_TITLES,
            heading=not noheading,
        )
        return
    digest_title = ("DIGEST",) if digests else ()
    write_table(
        ("REPOSITORY", "TAG", *digest_title, "IMAGE ID", "CREATED", "SIZE"),
        [_cells(row, now, digests=digests, no_trunc=no_trunc) for row in rows],
        heading=not noheading,
    )


def _cells(
    row: ImageSummary, now: dt.datetime, *, digests: bool, no_trunc: bool
) -> tuple[str, ...]:
    return (
        row.repository or NONE,
        row.tag or NONE,
        *((str(row.digest),) if digests else ()),
        short_id(row.id, full=no_trunc),
        human_age(row.created, now),
        human_size(row.size),
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What only templates show, by image ID: how many working containers were made from it, bytes
    it shares, names it has had."""

    users: Mapping[str, int]
    shared: Mapping[str, int]
    names: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, store: Store, shape: Form) -> _Facts:
        """Those that are shown: each of them asks for something about all images."""
        containers = store.containers.all() if shape.uses("Containers") else ()
        return cls(
            Counter(record.image_id for record in containers if record.image_id),
            store.shared_sizes() if shape.uses("SharedSize") else {},
            store.past_names() if shape.uses("History") else {},
        )


def _fields(
    row: ImageSummary, now: dt.datetime, facts: _Facts, *, no_trunc: bool
) -> dict[str, Any]:
    from kstore.operations.inspect import repo_digests, repo_tags

    age = human_age(row.created, now)
    return {
        "ID": short_id(row.id, full=no_trunc),
        "Name": str(row.name.name) if row.name else NONE,
        "Names": [str(record.name) for record in row.image.names],
        "Repository": row.repository or NONE,
        "Tag": row.tag or NONE,
        "RepoTags": list(repo_tags(row.image)),
        "RepoDigests": list(repo_digests(row.image)),
        "Digest": str(row.digest),
        "Digests": list(map(str, row.image.manifests)),
        "Created": age,
        "CreatedSince": age,
        "CreatedAt": row.created,
        "CreatedTime": row.created,
        "Size": human_size(row.size),
        "Bytes": row.size,
        "VirtualSize": row.size,
        "Platform": str(row.image.platform),
        "Labels": row.image.labels,
        "Dangling": not row.image.names,
        "Containers": facts.users.get(row.id, 0),
        "IsManifestList": row.name is not None and row.name.target != row.name.manifest,
        "ReadOnly": row.image.location is not None,
        "ParentId": "",
        "History": ", ".join(facts.names.get(row.id, ())),
        "SharedSize": facts.shared.get(row.id, 0),
    }


def _json(rows: Iterable[ImageSummary]) -> list[dict[str, Any]]:
    """One object for each image, with all of its names that are listed."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        entry = found.setdefault(
            (row.id, str(row.digest)),
            {
                "id": row.id,
                "names": [],
                "digest": str(row.digest),
                "created": row.created,
                "size": row.size,
                "platform": str(row.image.platform),
                "labels": row.image.labels,
                "location": row.image.location,
            },
        )
        if row.name is not None:
            entry["names"].append(str(row.name.name))
    return list(found.values())
