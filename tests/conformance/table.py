"""The tables of ``contrib/docs/transports.md``, from copies that are really made::

python -m tests.conformance.table         # writes them into the document
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kstore import mediatypes as mt
from tests.conformance.images import FORMS, INDEXES
from tests.conformance.outcomes import Cell, Matrix, forms_of
from tests.conformance.transports import PLACES

__all__ = ["DOCUMENT", "embedded", "tables"]

DOCUMENT = Path(__file__).parents[2] / "contrib" / "docs" / "transports.md"
_BEGIN = "<!-- tables: written by python -m tests.conformance.table -->"
_END = "<!-- end of tables -->"

_FAMILIES = {"OCI": mt.OCI_MANIFEST, "Docker": mt.DOCKER_MANIFEST}


def tables(matrix: Matrix) -> str:
    """All tables, in Markdown."""
    notes: list[str] = []
    writers = [name for name, place in PLACES.items() if place.written]

    def images(family: str) -> str:
        own = {name: [f for f in forms_of(name) if f.startswith(family)] for name in PLACES}
        rows = {name: forms for name, forms in own.items() if forms}
        return _table(
            rows, writers, lambda row, to: _cell(matrix, _cells(row, rows[row], to), notes)
        )

    def indexes() -> str:
        rows = [name for name, place in PLACES.items() if place.indexes]
        return _table(rows, writers, lambda row, to: _cell(matrix, _cells(row, INDEXES, to), notes))

    def wishes() -> str:
        asked = {
            f"{form} → {family}": (form, wanted)
            for form, (media_type, _) in FORMS.items()
            for family, wanted in _FAMILIES.items()
            if wanted != media_type
        }
        return _table(
            asked,
            writers,
            lambda row, to: _cell(matrix, _wished(*asked[row], to), notes),
        )

    parts = [
        f"An OCI image, from row to column:\n\n{images('OCI')}",
        f"A Docker image (schema 2):\n\n{images('Docker')}",
        f"An index of two platforms, with `--all`:\n\n{indexes()}",
        "Asked for another type with `--format oci` or `--format docker`, from wherever:"
        f"\n\n{wishes()}",
    ]
    listed = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n\n".join([*parts, "\n".join(listed)])


def _cells(source: str, forms: Iterable[str], destination: str) -> list[Cell]:
    return [Cell(source, form, destination) for form in forms]


def _wished(form: str, wanted: str, destination: str) -> list[Cell]:
    sources = [name for name, place in PLACES.items() if place.manifests and form in forms_of(name)]
    return [Cell(source, form, destination, wanted) for source in sources]


def _cell(matrix: Matrix, cells: Sequence[Cell], notes: list[str]) -> str:
    """The outcomes of several cells; those that differ say for which form."""
    told: dict[str, list[str]] = {}
    for cell in cells:
        word = matrix.run(cell).outcome.word
        if word.startswith("refused: "):
            reason = word.removeprefix("refused: ")
            if reason not in notes:
                notes.append(reason)
            word = f"refused ({notes.index(reason) + 1})"
        forms = told.setdefault(word, [])
        if cell.form not in forms:
            forms.append(cell.form)
    if len(told) == 1:
        return next(iter(told))
    return "; ".join(f"{_short(forms)}: {word}" for word, forms in told.items())


def _short(forms: Sequence[str]) -> str:
    return ", ".join(form.removeprefix("OCI, ").removeprefix("Docker, ") for form in forms)


def _table(rows: Iterable[str], columns: Sequence[str], cell: Callable[[str, str], str]) -> str:
    lines = [["", *(f"`{name}`" for name in columns)], ["---"] * (len(columns) + 1)]
    for row in rows:
        shown = f"`{row}`" if row in PLACES else row
        lines.append([shown, *(cell(row, column) for column in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def embedded(document: str, written: str) -> str:
    """The document with new tables between its marks."""
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert (begin, end) == (_BEGIN, _END), f"{DOCUMENT.name} has lost the marks around its tables"
    return f"{before}{_BEGIN}\n\n{written}\n\n{_END}{after}"


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Matrix(Path(directory)) as matrix:
        DOCUMENT.write_text(embedded(DOCUMENT.read_text(), tables(matrix)))


if __name__ == "__main__":
    main()
