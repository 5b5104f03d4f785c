"""Frozen dataclasses that cost little to declare: starting fast is a feature.

The standard decorator writes and compiles six functions for each class, which takes a third of a
millisecond; a command imports about a hundred classes, and makes instances of few of them.  Here
what can be the same for all classes is, and ``__init__`` is compiled when it is first looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, NoReturn

__all__ = ["dataclass"]


def _dataclass(
    *, frozen: bool = False, slots: bool = False, **others: bool
) -> Callable[[type], type]:
    """As :func:`dataclasses.dataclass`; ``frozen`` alone, or with ``slots``, costs little."""
    if not frozen or others:
        return dataclasses.dataclass(frozen=frozen, slots=slots, **others)
    return lambda cls: _frozen(cls, slots=slots)


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = _dataclass


def _frozen(cls: type, *, slots: bool) -> Any:
    derived = any(dataclasses.is_dataclass(base) for base in cls.__mro__[1:])  # these tell theirs
    decorate = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, frozen=derived)
    made: Any = decorate(cls)
    made.__dataclass_params__.frozen = True
    if odd := [each for each in dataclasses.fields(made) if each.kw_only or not each.init]:
        raise TypeError(f"{made.__qualname__}: field {odd[0].name} cannot be declared like that")
    own = made.__dict__
    methods = {"__init__": _Init(made), "__repr__": _repr, **_comparing(made)}
    for name, method in methods.items():
        if own.get(name) is None:  # an __eq__ without a __hash__ sets that to None
            setattr(made, name, method)
    for name, method in () if derived else _FROZEN.items():
        setattr(made, name, method)
    return made


def _comparing(cls: Any) -> dict[str, Callable[..., Any]]:
    fields = [each for each in dataclasses.fields(cls) if each.compare]
    compared = _getter(each.name for each in fields)
    hashed = _getter(each.name for each in fields if each.hash is not False)

    def __eq__(self: Any, other: Any) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return compared(self) == compared(other)

    def __hash__(self: Any) -> int:
        return hash(hashed(self))

    return {"__eq__": __eq__, "__hash__": __hash__}


def _getter(names: Iterable[str]) -> Callable[[Any], Any]:
    known = tuple(names)
    return attrgetter(*known) if known else lambda _: ()


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (each.name for each in dataclasses.fields(self) if each.repr)
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
    return f"{self.__class__.__qualname__}({values})"


def _refuse_set(self: object, name: str, value: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_del(self: object, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _restore(self: object, state: Any) -> None:
    """Take the state of a copy, or of a pickle, which is set nowhere else."""
    for part in state if isinstance(state, tuple) else (state,):
        for name, value in (part or {}).items():
            object.__setattr__(self, name, value)


_FROZEN = {"__setattr__": _refuse_set, "__delattr__": _refuse_del, "__setstate__": _restore}


class _Init:
    """Stands where ``__init__`` will be, and gives way to it."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        self._cls.__init__ = made = _written_init(self._cls)
        return made.__get__(instance, owner)


def _written_init(cls: Any) -> Any:
    """The ``__init__`` of a class, which sets the fields past ``__setattr__``."""
    known: dict[str, Any] = {"set_": object.__setattr__, "unset_": dataclasses.MISSING}
    parameters, lines = ["self"], []
    for each in dataclasses.fields(cls):
        name, parameter, value = each.name, each.name, each.name
        if each.default is not dataclasses.MISSING:
            known[f"default_{name}"] = each.default
            parameter = f"{name}=default_{name}"
        elif each.default_factory is not dataclasses.MISSING:
            known[f"make_{name}"] = each.default_factory
            parameter = f"{name}=unset_"
            value = f"make_{name}() if {name} is unset_ else {name}"
        parameters.append(parameter)
        lines.append(f"set_(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    source = f"def __init__({', '.join(parameters)}): {'; '.join(lines) or 'pass'}"
    exec(source, known)  # noqa: S102 - of the names in our own classes
    made = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = {each.name: each.type for each in dataclasses.fields(cls)}
    return made
