"""What a repair of a big image transfers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.costs import repair


@pytest.mark.parametrize(
    ("layers", "layer_size"),
    [(4, 500_000), pytest.param(8, 50_000_000, marks=pytest.mark.slow)],
    ids=["small", "8 x 50 MB"],
)
def test_one_damaged_blob_of_a_big_image_is_all_that_is_transferred(
    tmp_path: Path, layers: int, layer_size: int
) -> None:
    cost = repair(tmp_path / "root", layers=layers, layer_size=layer_size)
    assert cost.wrong == ()
    assert cost.least > layer_size
    assert cost.sent == cost.least
