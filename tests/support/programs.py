"""Programs of other projects that tests compare kstore with.

A test that needs one is marked ``peer`` and asks for it::

    skopeo = require_program("skopeo")      # the absolute path; without the program the test skips

Where ``CI`` is ``true`` or ``KSTORE_REQUIRE_PEERS`` is set, skipping is a failure instead
(``tests/conftest.py`` sees to it for every ``peer`` test, however it skips).
"""

from __future__ import annotations

import os
import shutil

import pytest

_SYSTEM = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))


def peers_are_required() -> bool:
    """Whether a skipped ``peer`` test is a failure."""
    return os.environ.get("CI") == "true" or bool(os.environ.get("KSTORE_REQUIRE_PEERS"))


def require_program(name: str) -> str:
    """The absolute path of the program ``name``; skips the test when it is not installed."""
    path = shutil.which(name) or shutil.which(name, path=_SYSTEM)
    if path is None:
        pytest.skip(f"{name} is not installed (contrib/test.sh installs it as root on Debian)")
    return path
