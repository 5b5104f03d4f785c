from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore import mediatypes as mt
from kstore.descriptor import MAX_BLOB_SIZE, BlobHint, Descriptor, text_map
from kstore.digest import Digest
from kstore.errors import InvalidManifestError
from kstore.platforms import Platform
from tests.support.strategies import descriptors, steady

D = Digest.of(b"hello")


def document(**changes: Any) -> dict[str, Any]:
    return {"mediaType": mt.OCI_LAYER, "digest": str(D), "size": 5, **changes}


def test_a_descriptor_is_read_with_all_its_fields() -> None:
    value = document(
        annotations={"a": "b"},
        urls=["https://example.com/x"],
        artifactType="application/x.test",
        platform={
            "os": "windows",
            "architecture": "amd64",
            "variant": "v1",
            "os.version": "10",
            "os.features": ["win32k"],
        },
        data="aGVsbG8=",
        unknown={"kept": "out"},
    )
    assert Descriptor.from_json(value, "layer 1") == Descriptor(
        media_type=mt.OCI_LAYER,
        digest=D,
        size=5,
        annotations={"a": "b"},
        urls=("https://example.com/x",),
        platform=Platform("windows", "amd64", "v1", "10", ("win32k",)),
        artifact_type="application/x.test",
    )


@pytest.mark.parametrize("field", ["annotations", "urls", "platform", "artifactType"])
def test_null_means_that_a_field_is_absent(field: str) -> None:
    assert Descriptor.from_json(document(**{field: None}), "x") == Descriptor(mt.OCI_LAYER, D, 5)


def test_a_missing_media_type_is_borne() -> None:
    assert Descriptor.from_json({"digest": str(D), "size": 0}, "x") == Descriptor("", D, 0)


def test_a_platform_without_words_is_not_the_same_as_no_platform() -> None:
    found = Descriptor.from_json(document(platform={}), "x")
    assert found.platform == Platform("", "")


@pytest.mark.parametrize("value", [None, [], "x", 5, True])
def test_only_an_object_is_a_descriptor(value: object) -> None:
    with pytest.raises(InvalidManifestError, match="layer 3 is not a descriptor"):
        Descriptor.from_json(value, "layer 3")


BAD_DIGESTS: list[object] = [
    None,
    5,
    [],
    "",
    "sha256:",
    "sha256:../../../../etc/passwd",
    "a/../..",
    str(D)[:-1],
    str(D) + "0",
    str(D) + "\n",
    "sha256:" + D.hex.upper(),
    "md5:" + "0" * 32,
]


@pytest.mark.parametrize("digest", BAD_DIGESTS)
def test_what_is_no_digest_is_refused_before_it_could_become_a_path(digest: object) -> None:
    with pytest.raises(InvalidManifestError, match="layer 3 has a bad digest"):
        Descriptor.from_json(document(digest=digest), "layer 3")


@pytest.mark.parametrize(
    "size", [None, -1, True, False, 5.0, "5", [], MAX_BLOB_SIZE + 1, 2**64, float("nan")]
)
def test_what_is_no_size_in_bytes_is_refused(size: object) -> None:
    with pytest.raises(InvalidManifestError, match="has no valid size") as caught:
        Descriptor.from_json(document(size=size), "layer 3")
    assert "layer 3" in str(caught.value)
    assert str(D) in str(caught.value)


@pytest.mark.parametrize("missing", ["digest", "size"])
def test_digest_and_size_are_needed(missing: str) -> None:
    value = document()
    del value[missing]
    with pytest.raises(InvalidManifestError, match=missing):
        Descriptor.from_json(value, "x")


@pytest.mark.parametrize("size", [0, MAX_BLOB_SIZE])
def test_the_ends_of_the_size_range_are_valid(size: int) -> None:
    assert Descriptor.from_json(document(size=size), "x").size == size


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mediaType", 5),
        ("artifactType", []),
        ("annotations", []),
        ("annotations", {"a": 1}),
        ("annotations", {"a": None}),
        ("urls", "https://example.com"),
        ("urls", [1]),
        ("urls", {}),
        ("platform", "linux/amd64"),
        ("platform", {"os": 1}),
        ("platform", {"variant": []}),
        ("platform", {"os.version": {}}),
        ("platform", {"os.features": "win32k"}),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidManifestError, match="layer 3"):
        Descriptor.from_json(document(**{field: value}), "layer 3")


@pytest.mark.parametrize("key", ["MediaType", "Digest", "SIZE", "URLs", "url\u017f", "Platform"])
def test_a_key_that_others_would_take_for_a_field_is_refused(key: str) -> None:
    with pytest.raises(InvalidManifestError, match="it spells"):
        Descriptor.from_json(document(**{key: None}), "layer 3")


@pytest.mark.parametrize("key", ["OS", "Architecture", "OS.Version"])
def test_the_same_holds_for_the_keys_of_a_platform(key: str) -> None:
    platform = {"os": "linux", "architecture": "amd64"}
    Descriptor.from_json(document(platform=platform), "x")
    with pytest.raises(InvalidManifestError, match="platform of x is ambiguous"):
        Descriptor.from_json(document(platform={**platform, key: "x"}), "x")


def test_annotations_cannot_be_changed() -> None:
    for value in (None, {"a": "b"}):
        annotations = Descriptor.from_json(document(annotations=value), "x").annotations
        with pytest.raises(TypeError):
            annotations["a"] = "c"  # type: ignore[index]
    assert text_map(None, "x") == {}


def test_descriptors_can_be_members_of_a_set() -> None:
    one = Descriptor.from_json(document(annotations={"a": "b"}), "x")
    two = Descriptor.from_json(document(annotations={"a": "b"}), "x")
    assert {one, two} == {one}


def test_keys_are_written_in_the_order_of_the_specification() -> None:
    full = Descriptor("t", D, 1, {"a": "b"}, ("u",), Platform("linux", "arm", "v7"), "at")
    assert list(full.to_json()) == [
        *("mediaType", "digest", "size", "urls", "annotations", "platform", "artifactType")
    ]
    assert list(Descriptor("t", D, 1).to_json()) == ["mediaType", "digest", "size"]


def test_a_blob_hint_knows_nothing_unless_told() -> None:
    hint = BlobHint(None, None, mt.OCI_LAYER)
    assert (hint.kind, hint.index, hint.origins) == ("layer", None, ())


@steady
@given(descriptors)
def test_a_descriptor_reads_back_from_its_json(descriptor: Descriptor) -> None:
    text = json.dumps(descriptor.to_json())
    assert Descriptor.from_json(json.loads(text), "x") == descriptor


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
_FIELDS = ["mediaType", "digest", "size", "annotations", "urls", "platform", "artifactType"]


@steady
@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON))
def test_any_json_is_a_descriptor_or_an_error(changes: dict[str, Any]) -> None:
    try:
        found = Descriptor.from_json(document(**changes), "x")
    except InvalidManifestError:
        return
    assert Descriptor.from_json(found.to_json(), "x") == found
