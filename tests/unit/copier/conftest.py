"""Copies between two dicts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kstore.copier import CopyOptions, CopyResult, copy_image
from kstore.signing.policy import AcceptAnything
from tests.support.images import AMD64
from tests.support.memory import Memory

Copy = Callable[..., CopyResult]


@pytest.fixture
def copy(tmp_path) -> Copy:
    """``copy(memory, compression="gzip", ...)``: from "app" to "copy", with these options.

    ``traits`` are the destination's; ``facts``, ``policy``, ``progress`` and ``digest`` (of the
    destination) are passed on.
    """

    def run(memory: Memory, name: str = "app", to: str = "copy", **wishes) -> CopyResult:
        target = {k: wishes.pop(k) for k in ("traits", "digest") if k in wishes}
        given = {k: wishes.pop(k) for k in ("facts", "progress", "cancel") if k in wishes}
        policy = wishes.pop("policy", AcceptAnything())
        options = CopyOptions(**{"platform": AMD64, "spool": tmp_path, **wishes})
        source, destination = memory.reference(name), memory.reference(to, **target)
        return copy_image(source, destination, policy, options, **given)

    return run
