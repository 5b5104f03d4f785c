"""Small YAML files that people write: safe types only, no key twice, nothing that unfolds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from kstore.errors import InvalidInputError

if TYPE_CHECKING:
    import yaml

__all__ = ["Invalid", "as_mapping", "parse_yaml"]

_MAX_NODES = 100_000

#: Makes the error for a file, of what is wrong with it.
Invalid = Callable[[str], InvalidInputError]


def parse_yaml(data: bytes, invalid: Invalid) -> dict[str, Any]:
    """The mapping in a document; an empty one of an empty document.

    Raises what ``invalid`` makes, with the line where that is known.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        node = yaml.compose(data, Loader=loader)
        if node is None:
            return {}
        for mapping in _mappings(node, invalid):
            _refuse_twice(mapping, invalid)
        value = yaml.load(data, Loader=loader)  # noqa: S506 - one of the safe loaders
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        line = f"line {mark.line + 1}: " if mark is not None else ""
        raise invalid(f"{line}{exc.problem or 'it is not YAML'}") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise invalid("it is not YAML") from exc
    return as_mapping(value, "it", invalid)


def as_mapping(value: Any, where: str, invalid: Invalid) -> dict[str, Any]:
    """``value`` if it is a mapping with names for keys; nothing is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise invalid(f"{where} is not a mapping with names")
    return value


def _mappings(node: yaml.Node, invalid: Invalid) -> Iterator[yaml.MappingNode]:
    """Every mapping of a document; what refers to itself, or unfolds to too much, is refused."""
    import yaml

    waiting, seen = [node], 0
    while waiting:
        seen += 1
        if seen > _MAX_NODES:
            raise invalid("it is too large, or refers to itself")
        each = waiting.pop()
        if isinstance(each, yaml.MappingNode):
            yield each
            waiting += [part for pair in each.value for part in pair]
        elif isinstance(each, yaml.SequenceNode):
            waiting += each.value


def _refuse_twice(mapping: yaml.MappingNode, invalid: Invalid) -> None:
    seen = set()
    for key, _ in mapping.value:
        if isinstance(key.value, str):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise invalid(f"line {line}: key {key.value!r:.100} appears twice")
            seen.add(key.value)
