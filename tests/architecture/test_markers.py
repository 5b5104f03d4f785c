"""The suite's own rules: what a skipped ``peer`` test means, and whose home a test sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import CHECKOUT

SUITE = """
import os
import pytest
from tests.support.programs import require_program

@pytest.mark.peer
def test_missing():
    require_program("no-such-program-anywhere")

@pytest.mark.peer
@pytest.mark.skipif(True, reason="skipped by a mark")
def test_marked():
    pass

@pytest.mark.peer
@pytest.mark.root
@pytest.mark.unprivileged
def test_wrong_user():
    pass

def test_skip_without_a_peer():
    pytest.skip("nothing to do with peers")

def test_home():
    assert os.environ["HOME"] != {home!r} and "KSTORE_ROOT" not in os.environ
"""
MARKERS = "[pytest]\nmarkers =\n  peer\n  root\n  unprivileged\n"


def _outcomes(tmp_path: Path, **environ: str) -> dict[str, str]:
    (tmp_path / "test_suite.py").write_text(SUITE.replace("{home!r}", repr(str(tmp_path))))
    (tmp_path / "pytest.ini").write_text(MARKERS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-v", "--tb=no", "-rN"]
    clean = {k: v for k, v in os.environ.items() if k not in {"CI", "KSTORE_REQUIRE_PEERS"}}
    own = {"PYTHONPATH": str(CHECKOUT), "HOME": str(tmp_path), "KSTORE_ROOT": "/nowhere"}
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", "test_suite.py"],
        cwd=tmp_path,
        env={**clean, **own, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [line.split() for line in run.stdout.splitlines() if "::" in line]
    return {words[0].rpartition("::")[2]: words[1] for words in lines}


def test_without_its_program_a_peer_test_skips(tmp_path: Path) -> None:
    assert _outcomes(tmp_path) == {
        "test_missing": "SKIPPED",
        "test_marked": "SKIPPED",
        "test_wrong_user": "SKIPPED",
        "test_skip_without_a_peer": "SKIPPED",
        "test_home": "PASSED",
    }


@pytest.mark.parametrize("demand", [{"CI": "true"}, {"KSTORE_REQUIRE_PEERS": "1"}], ids=str)
def test_where_peers_are_required_every_skip_of_theirs_is_a_failure(
    tmp_path: Path, demand: dict[str, str]
) -> None:
    outcomes = _outcomes(tmp_path, **demand)
    assert outcomes["test_missing"] == "FAILED"
    assert outcomes["test_marked"] in {"FAILED", "ERROR"}
    assert outcomes["test_wrong_user"] == "SKIPPED"
    assert outcomes["test_skip_without_a_peer"] == "SKIPPED"
