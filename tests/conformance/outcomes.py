"""What becomes of an image on its way from one transport to another: expected, and seen.

What is expected is computed from the image as the source gives it and from the destination's
traits; nothing is listed by hand but what :class:`Place` says of forms.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kstore import mediatypes as mt
from kstore.compression import detect
from kstore.copier import CopyOptions, copy_image
from kstore.errors import UnsupportedError
from kstore.interfaces import DestinationTraits, ImageReference
from kstore.manifest import ImageConfig, Index, Manifest, RawManifest, parse, parse_image
from kstore.manifest.convert import INDEX_OF
from kstore.signing.policy import AcceptAnything
from kstore.streams import Closing
from tests.conformance.daemon import unpacked
from tests.conformance.images import CONFIG_OF, FORMS, IMAGES, INDEXES
from tests.conformance.transports import PLACES, Place
from tests.support.sessions import Got, get

__all__ = ["Cell", "Expected", "Matrix", "Outcome", "Run", "check", "expected", "forms_of"]


@dataclass(frozen=True)
class Expected:
    """``type`` of what arrives, None if it must be refused; ``exact``: its bytes are the old."""

    type: str | None
    exact: bool = False


@dataclass(frozen=True)
class Outcome:
    """What was in the source, and what arrived; or why it was refused."""

    source: Got
    arrived: Got | None = None
    refusal: str | None = None

    @property
    def word(self) -> str:
        """The outcome as the documentation tells it."""
        if self.arrived is None:
            return f"refused: {self.refusal}"
        if self.arrived.raw == self.source.raw:
            return "exact"
        before, after = (parse_image(_images(one)[0]) for one in (self.source, self.arrived))
        changes = []
        if before.media_type != after.media_type:
            changes.append("to OCI" if after.media_type == mt.OCI_MANIFEST else "to Docker")
        if [layer.digest for layer in before.layers] != [layer.digest for layer in after.layers]:
            changes.append("unpacked")
        return f"converted ({', '.join(changes) or 'new manifest'})"


@dataclass(frozen=True)
class Cell:
    """One copy: of an image or index in one form, from one transport to another.

    ``wanted`` is the type of manifest asked for; an index is copied with all its members.
    """

    source: str
    form: str
    destination: str
    wanted: str | None = None


@dataclass(frozen=True)
class Run:
    """A cell that was carried out, and what the destination takes (None: nothing)."""

    outcome: Outcome
    traits: DestinationTraits | None


class Matrix(Closing):
    """Carries out cells, each once; sources are filled once, destinations are fresh."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._places: dict[tuple[str, str], Place] = {}
        self._runs: dict[Cell, Run] = {}

    def source(self, transport: str, form: str) -> ImageReference:
        """An image (or index) in one form, to be read."""
        key = (transport, form)
        if key not in self._places:
            directory = self._directory / str(len(self._places))
            place = self._stack.enter_context(PLACES[transport](directory))
            if form in INDEXES:
                place.fill_index(*INDEXES[form])
            else:
                place.fill(IMAGES[form])
            self._places[key] = place
        return self._places[key].reference

    def run(self, cell: Cell) -> Run:
        """What becomes of a cell."""
        if cell not in self._runs:
            with tempfile.TemporaryDirectory(dir=self._directory) as directory:
                self._runs[cell] = self._carry_out(cell, Path(directory))
        return self._runs[cell]

    def _carry_out(self, cell: Cell, directory: Path) -> Run:
        source = self.source(cell.source, cell.form)
        options = CopyOptions(instances="all", manifest_type=cell.wanted)
        with PLACES[cell.destination](directory) as place:
            traits, untouched = place.traits(), place.visible()
            try:
                copy_image(source, place.reference, AcceptAnything(), options)
            except UnsupportedError as refusal:
                assert place.visible() == untouched, "a refused copy leaves nothing"
                shown = f"{place.transport}:{place.reference.within_transport}"
                words = refusal.message.replace(shown, "the destination")
                return Run(Outcome(get(source), refusal=words), traits)
            return Run(Outcome(get(source), get(place.reference)), traits)

    def close(self) -> None:
        self._stack.close()


def forms_of(transport: str) -> tuple[str, ...]:
    """The forms in which a transport has images of its own."""
    place = PLACES[transport]
    if mt.OCI_MANIFEST not in place.families:
        return ("Docker, plain",)  # whatever it was given, this is what it has
    kept = [form for form, (media_type, _) in FORMS.items() if media_type in place.families]
    return tuple(kept)


def expected(
    raw: RawManifest, traits: DestinationTraits | None, wanted: str | None = None
) -> Expected:
    """What a copy of ``raw`` must come to; ``wanted`` is the type of manifest asked for."""
    if traits is None or (raw.is_index and not traits.indexes):
        return Expected(None)
    if wanted is None:
        candidates = [raw.media_type, *traits.manifest_types]
    else:
        candidates = [INDEX_OF[wanted] if raw.is_index else wanted]
    same_kind = mt.INDEXES if raw.is_index else mt.MANIFESTS
    for candidate in candidates:
        if candidate in traits.manifest_types and candidate in same_kind and _says(candidate, raw):
            return Expected(candidate, candidate == raw.media_type)
    return Expected(None)


def _says(target: str, raw: RawManifest) -> bool:
    """Whether a manifest of type ``target`` has words for all layers of ``raw``."""
    document = parse(raw)
    if not isinstance(document, Manifest):
        return True
    kinds = {str(mt.layer_compression(layer.media_type)) for layer in document.layers}
    return all(mt.layer_type(target, kind) is not None for kind in kinds)


def check(outcome: Outcome, want: Expected, place: type[Place]) -> None:
    """Compare; the image itself must be the same whatever became of its manifest."""
    if want.type is None:
        assert outcome.arrived is None, outcome.word
        return
    assert outcome.arrived is not None, outcome.word
    source, arrived = outcome.source, outcome.arrived
    assert len(_images(source)) == len(_images(arrived))
    for before, after in zip(_images(source), _images(arrived), strict=True):
        _check_image(source, before, arrived, after, same_layers=place.manifests)
    if not place.manifests:
        return
    assert arrived.raw.media_type == want.type
    if want.exact:
        assert arrived.raw == source.raw
        assert arrived.members == source.members
    if isinstance(index := parse(arrived.raw), Index):
        members = {INDEX_OF[raw.media_type] for raw in arrived.members}
        assert members == {want.type}
        before_index = parse(source.raw)
        assert isinstance(before_index, Index)
        platforms = [[m.platform for m in one.manifests] for one in (before_index, index)]
        assert platforms[0] == platforms[1]


def _check_image(
    source: Got, before: RawManifest, arrived: Got, after: RawManifest, *, same_layers: bool
) -> None:
    old, new = parse_image(before), parse_image(after)
    assert new.config.digest == old.config.digest
    assert arrived.blobs[new.config.digest] == source.blobs[old.config.digest]
    config = ImageConfig.parse(arrived.blobs[new.config.digest])
    layers = [arrived.blobs[layer.digest] for layer in new.layers]
    for data, diff_id, layer in zip(layers, config.diff_ids, new.layers, strict=True):
        plain = unpacked(data)
        assert diff_id.of(plain, diff_id.algorithm) == diff_id
        kind = mt.layer_compression(layer.media_type)
        assert kind == detect(data)
        assert layer.media_type == mt.layer_type(after.media_type, kind)
    assert new.config.media_type == CONFIG_OF[after.media_type]
    if same_layers:
        blobs = [[layer.digest for layer in one.layers] for one in (old, new)]
        assert blobs[0] == blobs[1]


def _images(got: Got) -> tuple[RawManifest, ...]:
    return got.members or (got.raw,)
