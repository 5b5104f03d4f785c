from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.errors import InvalidManifestError
from kstore.strictjson import MAX_DEPTH, as_object, check_spelling, loads
from tests.support.strategies import steady, texts

CAP = 4 << 20


def read(text: str | bytes, cap: int = CAP) -> Any:
    return loads(text.encode() if isinstance(text, str) else text, "policy file", cap=cap)


def refusal(text: str | bytes, cap: int = CAP) -> str:
    with pytest.raises(InvalidManifestError) as caught:
        read(text, cap)
    message = str(caught.value)
    assert message.startswith("policy file ")
    assert len(message) < 400
    return message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        (
            ' {"a": [1, -2.5e3, "x", null, true, false]}\n',
            {"a": [1, -2500, "x", None, True, False]},
        ),
        ('"\\ud83d\\ude00 \\u00e9"', "\U0001f600 \u00e9"),
        ('"\\\\ud800"', "\\ud800"),
        ('{"a": {"b": 1}, "b": {"a": 1}}', {"a": {"b": 1}, "b": {"a": 1}}),
        ("1e308", 1e308),
        ("-9223372036854775808", -(2**63)),
        ("18446744073709551615", 2**64 - 1),
    ],
)
def test_ordinary_json_is_read_as_everybody_reads_it(text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "[1,]",
        '{"a":1,}',
        "{'a':1}",
        "{a:1}",
        '{"a" 1}',
        "[1 2]",
        "{}{}",
        "{} x",
        "tru",
        "01",
        "+1",
        ".5",
        '"a\nb"',
        '"\\x"',
        '"\\u12"',
        "// comment\n{}",
        "\ufeff{}",
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    assert "is not valid JSON" in refusal(text)


@pytest.mark.parametrize("data", [b"\xff", b'"\xc3"', b'"\xed\xa0\x80"', "{}".encode("utf-16")])
def test_only_utf_8_is_read(data: bytes) -> None:
    assert "is not UTF-8" in refusal(data)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": 1, "a": 1}',
        '{"x": [{"a": 1, "b": 2, "a": 3}]}',
        '{"a": 1, "\\u0061": 2}',
        '{"b": 1, "a": 1, "B": 1, "a": 2}',
        '{"annotations": {"a": "1", "a": "2"}}',
    ],
)
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    assert "key 'a' appears twice" in refusal(text)


@pytest.mark.parametrize(
    ("text", "one", "other"),
    [
        ('{"mediaType": 1, "MediaType": 2}', "mediaType", "MediaType"),
        ('{"x": [{"layers": 1, "b": 0, "LAYERS": 1}]}', "layers", "LAYERS"),
        ('{"layers": 1, "layer\\u017f": 1}', "layers", "layer\u017f"),  # long s
        ('{"token": 1, "to\\u212aen": 1}', "token", "to\u212aen"),  # the Kelvin sign
        ('{"annotations": {}, "Annotations": {}}', "annotations", "Annotations"),
        ('{"labels": [{"a": 1, "A": 2}]}', "a", "A"),
        ('{"x": {"a": 1, "A": 2}, "labels": {"b": 1, "B": 2}}', "a", "A"),
    ],
)
def test_keys_that_differ_only_in_case_are_refused(text: str, one: str, other: str) -> None:
    assert f"keys {one!r} and {other!r} differ only in case" in refusal(text)


@pytest.mark.parametrize(
    "name", ["annotations", "Labels", "labels", "Volumes", "ExposedPorts", "auths"]
)
def test_keys_that_are_data_may_differ_only_in_case(name: str) -> None:
    text = json.dumps({"config": [{name: {"Maintainer": "a", "maintainer": "b"}}]})
    assert read(text) == json.loads(text)


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400", '{"a": [NaN]}']
)
def test_numbers_that_are_not_finite_are_refused(text: str) -> None:
    assert "not finite" in refusal(text)


@pytest.mark.parametrize("digits", ["1" * 21, "-" + "1" * 20, "9" * 5000, "1" * 1_000_000])
def test_an_integer_of_too_many_digits_is_refused_unread(digits: str) -> None:
    assert "an integer of" in refusal(f'{{"size": {digits}}}')


@pytest.mark.parametrize(
    "text", [r'"\ud800"', r'"\uDFFF"', r'{"\uD800": 1}', r'[{"a": ["\\\ude00\ud83d"]}]']
)
def test_half_of_a_surrogate_pair_is_refused(text: str) -> None:
    assert "surrogate" in refusal(text)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_nesting_is_limited(opening: str, closing: str) -> None:
    levels = MAX_DEPTH // len([c for c in opening if c in "[{"])
    assert read(opening * levels + "1" + closing * levels)
    assert "nested deeper than 64" in refusal(opening * (levels + 1) + "1" + closing * (levels + 1))


def test_nesting_is_counted_beside_much_that_is_flat() -> None:
    assert read(FLAT + "[" * (MAX_DEPTH - 1) + "]" * MAX_DEPTH)
    assert "nested deeper than 64" in refusal(FLAT + "[" * MAX_DEPTH + "]" * (MAX_DEPTH + 1))


def test_brackets_side_by_side_or_inside_texts_are_not_nesting() -> None:
    value: list[object] = [*[{"a": []}] * 1000, "[" * 100, '\\"[[{{' * 100, "\\"]
    assert read(json.dumps(value)) == value


@pytest.mark.parametrize("before", [r'["\\", "\"", ', '["' + "]" * 200 + '", '])
@pytest.mark.parametrize("after", ["", "1" + "]" * 101])
def test_deep_nesting_cannot_hide_behind_a_text(before: str, after: str) -> None:
    assert "nested deeper" in refusal(before + "[" * 100 + after)


def test_the_cap_is_on_bytes_and_inclusive() -> None:
    assert read('"\u00e9"', cap=4) == "\u00e9"
    assert refusal('"\u00e9"', cap=3) == "policy file is 4 bytes, more than the limit of 3"


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_as_object_passes_objects_only(value: object) -> None:
    assert as_object({"a": 1}, "config") == {"a": 1}
    with pytest.raises(InvalidManifestError, match="config is not a JSON object"):
        as_object(value, "config")


@pytest.mark.parametrize("key", ["MediaType", "mediatype", "MEDIATYPE"])
def test_a_known_field_must_be_spelled_as_it_is_known(key: str) -> None:
    fields = {"mediatype": "mediaType"}
    check_spelling({"mediaType": 1, "other": 2, "OTHER": 3}, fields, "layer 1")
    with pytest.raises(InvalidManifestError, match=f"it spells 'mediaType' as '{key}'"):
        check_spelling({key: 1}, fields, "layer 1")


def fill(size: int, unit: Callable[[int], str], before: str, after: str) -> str:
    """About ``size`` characters: ``before``, many numbered units, ``after``."""
    count = size // len(unit(size))
    return before + "".join(map(unit, range(count))) + after


FLAT = "[" + "[]," * MAX_DEPTH  # enough brackets to have their depth looked at, but flat

HOSTILE: dict[str, Callable[[int], str]] = {
    "open lists": lambda n: "[" * n,
    "closed lists": lambda n: "]" * n,
    "lists opened and closed": lambda n: "[" * (n // 2) + "]" * (n // 2),
    "flat lists": lambda n: fill(n, lambda _: "[],", "[", "0]"),
    "flat objects": lambda n: fill(n, lambda _: "{},", "[", "0]"),
    "quotes": lambda n: '"' * n,
    "pairs of quotes in a list": lambda n: FLAT + '""' * (n // 2),
    "backslashes in an open text": lambda n: FLAT + '"' + "\\" * n,
    "escaped quotes": lambda n: FLAT + '"' + '\\"' * (n // 2),
    "brackets in a text that never ends": lambda n: '"' + "[" * n,
    "a long integer": lambda n: "9" * n,
    "a long fraction": lambda n: "0." + "9" * n,
    "a long exponent": lambda n: "1e" + "9" * n,
    "one key again and again": lambda n: fill(n, lambda _: '"a":1,', "{", '"a":1}'),
    "many keys, the last one twice": lambda n: fill(
        n, lambda i: f'"{i:x}":1,', "{", '"z":1,"z":2}'
    ),
    "many keys, the last one in two cases": lambda n: fill(
        n, lambda i: f'"{i:x}":1,', "{", '"z":1,"Z":2}'
    ),
    "many objects with keys in two cases": lambda n: fill(n, lambda _: '{"a":1,"A":2},', "[", "0]"),
    "many labels in two cases": lambda n: fill(n, lambda _: '{"labels":{"a":1,"A":2}},', "[", "0]"),
    "many halves of surrogates": lambda n: '"' + "\\ud800" * (n // 6) + '"',
    "blanks": lambda n: " " * n,
    "a long key": lambda n: '{"' + "a" * n + '":1,"' + "A" * n + '":2}',
}


@pytest.mark.parametrize("shape", HOSTILE)
def test_four_mebibytes_of_malice_take_linear_time(shape: str) -> None:
    # Quadratic work on this many bytes would take minutes; linear work takes about a second.
    data = HOSTILE[shape](CAP).encode()
    start = time.monotonic()
    with contextlib.suppress(InvalidManifestError):
        loads(data, "policy file", cap=3 * CAP)
    assert time.monotonic() - start < 15


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(st.tuples(texts, inner), max_size=4, unique_by=lambda p: p[0].casefold()).map(
            dict
        )
    ),
    max_leaves=20,
)


@steady
@given(_VALUES, st.booleans())
def test_honest_json_reads_as_the_standard_reader_reads_it(value: Any, ascii_only: bool) -> None:
    assert read(json.dumps(value, ensure_ascii=ascii_only)) == value


@steady
@given(st.binary(max_size=60) | st.text('{}[]":,aA10eE.\\u-N', max_size=40).map(str.encode))
def test_any_bytes_are_finite_json_or_an_error(data: bytes) -> None:
    try:
        value = loads(data, "policy file", cap=CAP)
    except InvalidManifestError:
        return
    assert json.loads(data) == value
    if isinstance(value, float):
        assert math.isfinite(value)
