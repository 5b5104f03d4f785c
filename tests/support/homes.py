"""A home for what is tested and nothing else: nobody's stores, credentials or settings count there.

::

    with pytest.MonkeyPatch.context() as patch:
        move_into(tmp_path, patch)
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["move_into"]

_OWN_SETTINGS = ("KSTORE_TEST_", "KSTORE_REQUIRE_PEERS")  # the suite's, not kstore's
_OTHERS_SETTINGS = (
    "REGISTRY_AUTH_FILE",
    "DOCKER_CONFIG",
    "GNUPGHOME",
    "CONTAINERS_REGISTRIES_CONF",
    "CONTAINERS_REGISTRIES_CONF_OVERRIDE",
    "REGISTRIES_CONFIG_PATH",
    "_CONTAINERS_ROOTLESS_UID",
    *(case(f"{kind}_proxy") for kind in ("http", "https", "no") for case in (str.lower, str.upper)),
)


def move_into(home: Path, patch: pytest.MonkeyPatch) -> None:
    """Let ``home``, an empty directory, be the home of this process and of what it starts."""
    # Else the machine's own trust policy would count, whatever it says.
    policy = home / ".config/containers/policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    for name in list(os.environ):
        if name.startswith(("KSTORE_", "XDG_")) and not name.startswith(_OWN_SETTINGS):
            patch.delenv(name)
    for name in _OTHERS_SETTINGS:
        patch.delenv(name, raising=False)
    patch.setenv("HOME", str(home))
