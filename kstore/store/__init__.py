"""The store: SQLite for what is known, files for the bytes.

A :class:`Store` belongs to one thread (it holds a database connection).  Everything it returns is a
snapshot.  Writing bytes goes through a :class:`Lease`.  The protocol (what is durable before what,
which lock protects what) is described in the modules that carry it out: ``locks``, ``ingest``,
``leases``, ``publish``, ``removal``, ``sweep``, ``gc``.
"""

from __future__ import annotations

from kstore.store.ingest import Ingest, StagedBlob
from kstore.store.leases import Lease
from kstore.store.records import (
    CheckReport,
    Found,
    ImageRecord,
    ManifestRecord,
    NameChange,
    NameRecord,
    PartialDownload,
    Problem,
    PruneReport,
    Publication,
    RemovalReport,
    StoreFacts,
)
from kstore.store.store import Store

__all__ = [
    "CheckReport",
    "Found",
    "ImageRecord",
    "Ingest",
    "Lease",
    "ManifestRecord",
    "NameChange",
    "NameRecord",
    "PartialDownload",
    "Problem",
    "PruneReport",
    "Publication",
    "RemovalReport",
    "StagedBlob",
    "Store",
    "StoreFacts",
]
