"""No transport without its place in this suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstore.errors import InvalidInputError, UnsupportedError
from kstore.transports import FACTORIES
from tests.conformance.images import IMAGES
from tests.conformance.outcomes import forms_of
from tests.conformance.transports import PLACES, Place
from tests.support.sessions import get


def test_every_transport_has_a_place_under_one_of_its_names() -> None:
    names: dict[object, set[str]] = {}
    for name, factory in FACTORIES.items():
        names.setdefault(factory, set()).add(name)
    missing = [aliases for aliases in names.values() if not aliases & PLACES.keys()]
    assert missing == [], "tests/conformance/transports.py lacks a place for it"
    assert PLACES.keys() <= FACTORIES.keys()


@pytest.mark.parametrize("transport", PLACES)
def test_a_reference_comes_back_out_of_its_text(place: Place, transport: str) -> None:
    reference = place.reference
    assert reference.transport == transport
    again = place.transports.get(transport).parse_reference(reference.within_transport)
    assert again == reference
    assert hash(again) == hash(reference)
    assert again.within_transport == reference.within_transport
    assert again.policy_identity == reference.policy_identity


@pytest.mark.parametrize("transport", [name for name, place in PLACES.items() if place.named])
def test_two_names_of_one_place_are_two_references(place: Place, transport: str) -> None:
    assert place.reference != place.named_reference("team/other:2")


@pytest.mark.parametrize("transport", PLACES)
def test_making_references_touches_nothing(tmp_path: Path, transport: str) -> None:
    with PLACES[transport](tmp_path / "place") as place:
        before = place.visible()
        assert place.reference.policy_namespaces is not None
        assert place.visible() == before


@pytest.mark.parametrize("transport", PLACES)
def test_the_scopes_of_a_reference_are_scopes_the_transport_knows(
    place: Place, transport: str
) -> None:
    home = place.transports.get(transport)
    for scope in place.reference.policy_namespaces:
        home.validate_policy_scope(scope)
    with pytest.raises(InvalidInputError):
        home.validate_policy_scope("")


@pytest.mark.parametrize("transport", PLACES)
def test_deleting_removes_the_image_or_is_refused(place: Place, transport: str) -> None:
    place.fill(IMAGES[forms_of(transport)[0]])
    held = get(place.reference)
    if place.deletes:
        place.reference.delete()
        assert not place.is_there()
        return
    before = place.visible()
    with pytest.raises(UnsupportedError) as refused:
        place.reference.delete()
    assert place.visible() == before
    assert get(place.reference) == held
    assert place.reference.within_transport.partition(":")[0] in refused.value.message
