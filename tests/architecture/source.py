"""The package's source files and what they import, read without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = CHECKOUT / "kstore"


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of kstore: its path below the package ("store/catalog.py") and its tree."""
    paths = sorted(PACKAGE.rglob("*.py"))
    assert paths, "the package has no modules"
    for path in paths:
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_bytes(), str(path))


def imported_roots(tree: ast.Module) -> set[str]:
    """Top-level names of everything that is imported anywhere in a module, by any statement."""
    roots: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            roots.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                roots.add(first.value.partition(".")[0])
    return roots


def _called(call: ast.Call) -> str | None:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else None
