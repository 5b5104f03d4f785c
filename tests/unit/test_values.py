"""The declarations of values say the same as the standard library's, which is asked beside them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import pytest

from kstore.values import dataclass

DECORATORS = [dataclass, dataclasses.dataclass]


def made_by(decorator: Callable[..., Any], *, slots: bool = True) -> Any:
    @decorator(frozen=True, slots=slots)
    class Point:
        """A point."""

        kinds: ClassVar[int] = 2
        x: int
        y: int = 0
        tags: list[str] = field(default_factory=list, hash=False)
        secret: str = field(default="s", repr=False, compare=False)

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError(f"{self.x} is negative")

    return Point


@pytest.fixture(params=DECORATORS, ids=["kstore", "standard"])
def point(request: pytest.FixtureRequest) -> Any:
    return made_by(request.param)


@dataclass(frozen=True, slots=True)
class Kept:
    name: str
    more: tuple[int, ...] = ()


@dataclass(frozen=True)
class Loose:
    name: str


def test_fields_are_given_by_place_or_name_or_left_to_their_defaults(point: Any) -> None:
    value = point(1, tags=["a"])
    assert (value.x, value.y, value.tags, value.secret) == (1, 0, ["a"], "s")


def test_every_instance_gets_a_default_of_its_own(point: Any) -> None:
    one, other = point(1), point(1)
    assert one.tags is not other.tags


@pytest.mark.parametrize("arguments", [(), (1, 2, [], "", "too many")], ids=len)
def test_too_few_and_too_many_arguments_are_refused(
    point: Any, arguments: tuple[object, ...]
) -> None:
    for _ in range(2):  # the first instance is made in another way
        with pytest.raises(TypeError, match="__init__"):
            point(*arguments)


def test_what_a_class_checks_is_checked(point: Any) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="-1 is negative"):
            point(-1)


def test_values_are_equal_by_their_compared_fields_and_type(point: Any) -> None:
    assert point(1, 2, ["a"], "one") == point(1, 2, ["a"], "other")
    assert point(1, 2, ["a"]) != point(1, 2, ["b"])
    assert point(1) != made_by(dataclasses.dataclass)(1)
    assert point(1) != (1, 0, [])


def test_equal_values_are_one_key_and_unhashed_fields_do_not_count(point: Any) -> None:
    assert len({point(1, 2, [], "one"), point(1, 2, [], "other")}) == 1
    assert hash(point(1, 2, ["a"])) == hash(point(1, 2, ["b"]))


def test_a_value_shows_its_fields_but_no_secrets(point: Any) -> None:
    assert repr(point(1)) == "made_by.<locals>.Point(x=1, y=0, tags=[])"


@pytest.mark.parametrize("name", ["x", "unheard_of"])
def test_nothing_can_be_set_or_deleted(point: Any, name: str) -> None:
    value = point(1)
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        setattr(value, name, 2)
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        delattr(value, name)
    assert value.x == 1


def test_there_is_no_room_beside_the_fields(point: Any) -> None:
    assert not hasattr(point(1), "__dict__")


def test_the_tools_of_the_standard_library_take_the_values(point: Any) -> None:
    value = dataclasses.replace(point(1), y=5)
    assert dataclasses.asdict(value) == {"x": 1, "y": 5, "tags": [], "secret": "s"}
    assert [each.name for each in dataclasses.fields(point)] == ["x", "y", "tags", "secret"]
    match value:
        case point(x, y):
            assert (x, y) == (1, 5)


def test_the_signature_is_there_before_the_first_instance(point: Any) -> None:
    parameters = inspect.signature(point).parameters
    assert list(parameters) == ["x", "y", "tags", "secret"]
    assert parameters["x"].annotation == "int"
    assert parameters["y"].default == 0


@pytest.mark.parametrize("decorator", DECORATORS, ids=["kstore", "standard"])
def test_methods_of_the_class_itself_stay(decorator: Callable[..., Any]) -> None:
    @decorator(frozen=True, slots=True)
    class Folded:
        text: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Folded) and self.text.lower() == other.text.lower()

        def __hash__(self) -> int:
            return hash(self.text.lower())

        def __repr__(self) -> str:
            return self.text

    assert {Folded("a"), Folded("A")} == {Folded("a")}
    assert repr(Folded("A")) == "A"


@pytest.mark.parametrize("decorator", DECORATORS, ids=["kstore", "standard"])
def test_a_value_can_extend_another_one(decorator: Callable[..., Any]) -> None:
    base = made_by(decorator)

    @decorator(frozen=True, slots=True)
    class Cube(base):  # type: ignore[misc, valid-type]
        z: int = 9

    assert (Cube(1, 2).x, Cube(1, 2).z) == (1, 9)
    assert Cube(1, 2) != base(1, 2)


@pytest.mark.parametrize("decorator", DECORATORS, ids=["kstore", "standard"])
def test_a_value_without_fields_equals_its_like(decorator: Callable[..., Any]) -> None:
    @decorator(frozen=True, slots=True)
    class Nothing:
        pass

    assert {Nothing(), Nothing()} == {Nothing()}
    assert repr(Nothing()).endswith("Nothing()")


@pytest.mark.parametrize("value", [Kept("a", (1, 2)), Loose("a")], ids=["slots", "dict"])
@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]
)
def test_a_copy_equals_the_original(value: Any, clone: Callable[[Any], Any]) -> None:
    assert clone(value) == value


@pytest.mark.parametrize("options", [{"order": True}, {"eq": False}], ids=str)
def test_what_is_rarely_wanted_is_left_to_the_standard_library(options: dict[str, bool]) -> None:
    @dataclass(frozen=True, slots=True, **options)
    class Level:
        number: int

    assert (Level(1) == Level(1)) is options.get("eq", True)


def test_fields_that_are_not_plain_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="number"):

        @dataclass(frozen=True, slots=True)
        class Keyed:
            number: int = field(kw_only=True)


@pytest.mark.parametrize("slots", [True, False], ids=["slots", "dict"])
@pytest.mark.parametrize("above", DECORATORS, ids=["of kstore", "of standard"])
@pytest.mark.parametrize("below", DECORATORS, ids=["kstore", "standard"])
def test_one_kind_can_be_made_of_the_other(
    below: Callable[..., Any], above: Callable[..., Any], slots: bool
) -> None:
    @below(frozen=True, slots=slots)
    class Solid(made_by(above)):  # type: ignore[misc]
        z: int = 7

    value = Solid(1, 2, z=3)
    assert (value.x, value.y, value.z) == (1, 2, 3)
    assert value == copy.copy(value) == dataclasses.replace(value) != Solid(1, 2)
    for name in ("x", "z"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, 4)


@pytest.mark.parametrize("decorator", DECORATORS, ids=["kstore", "standard"])
def test_what_is_made_of_what_can_change_cannot_be_frozen(decorator: Callable[..., Any]) -> None:
    @dataclasses.dataclass
    class Changing:
        x: int = 0

    with pytest.raises(TypeError, match="frozen"):

        @decorator(frozen=True)
        class Fixed(Changing):
            y: int = 0
