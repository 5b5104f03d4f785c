"""The names others may rely on."""

from __future__ import annotations

import functools
import importlib
import inspect

import pytest

import kstore
from kstore import images


def test_the_public_names_are_these() -> None:
    assert sorted(kstore.__all__) == ["Digest", "KstoreError", "Named", "Store", "__version__"]


def test_every_public_name_is_there() -> None:
    missing = [name for name in kstore.__all__ if not hasattr(kstore, name)]
    assert missing == []
    assert set(kstore.__all__) <= set(dir(kstore))
    assert {"pull_image", "CopyData"} <= set(dir(images))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    assert not hasattr(kstore, "NoSuchName")


#: The modules that Python programs begin with; what they offer is described.
PUBLIC = (
    *("kstore", "kstore.images", "kstore.errors", "kstore.digest", "kstore.reference"),
    *("kstore.descriptor", "kstore.platforms", "kstore.interfaces", "kstore.image", "kstore.app"),
    *("kstore.settings", "kstore.store", "kstore.manifest", "kstore.manifest.update"),
    *("kstore.copier", "kstore.operations.copy_data", "kstore.operations.copy_ref"),
    *("kstore.operations.draft", "kstore.operations.kpod_json", "kstore.transports"),
    *(f"kstore.operations.{verb}" for verb in ("images", "inspect", "tree", "info", "history")),
    *(f"kstore.operations.{verb}" for verb in ("pull", "push", "copy", "sync", "save", "load")),
    *(f"kstore.operations.{verb}" for verb in ("tag", "untag", "rmi", "prune", "df", "check")),
    *(f"kstore.operations.{verb}" for verb in ("import_", "working", "add", "configure", "commit")),
)


def _undescribed(name: str, value: object) -> list[str]:
    """What of a public function or class has no docstring, inherited ones included."""
    if not inspect.isclass(value):
        return [name] if inspect.isroutine(value) and not inspect.getdoc(value) else []
    members = [
        f"{name}.{key}"
        for key, member in vars(value).items()
        if not key.startswith("_")
        and (inspect.isroutine(member) or isinstance(member, property | functools.cached_property))
        and not inspect.getdoc(getattr(value, key))
    ]
    return members if inspect.getdoc(value) else [name, *members]


@pytest.mark.parametrize("module", PUBLIC)
def test_what_is_public_is_described(module: str) -> None:
    found = importlib.import_module(module)
    assert found.__doc__
    offered = {name: getattr(found, name) for name in found.__all__}
    assert [gap for name, value in offered.items() for gap in _undescribed(name, value)] == []


def test_a_missing_description_would_be_noticed() -> None:
    class Bare:
        def method(self) -> None: ...

        @property
        def attribute(self) -> None: ...

    Bare.__doc__ = "Described."
    assert _undescribed("Bare", Bare) == ["Bare.method", "Bare.attribute"]
