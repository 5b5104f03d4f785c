from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from kstore import errors
from kstore.errors import KstoreError, RemoteError, RemoteTimeoutError

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, KstoreError)
}

# "|   |-- NameError    4   meaning": the bars give the depth, the number is optional.
_LINE = re.compile(r"^ {4}((?:[|` ]   |[|`]-- )*)(\w+Error)(?: +(\d+))?", re.MULTILINE)


def drawn_tree() -> dict[str, tuple[str | None, int]]:
    """The tree of the module's docstring: name -> (parent, exit code, inherited or own)."""
    tree: dict[str, tuple[str | None, int]] = {}
    path: list[str] = []
    for bars, name, code in _LINE.findall(inspect.getdoc(errors) or ""):
        depth = len(bars) // 4
        del path[depth:]
        parent = path[-1] if path else None
        assert code or parent, name
        tree[name] = (parent, int(code) if code else tree[str(parent)][1])
        path.append(name)
    return tree


def test_every_error_descends_from_the_root() -> None:
    exceptions = [v for v in vars(errors).values() if inspect.isclass(v) and "Error" in v.__name__]
    assert set(exceptions) == set(CLASSES.values())


def test_the_docstring_draws_exactly_the_classes_there_are() -> None:
    assert set(drawn_tree()) == set(CLASSES)


def test_all_names_exactly_the_classes_there_are() -> None:
    assert set(errors.__all__) == set(CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_class_has_the_parent_and_the_exit_code_that_are_drawn(name: str) -> None:
    cls = CLASSES[name]
    parent, code = drawn_tree()[name]
    assert cls.__base__ is (CLASSES[parent] if parent else Exception)
    assert cls.exit_code == code


def test_every_category_has_an_exit_code_of_its_own() -> None:
    categories = [cls for cls in CLASSES.values() if cls.__base__ is KstoreError]
    codes = [cls.exit_code for cls in categories]
    assert sorted(codes) == [2, 3, 4, 5, 6, 7, 8, 9, 10, 130]


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_an_error_carries_its_message_and_its_hint(name: str) -> None:
    plain = CLASSES[name]("the disk is on fire")
    assert (str(plain), plain.message, plain.hint) == ("the disk is on fire", str(plain), None)
    hinted = CLASSES[name]("the disk is on fire", hint="kstore check")
    assert (str(hinted), hinted.hint) == ("the disk is on fire", "kstore check")


def test_a_remote_error_carries_status_and_retryability() -> None:
    assert RemoteError("x").status is None
    assert RemoteError("x").retryable is False
    busy = RemoteTimeoutError("x", hint="wait", status=429, retryable=True)
    assert (busy.hint, busy.status, busy.retryable) == ("wait", 429, True)


@pytest.mark.parametrize("clone", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_an_error_survives_copying_and_pickling(clone: object) -> None:
    assert callable(clone)
    twin = clone(RemoteError("x", hint="h", status=503, retryable=True))
    assert type(twin) is RemoteError
    assert (twin.message, twin.hint, twin.status, twin.retryable) == ("x", "h", 503, True)
