"""A credential helper for tests: ``docker-credential-NAME``, which keeps its entries in files.

::

    programs = install(tmp_path / "bin", "tests")             # -> its entries' directory
    (entries / "r.io").write_text(answer("ann", "secret"))
    install(tmp_path / "bin", "hangs", "exec sleep 600")      # a program of another kind
"""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["answer", "install"]

# A server's name becomes a file's name by losing its slashes; every run is noted in "runs".
_KEEPER = """\
cd "{entries}" || exit 1
input=$(cat)
echo "$1 ${{input%%,*}}" >>runs
name() {{ printf %s "$1" | tr / _; }}
case $1 in
get)
    file=$(name "$input")
    [ -f "$file" ] || {{ echo "credentials not found in native keychain"; exit 1; }}
    cat "$file" ;;
store)
    server=$(printf %s "$input" | sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/')
    printf %s "$input" >"$(name "$server")" ;;
erase) rm "$(name "$input")" ;;
list) printf '{{"r.io": "ann"}}' ;;
esac
"""


def install(directory: Path, name: str, script: str | None = None) -> Path:
    """Put the program in ``directory``; gives the directory of its entries and of ``runs``."""
    directory.mkdir(parents=True, exist_ok=True)
    entries = directory / f"{name}-entries"
    entries.mkdir()
    program = directory / f"docker-credential-{name}"
    program.write_text("#!/bin/sh\n" + (script or _KEEPER.format(entries=entries)))
    program.chmod(0o755)
    return entries


def answer(username: str, secret: str) -> str:
    """What such a program says of an entry."""
    return json.dumps({"ServerURL": "x", "Username": username, "Secret": secret})
