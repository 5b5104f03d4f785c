"""What the images of the store say their layers unpack to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import field
from typing import Protocol

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.errors import KstoreError
from kstore.manifest import MAX_CONFIG_SIZE, ImageConfig, Manifest, parse
from kstore.store.examine import Examined, Reading
from kstore.store.facts import FactTable, LayerFact
from kstore.store.reading import read_blob, read_manifest
from kstore.store.reports import ProblemKind
from kstore.store.session import Session
from kstore.streams import Cancel
from kstore.values import dataclass

__all__ = ["Claims", "read_claims"]


class ProblemSink(Protocol):
    """Takes a problem down."""

    def __call__(
        self, kind: ProblemKind, subject: object, detail: str, *, images: list[str]
    ) -> None: ...


@dataclass(slots=True)
class _Claim:
    """One layer: how it is compressed, and diffID to an image that names it."""

    kind: str
    size: int
    diff_ids: dict[Digest, str] = field(default_factory=dict)


class Claims:
    """Layers by digest."""

    def __init__(self) -> None:
        self._layers: dict[Digest, _Claim] = {}
        self._known: dict[Digest, Digest] = {}

    def add(self, manifest: Manifest, config: ImageConfig) -> None:
        """Note what an image says of its layers; it has a diffID for each."""
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
            kind = mt.layer_compression(layer.media_type)
            if kind is not None:
                claim = self._layers.setdefault(layer.digest, _Claim(kind, layer.size))
                claim.diff_ids.setdefault(diff_id, manifest.config.digest.hex)

    def reading(self, digest: Digest, known: FactTable) -> Reading:
        """How to read a blob so that its claims can be judged.

        A layer whose bytes were unpacked before need not be again: if they still hash to their
        digest, they still unpack to the same.
        """
        claim = self._layers.get(digest)
        if claim is None:
            return Reading(digest)
        fact = known.about(digest)
        if fact is not None and set(claim.diff_ids) == {fact.diff_id}:
            return Reading(digest)
        algorithm = next(iter(claim.diff_ids)).algorithm
        return Reading(digest, claim.kind, algorithm)

    def contradictions(self, examined: Examined) -> Iterator[tuple[str, str]]:
        """(image, sentence) for every claim about a layer that proved false."""
        claim, layer = self._layers.get(examined.digest), examined.digest
        if claim is None:
            return
        for diff_id, image in claim.diff_ids.items():
            if examined.unpack_problem is not None:
                yield image, f"layer {layer} cannot be unpacked: {examined.unpack_problem}"
            elif examined.diff_id not in (None, diff_id):
                yield image, f"layer {layer} unpacks to {examined.diff_id}, not to {diff_id}"

    def fact(self, examined: Examined) -> LayerFact | None:
        """What is known of a layer now that it was unpacked."""
        claim = self._layers.get(examined.digest)
        if claim is None or examined.diff_id is None or examined.facts is None:
            return None
        return LayerFact(examined.digest, examined.facts.st_size, examined.diff_id, claim.kind)


def read_claims(session: Session, found: ProblemSink, cancel: Cancel) -> Claims:
    """The claims of every image; one that names another number of layers than it has is a
    problem for ``found``."""
    claims = Claims()
    for (text,) in session.db.rows("SELECT digest FROM manifest WHERE kind = 'image'"):
        cancel.check()
        with contextlib.suppress(KstoreError):  # the check of manifests and blobs reports those
            manifest = parse(read_manifest(session, Digest.parse(text)))
            if isinstance(manifest, Manifest):
                _read_claims_of(session, manifest, claims, found)
    return claims


def _read_claims_of(
    session: Session, manifest: Manifest, claims: Claims, found: ProblemSink
) -> None:
    digest = manifest.config.digest
    config = ImageConfig.parse(read_blob(session, digest, cap=MAX_CONFIG_SIZE))
    if len(config.diff_ids) == len(manifest.layers):
        claims.add(manifest, config)
        return
    found(
        "wrong-diff-id",
        digest,
        f"config {digest} names {len(config.diff_ids)} layers, its manifest {len(manifest.layers)}",
        images=[digest.hex],
    )
