"""``kstore tree``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import image_argument, no_trunc_option
from kstore.cli.output import render_table, write
from kstore.cli.session import Session, pass_session
from kstore.cli.text import NONE, human_size, plural, short_id, shorten

if TYPE_CHECKING:
    from kstore.operations.tree import ImageTree, LayerNode
    from kstore.store import ImageRecord

__all__ = ["command"]

_FIELDS = ("Digest", "DiffId", "Size", "Bytes", "MediaType", "CreatedBy", "SharedWith")
_LINES = ("├── ", "└── ")
_ASCII = ("|-- ", "`-- ")
_NAMED = 3
_STEP_WIDTH = 40


@declare(
    "tree",
    examples=(
        ("kstore tree busybox", "its layers, the lowest first"),
        ("kstore tree --format json busybox", "for scripts"),
    ),
)
@image_argument()
@no_trunc_option
@format_option(_FIELDS)
@pass_session
def command(session: Session, image: str, no_trunc: bool, form: str | None) -> None:
    """Draw the layers of an image, the lowest first, with the images that share them.

    Sizes are those of the layers as they are stored, which mostly is compressed.  A layer that
    several images share is stored once, and stays until the last of them is removed.
    """
    from kstore.operations.tree import image_tree

    shape = Form(form, _FIELDS)
    with session.open_store("tree", read_only=True) as store:
        found = image_tree(store, image)
    if shape.given:
        shape.write_list(
            [_fields(layer, no_trunc=no_trunc) for layer in found.layers], as_json=found.to_json
        )
    else:
        write("\n".join(_drawing(found, _branches(sys.stdout), no_trunc=no_trunc)))


def _drawing(found: ImageTree, branches: tuple[str, str], *, no_trunc: bool) -> Iterator[str]:
    names = ", ".join(str(record.name) for record in found.image.names) or NONE
    yield from render_table(
        [
            ("Image ID:", short_id(found.image.id, full=no_trunc)),
            ("Names:", names),
            ("Size:", f"{human_size(found.image.size)} stored"),
            ("Alone:", f"{human_size(found.unique_size)} not shared with other images"),
            ("Layers:", str(len(found.layers))),
        ]
    )
    rows = render_table(
        [
            (
                layer.descriptor.digest.short if not no_trunc else str(layer.descriptor.digest),
                human_size(layer.descriptor.size),
                _step(layer, no_trunc=no_trunc),
                _sharers(layer.shared_with, no_trunc=no_trunc),
            )
            for layer in found.layers
        ]
    )
    middle, last = branches
    for number, row in enumerate(rows, 1):
        yield f"{last if number == len(rows) else middle}{row}"


def _branches(stream: TextIO) -> tuple[str, str]:
    """What branches are drawn with: lines where the encoding of the output has them."""
    try:
        "".join(_LINES).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return _ASCII
    return _LINES


def _step(layer: LayerNode, *, no_trunc: bool) -> str:
    words = " ".join((layer.created_by or "").split())
    return words if no_trunc else shorten(words, _STEP_WIDTH)


def _sharers(images: Sequence[ImageRecord], *, no_trunc: bool) -> str:
    if not images:
        return ""
    shown = images if no_trunc else images[:_NAMED]
    names = ", ".join(map(_called, shown))
    rest = len(images) - len(shown)
    more = f" and {plural(rest, 'other')}" if rest else ""
    return f"shared with {names}{more}"


def _called(image: ImageRecord) -> str:
    return image.names[0].name.familiar if image.names else image.short_id


def _fields(layer: LayerNode, *, no_trunc: bool) -> dict[str, object]:
    return {
        "Digest": str(layer.descriptor.digest),
        "DiffId": None if layer.diff_id is None else str(layer.diff_id),
        "Size": human_size(layer.descriptor.size),
        "Bytes": layer.descriptor.size,
        "MediaType": layer.descriptor.media_type,
        "CreatedBy": _step(layer, no_trunc=no_trunc),
        "SharedWith": list(map(_called, layer.shared_with)),
    }
