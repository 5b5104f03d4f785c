"""Whoever looks for a transport finds it: in the README, in the help, in the documentation."""

from __future__ import annotations

import re

import pytest

from kstore.transports import FACTORIES
from tests.support.cli import REPOSITORY, run

README = (REPOSITORY / "README.md").read_text()
DOCUMENT = (REPOSITORY / "contrib/docs/transports.md").read_text()


def names(text: str) -> set[str]:
    """Every word that is followed by a colon as a transport's name is."""
    whole = re.sub(r"-\n\s*", "-", text)  # as it was before lines were filled
    return set(re.findall(r"(?<![\w-])([a-z][a-z-]*):(?=[/A-Z`])", whole))


@pytest.mark.parametrize("name", FACTORIES)
def test_every_transport_is_told_of(name: str) -> None:
    assert name in names(README)
    assert name in names(DOCUMENT)
    assert name in names(run("copy", "--help").out)
