"""Every image from every transport to every other; and the documentation tells what happened."""

from __future__ import annotations

import pytest

from kstore import mediatypes as mt
from tests.conformance.images import FORMS, INDEXES
from tests.conformance.outcomes import Cell, Matrix, check, expected, forms_of
from tests.conformance.table import DOCUMENT, embedded, tables
from tests.conformance.transports import PLACES

TYPES = {"as it is": None, "as OCI": mt.OCI_MANIFEST, "as Docker": mt.DOCKER_MANIFEST}

IMAGES = [
    (source, form, wanted)
    for source in PLACES
    for form in forms_of(source)
    for wanted, media_type in TYPES.items()
    if media_type != FORMS[form][0]
]
BOTH = [
    (source, form, wanted)
    for source, place in PLACES.items()
    if place.indexes
    for form in INDEXES
    for wanted in TYPES
]


def carry_out(matrix: Matrix, source: str, form: str, wanted: str, destination: str) -> None:
    run = matrix.run(Cell(source, form, destination, TYPES[wanted]))
    want = expected(run.outcome.source.raw, run.traits, TYPES[wanted])
    check(run.outcome, want, PLACES[destination])


@pytest.mark.parametrize("destination", PLACES)
@pytest.mark.parametrize(("source", "form", "wanted"), IMAGES)
def test_an_image_arrives_as_the_traits_say(
    matrix: Matrix, source: str, form: str, wanted: str, destination: str
) -> None:
    carry_out(matrix, source, form, wanted, destination)


@pytest.mark.parametrize("destination", PLACES)
@pytest.mark.parametrize(("source", "form", "wanted"), BOTH)
def test_an_index_arrives_with_all_its_members_or_not_at_all(
    matrix: Matrix, source: str, form: str, wanted: str, destination: str
) -> None:
    carry_out(matrix, source, form, wanted, destination)


def test_the_documentation_tells_what_really_happens(matrix: Matrix) -> None:
    document = DOCUMENT.read_text()
    assert document == embedded(document, tables(matrix)), "python -m tests.conformance.table"
