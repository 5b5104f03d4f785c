"""The names others may rely on."""

from __future__ import annotations

import kstore


def test_the_public_names_are_these() -> None:
    assert sorted(kstore.__all__) == ["Digest", "KstoreError", "Named", "Store", "__version__"]


def test_every_public_name_is_there() -> None:
    missing = [name for name in kstore.__all__ if not hasattr(kstore, name)]
    assert missing == []


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    assert not hasattr(kstore, "NoSuchName")
