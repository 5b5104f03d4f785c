"""An inspected image as the object that kpod, podman's first name, printed.

Sizes are those of the whole image as stored, under both of kpod's keys; lists are empty, not null.
"""

from __future__ import annotations

from typing import Any

from kstore.operations.inspect import ImageInspection, time_text

__all__ = ["kpod_object"]

#: Keys of the config object, left out where they are empty.
#: Source: OCI image specification 1.1 ``config.md``, "Properties".
_CONFIG = (
    *("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels"),
    "StopSignal",
)


def kpod_object(inspection: ImageInspection) -> dict[str, Any]:
    """The object ``kpod inspect`` showed for an image; a date that is not known is None."""
    config = inspection.config
    run = inspection.config_json.get("config") or {}
    newest = config.history[-1] if config.history else None
    size = inspection.image.size
    return {
        "ID": inspection.image.id,
        "Tags": list(inspection.repo_tags),
        "Digests": list(inspection.repo_digests),
        "Digest": str(inspection.raw.digest),
        "Comment": newest.comment if newest else "",
        "CreatedBy": newest.created_by if newest else "",
        "Created": time_text(config.created),
        "Container": "",
        "Author": config.author or "",
        "Architecture": config.platform.architecture,
        "OS": config.platform.os,
        "Config": {key: run[key] for key in _CONFIG if run.get(key)},
        "Annotations": dict(inspection.manifest.annotations),
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {"Name": "kstore", "Data": None},
        "RootFS": {"type": "layers", "diff_ids": [str(digest) for digest in config.diff_ids]},
    }
