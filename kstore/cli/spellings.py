"""What other image tools call something that kstore has, for hints to those who type it.

Sources: the command lines of podman 4, docker 20.10, skopeo 1.9 and crane.
"""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["command_meant", "option_meant"]

_PLATFORM = "--platform OS/ARCH[/VARIANT]"
_COMPRESS = "--compress KIND[:LEVEL]"

#: Another tool's command, and what to type here; the first word is the command.
_COMMANDS = {
    "build": "from, add, config and commit",
    "catalog": "search REGISTRY/",
    "cp": "copy",
    "digest": "inspect -f '{{.Digest}}' docker://NAME",
    "export": "save",
    "flatten": "commit --squash",
    "help": "--help",
    "image": "images, inspect, history, rmi or prune",
    "list": "images",
    "ls": "images",
    "manifest": "inspect --raw",
    "ps": "containers",
    "remove": "rmi",
    "system": "df, prune or info",
    "validate": "check",
}

#: Another tool's option, and what to type here; the first word is the option.
_OPTIONS = {
    "--arch": _PLATFORM,
    "--compression-format": _COMPRESS,
    "--compression-level": _COMPRESS,
    "--dest-compress": _COMPRESS,
    "--dest-compress-format": _COMPRESS,
    "--dest-compress-level": _COMPRESS,
    "--insecure": "--tls-verify=false",
    "--multi-arch": "--all or --index-only",
    "--os": _PLATFORM,
    "--override-arch": _PLATFORM,
    "--override-os": _PLATFORM,
    "--override-variant": _PLATFORM,
    "--retry-times": "--retry N",
    "--variant": _PLATFORM,
}


def command_meant(name: str, known: Collection[str]) -> str | None:
    """What to type for another tool's command ``name``; None if that is none of ``known``."""
    return _meant(_COMMANDS.get(name), known)


def option_meant(name: str, known: Collection[str]) -> str | None:
    """What to type for another tool's option ``name``; None if that is none of ``known``."""
    return _meant(_OPTIONS.get(name), known)


def _meant(answer: str | None, known: Collection[str]) -> str | None:
    if answer is None:
        return None
    first = answer.replace(",", " ").replace("=", " ").split()[0]
    return answer if first in known else None
