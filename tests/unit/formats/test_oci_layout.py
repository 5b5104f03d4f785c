"""index.json: what is found in it, and what a change leaves alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    AmbiguousNameError,
    InvalidManifestError,
    InvalidReferenceError,
    ManifestNotFoundError,
    UnsupportedError,
)
from kstore.formats.oci_layout import REF_NAME, LayoutIndex, Selector, reachable
from kstore.manifest import RawManifest
from tests.support.images import index_of, random_artifact, random_image

ONE, TWO = random_image(1), random_image(2)
WHERE = "OCI layout x"


def entry(raw: RawManifest, ref: str | None = None, **more: Any) -> dict[str, Any]:
    return {**raw.descriptor.to_json(), **({"annotations": {REF_NAME: ref}} if ref else {}), **more}


def index(*entries: dict[str, Any], **more: Any) -> LayoutIndex:
    document = {"schemaVersion": 2, "manifests": list(entries), **more}
    return LayoutIndex.parse(json.dumps(document).encode(), WHERE)


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("v1", Selector(ref="v1")),
        ("docker.io/library/x:latest", Selector(ref="docker.io/library/x:latest")),
        ("a--b_c.d+e@f", Selector(ref="a--b_c.d+e@f")),
        ("@0", Selector(position=0)),
        ("@17", Selector(position=17)),
        (None, Selector()),
    ],
)
def test_a_selector_is_a_name_a_position_or_the_only_image(
    text: str | None, selector: Selector
) -> None:
    assert Selector.parse(text) == selector
    assert str(selector) == (text or "")


@pytest.mark.parametrize(
    "text",
    ["", "@", "@-1", "@x", "@01", "@1x", "a b", "/a", "a/", "a---b", "-a", "ä", "a\n", "a.."],
)
def test_what_is_no_name_in_a_layout_is_refused(text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        Selector.parse(text)


def test_a_name_of_endless_length_is_refused_at_once() -> None:
    with pytest.raises(InvalidReferenceError):
        Selector.parse("a" * 2000)
    with pytest.raises(InvalidReferenceError):
        Selector.parse("a-" * 400)


@given(st.from_regex(r"[^:\0]+", fullmatch=True), st.sampled_from([None, "v1", "h:5/x", "@3"]))
def test_path_and_selector_come_back_out_of_their_text(path: str, text: str | None) -> None:
    selector = Selector.parse(text)
    assert Selector.split(selector.within(path), "oci") == (path, selector)


@pytest.mark.parametrize("text", ["", ":v1", "x:", "x\0y:v1"])
def test_a_reference_without_a_path_or_after_its_colon_is_refused(text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        Selector.split(text, "oci")


def test_an_image_is_found_by_name_by_position_or_as_the_only_one() -> None:
    both = index(entry(ONE.raw, "a"), entry(TWO.raw))
    assert both.find(Selector(ref="a")) == 0
    assert both.find(Selector(position=1)) == 1
    assert index(entry(ONE.raw, "a")).find(Selector()) == 0
    assert index(entry(ONE.raw, "a"), entry(ONE.raw, "b")).find(Selector()) == 0


@pytest.mark.parametrize(
    ("selector", "error", "text"),
    [
        (Selector(), AmbiguousNameError, "@0 'a', @1 'b'"),
        (Selector(ref="twice"), AmbiguousNameError, "@2 'twice', @3 'twice'"),
        (Selector(ref="c"), ManifestNotFoundError, "@0 'a', @1 'b'"),
        (Selector(position=4), ManifestNotFoundError, "holds 4"),
    ],
)
def test_what_is_not_found_or_not_clear_lists_what_there_is(
    selector: Selector, error: type[Exception], text: str
) -> None:
    many = index(
        entry(ONE.raw, "a"), entry(TWO.raw, "b"), entry(ONE.raw, "twice"), entry(TWO.raw, "twice")
    )
    with pytest.raises(error, match=text):
        many.find(selector)


def test_a_long_list_of_images_is_cut_in_the_message() -> None:
    many = index(*(entry(random_artifact(n).raw, f"tag{n}") for n in range(30)))
    with pytest.raises(AmbiguousNameError, match=r"@9 'tag9' and 20 more$"):
        many.find(Selector())


def test_an_empty_layout_has_no_only_image() -> None:
    with pytest.raises(ManifestNotFoundError, match="holds no image"):
        index().find(Selector())


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"{",
        b'{"schemaVersion":1,"manifests":[]}',
        b'{"schemaVersion":2}',
        b'{"schemaVersion":2,"manifests":{}}',
        b'{"schemaVersion":2,"manifests":[1]}',
        b'{"schemaVersion":2,"manifests":[{"digest":"sha256:1","size":1}]}',
        b'{"schemaVersion":2,"mediaType":"text/plain","manifests":[]}',
        b'{"schemaVersion":2,"manifests":[],"manifests":[]}',
    ],
)
def test_what_is_no_index_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidManifestError, match=r"index.json of OCI layout x"):
        LayoutIndex.parse(data, WHERE)


def test_an_index_beyond_the_limits_is_refused() -> None:
    with pytest.raises(InvalidManifestError, match="1001 entries"):
        index(*[entry(ONE.raw)] * 1001)
    with pytest.raises(InvalidManifestError, match="limit"):
        index(padding="x" * (4 << 20))


def test_a_new_image_changes_nothing_else() -> None:
    kept = entry(ONE.raw, "a", unknown={"x": [1, 2.5]})
    kept["annotations"]["mine"] = "yes"
    before = index(kept, annotations={"k": "v"}, other=None)
    after = before.with_image(TWO.raw, "b")
    assert json.loads(after.render()) == {
        "schemaVersion": 2,
        "manifests": [kept, entry(TWO.raw, "b")],
        "annotations": {"k": "v"},
        "other": None,
    }
    assert before.document["manifests"] == [kept]


def test_a_name_that_moves_leaves_the_old_image_without_it() -> None:
    old = entry(ONE.raw, "a", extra=1)
    old["annotations"]["mine"] = "yes"
    after = index(old).with_image(TWO.raw, "a")
    assert after.document["manifests"] == [
        {**ONE.raw.descriptor.to_json(), "extra": 1, "annotations": {"mine": "yes"}},
        entry(TWO.raw, "a"),
    ]


def test_an_image_without_a_name_gets_the_name_it_is_written_under() -> None:
    assert index(entry(ONE.raw)).with_image(ONE.raw, "a").refs == ("a",)


def test_an_image_of_two_names_has_two_entries() -> None:
    assert index(entry(ONE.raw, "a")).with_image(ONE.raw, "b").refs == ("a", "b")


def test_writing_the_same_again_changes_nothing() -> None:
    for refs in [("a",), ("a", None), (None,)]:
        before = index(*(entry(ONE.raw, ref) for ref in refs))
        assert before.with_image(ONE.raw, refs[0]).document == before.document


def test_an_old_image_that_has_another_entry_without_a_name_gets_no_second_one() -> None:
    after = index(entry(ONE.raw), entry(ONE.raw, "a")).with_image(TWO.raw, "a")
    assert after.refs == (None, "a")
    assert [e.digest for e in after.entries] == [ONE.raw.digest, TWO.raw.digest]


def test_a_full_layout_takes_no_more_images() -> None:
    full = index(*(entry(TWO.raw, f"t{n}") for n in range(1000)))
    with pytest.raises(UnsupportedError, match="1000 images already"):
        full.with_image(ONE.raw, "new")
    assert full.with_image(TWO.raw, "t5").document == full.document


def nested(raws: Sequence[RawManifest]) -> RawManifest:
    members = [raw.descriptor.to_json() for raw in raws]
    document = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": members}
    return RawManifest.receive(json.dumps(document).encode())


def reached(*raws: RawManifest, among: Sequence[RawManifest]) -> set[Digest]:
    data = {raw.digest: raw.data for raw in (*raws, *among)}
    return reachable([raw.descriptor for raw in raws], data.get, WHERE)


def test_everything_below_nested_indexes_is_reached() -> None:
    inner = index_of([ONE])
    outer = nested([inner, TWO.raw])
    found = reached(outer, among=[inner, ONE.raw, TWO.raw])
    assert found >= {outer.digest, inner.digest, ONE.raw.digest, *ONE.blobs, *TWO.blobs}


def test_a_subject_is_reached_with_its_blobs() -> None:
    signature = random_artifact(1, subject=ONE.raw.descriptor)
    assert reached(signature.raw, among=[ONE.raw]) >= {ONE.raw.digest, *ONE.blobs}


def test_a_member_that_is_only_mentioned_first_is_followed_all_the_same() -> None:
    mentions = {
        "schemaVersion": 2,
        "manifests": [],
        "annotations": {"base": str(ONE.raw.digest)},
    }
    first = RawManifest.receive(json.dumps(mentions).encode())
    assert reached(first, nested([ONE.raw]), among=[ONE.raw]) >= set(ONE.blobs)


def test_what_cannot_be_understood_keeps_what_it_mentions() -> None:
    strange = b"not json, but sha256:" + b"a" * 64
    root = Descriptor("x/y", Digest.of(strange), len(strange))
    found = reachable([root], {root.digest: strange}.get, WHERE)
    assert found == {root.digest, Digest("sha256", "a" * 64)}


def test_members_that_are_not_there_are_no_failure() -> None:
    assert reached(index_of([ONE]), among=[]) == {index_of([ONE]).digest, ONE.raw.digest}


def test_indexes_nested_too_deep_are_refused() -> None:
    levels = [ONE.raw]
    for _ in range(9):
        levels.append(nested([levels[-1]]))
    assert reached(levels[8], among=levels) >= set(ONE.blobs)
    with pytest.raises(InvalidManifestError, match="nested deeper"):
        reached(levels[9], among=levels)
