"""The store: SQLite for what is known, files for the bytes.

A :class:`Store` belongs to one thread (it holds a database connection).  Everything it returns is a
snapshot.  Writing bytes goes through a :class:`Lease`.  The protocol (what is durable before what,
which lock protects what) is described in the modules that carry it out: ``locks``, ``ingest``,
``leases``, ``publish``, ``removal``, ``sweep``, ``gc``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kstore.store.facts import FactTable, LayerFact
    from kstore.store.ingest import Ingest, StagedBlob
    from kstore.store.leases import Lease
    from kstore.store.records import (
        ContainerRecord,
        Found,
        ImageRecord,
        ManifestRecord,
        NameChange,
        NameRecord,
        Publication,
    )
    from kstore.store.reports import (
        CheckReport,
        DamagedBlob,
        ImageUsage,
        KindUsage,
        PartialDownload,
        Problem,
        PruneReport,
        RebuildReport,
        RemovalReport,
        StoreFacts,
        UsageReport,
    )
    from kstore.store.store import Store
    from kstore.store.uploads import RestingUpload, UploadFiles

__all__ = [
    "CheckReport",
    "ContainerRecord",
    "DamagedBlob",
    "FactTable",
    "Found",
    "ImageRecord",
    "ImageUsage",
    "Ingest",
    "KindUsage",
    "LayerFact",
    "Lease",
    "ManifestRecord",
    "NameChange",
    "NameRecord",
    "PartialDownload",
    "Problem",
    "PruneReport",
    "Publication",
    "RebuildReport",
    "RemovalReport",
    "RestingUpload",
    "StagedBlob",
    "Store",
    "StoreFacts",
    "UploadFiles",
    "UsageReport",
]

#: Where the names are; their modules are imported at their first use, because starting fast is a
#: feature.
_HOMES = {
    "facts": ("FactTable", "LayerFact"),
    "ingest": ("Ingest", "StagedBlob"),
    "leases": ("Lease",),
    "records": (
        "ContainerRecord",
        "Found",
        "ImageRecord",
        "ManifestRecord",
        "NameChange",
        "NameRecord",
        "Publication",
    ),
    "reports": (
        "CheckReport",
        "DamagedBlob",
        "ImageUsage",
        "KindUsage",
        "PartialDownload",
        "Problem",
        "PruneReport",
        "RebuildReport",
        "RemovalReport",
        "StoreFacts",
        "UsageReport",
    ),
    "store": ("Store",),
    "uploads": ("RestingUpload", "UploadFiles"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
