"""An inspected image as the object that kpod, podman's first name, had of it.

Sizes are those of the whole image as stored, under both of kpod's names; lists are empty, not null.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from kstore.digest import Digest
from kstore.operations.inspect import ImageInspection, time_text
from kstore.values import dataclass

__all__ = ["Data", "kpod_data", "kpod_object"]

#: Keys of the config object, left out where they are empty.
#: Source: OCI image specification 1.1 ``config.md``, "Properties".
_CONFIG = (
    *("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels"),
    "StopSignal",
)


@dataclass(frozen=True, slots=True)
class Data:
    """Everything kpod told about an image.

    ``tags`` and ``digests``: its names, in full form.  ``comment`` and ``created_by``: of the
    newest entry of the history, None without one.  ``created``: None where the config does not
    tell.  ``config``: the config's object about running it, empty keys left out.  ``size``: bytes
    that all its blobs take in the store, each counted once; ``layer_sizes``: those of each layer,
    base first.  ``diff_ids``: what the layers unpack to.
    """

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    digest: Digest
    comment: str | None
    created_by: str | None
    created: dt.datetime | None
    author: str | None
    architecture: str
    os: str
    config: Mapping[str, Any] = field(hash=False, repr=False)
    annotations: Mapping[str, str] = field(hash=False)
    size: int
    layer_sizes: tuple[int, ...]
    diff_ids: tuple[Digest, ...]

    def to_json(self) -> dict[str, Any]:
        """The object with kpod's keys, which ``kpod inspect`` showed."""
        return {
            "ID": self.id,
            "Tags": list(self.tags),
            "Digests": list(self.digests),
            "Digest": str(self.digest),
            "Comment": self.comment or "",
            "CreatedBy": self.created_by or "",
            "Created": time_text(self.created),
            "Container": "",
            "Author": self.author or "",
            "Architecture": self.architecture,
            "OS": self.os,
            "Config": dict(self.config),
            "Annotations": dict(self.annotations),
            "Size": self.size,
            "VirtualSize": self.size,
            "GraphDriver": {"Name": "kstore", "Data": None},
            "RootFS": {"type": "layers", "diff_ids": [str(digest) for digest in self.diff_ids]},
        }


def kpod_data(inspection: ImageInspection) -> Data:
    """What kpod would have told about an inspected image."""
    config = inspection.config
    run = inspection.config_json.get("config") or {}
    newest = config.history[-1] if config.history else None
    return Data(
        id=inspection.image.id,
        tags=inspection.repo_tags,
        digests=inspection.repo_digests,
        digest=inspection.raw.digest,
        comment=(newest.comment or None) if newest else None,
        created_by=(newest.created_by or None) if newest else None,
        created=config.created,
        author=config.author,
        architecture=config.platform.architecture,
        os=config.platform.os,
        config={key: run[key] for key in _CONFIG if run.get(key)},
        annotations=inspection.manifest.annotations,
        size=inspection.image.size,
        layer_sizes=tuple(layer.size for layer in inspection.manifest.layers),
        diff_ids=config.diff_ids,
    )


def kpod_object(inspection: ImageInspection) -> dict[str, Any]:
    """The object ``kpod inspect`` showed for an image; a date that is not known is None."""
    return kpod_data(inspection).to_json()
