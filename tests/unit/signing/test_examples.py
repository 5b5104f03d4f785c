"""The policies that contrib/policy offers are in order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kstore.registry.registriesd import read_registries_d
from kstore.signing.policyfile import parse_policy
from kstore.transports import validate_policy_scope

PLACE = Path(__file__).resolve().parents[3] / "contrib/policy"
FILES = sorted(path.name for path in PLACE.glob("*.json"))


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_a_policy_with_a_word_about_it(name: str) -> None:
    data = (PLACE / name).read_bytes()
    parse_policy(data, name, validate_policy_scope)
    assert json.dumps(json.loads(data), indent=4) + "\n" == data.decode()
    assert f"## {name}\n" in (PLACE / "README.md").read_text()


def test_the_example_of_registries_d_is_in_order() -> None:
    found = read_registries_d([PLACE / "registries.d"])
    section = found.lookup(("registry.example.org/team/app", "registry.example.org"))
    assert section.read == "https://signatures.example.org/"
    assert section.write == "file:///srv/signatures"
    assert found.lookup(("quay.io/me/app", "quay.io/me")).attachments is True
