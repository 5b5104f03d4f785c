from __future__ import annotations

import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.digest import ALGORITHMS, SHORT_ID_LENGTH, Digest
from kstore.errors import InvalidDigestError
from tests.support.strategies import digests, steady

HEX = "0123456789abcdef" * 4
GOOD = f"sha256:{HEX}"


@pytest.mark.parametrize(("algorithm", "length"), [("sha256", 64), ("sha384", 96), ("sha512", 128)])
def test_every_registered_algorithm_is_read_and_computed(algorithm: str, length: int) -> None:
    expected = hashlib.new(algorithm, b"hello").hexdigest()
    digest = Digest.of(b"hello", algorithm)
    assert (digest.algorithm, digest.hex, len(digest.hex)) == (algorithm, expected, length)
    assert Digest.parse(f"{algorithm}:{expected}") == digest
    assert ALGORITHMS[algorithm] == length


def test_the_digest_of_nothing_is_the_well_known_one() -> None:
    assert Digest.of(b"").hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_short_form_is_twelve_digits() -> None:
    assert Digest.parse(GOOD).short == HEX[:12]
    assert SHORT_ID_LENGTH == 12


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        f":{HEX}",
        HEX,
        f" {GOOD}",
        f"{GOOD} ",
        f"{GOOD}\n",
        f"{GOOD}\x00",
        f"sha256: {HEX[1:]}",
        f"sha256::{HEX[1:]}",
        "sha256:../../x",
        "sha256:../../../../../../../../../../../../../../../../etc/passwd.......",
        "a/../..",
        f"sha256/{HEX}",
        f"sha256:{'g' * 64}",
        f"sha256:{HEX[:-1]}/",
        f"sha256:{HEX[:-1]}\u0665",  # an Arabic digit
        f"sha256:{HEX[:-1]}\uff11",  # a full-width digit
        f"sha256+:{HEX}",
        f"+sha256:{HEX}",
        f"sh\u00e4256:{HEX}",
    ],
)
def test_a_text_of_another_shape_is_refused_and_shown(text: str) -> None:
    with pytest.raises(InvalidDigestError) as caught:
        Digest.parse(text)
    assert repr(text[:100]) in str(caught.value)
    assert "algorithm:hex" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (f"sha256:{HEX[:-1]}", "needs 64 hex digits, not 63"),
        (f"sha256:{HEX}0", "needs 64 hex digits, not 65"),
        (f"sha512:{HEX}", "needs 128 hex digits, not 64"),
        (f"sha256:{HEX.upper()}", "not lower-case"),
        (f"md5:{'0' * 32}", "'md5' is not supported (known: sha256, sha384, sha512)"),
        (f"SHA256:{HEX}", "'SHA256' is not supported"),
        (f"sha256+b64:{HEX}", "'sha256+b64' is not supported"),
    ],
)
def test_a_well_shaped_digest_that_is_wrong_says_why(text: str, cause: str) -> None:
    with pytest.raises(InvalidDigestError) as caught:
        Digest.parse(text)
    assert cause in str(caught.value)


@pytest.mark.parametrize("value", [None, 5, [], GOOD.encode()])
def test_something_that_is_no_text_is_no_digest(value: object) -> None:
    with pytest.raises(InvalidDigestError):
        Digest.parse(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("hex_part", ["../" * 21 + "x", HEX.upper(), HEX[1:], HEX[:-1] + "\n", ""])
def test_the_constructor_cannot_be_used_to_get_past_the_check(hex_part: str) -> None:
    with pytest.raises(InvalidDigestError):
        Digest("sha256", hex_part)


def test_a_value_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Digest.parse(GOOD).hex = "../x"  # type: ignore[misc]


@pytest.mark.parametrize("algorithm", ["md5", "", "sha256\n", "x" * 10_000])
def test_an_unknown_algorithm_gets_no_hasher(algorithm: str) -> None:
    with pytest.raises(InvalidDigestError, match="not supported") as caught:
        Digest.new_hasher(algorithm)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["a" * 1_000_000, "sha256:" + "0" * 1_000_000, "a+" * 500_000])
def test_a_huge_text_gives_a_short_message(text: str) -> None:
    with pytest.raises(InvalidDigestError) as caught:
        Digest.parse(text)
    assert len(str(caught.value)) < 300


def test_the_digest_of_a_stream_is_that_of_its_hasher() -> None:
    hasher = Digest.new_hasher("sha512")
    for part in (b"he", b"", b"llo"):
        hasher.update(part)
    assert Digest.from_hasher(hasher, "sha512") == Digest.of(b"hello", "sha512")
    with pytest.raises(InvalidDigestError):
        Digest.from_hasher(hasher, "sha256")


@steady
@given(digests())
def test_a_digest_reads_back_from_its_text(digest: Digest) -> None:
    assert Digest.parse(str(digest)) == digest


@steady
@given(st.text(max_size=200) | st.from_regex(r"[a-z0-9+._-]{0,9}:[0-9a-fA-F]{60,68}\s?"))
def test_any_text_is_a_digest_that_prints_the_same_or_an_error(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except InvalidDigestError:
        return
    assert str(digest) == text
    assert set(digest.hex) <= set("0123456789abcdef")


@steady
@given(st.lists(digests(), max_size=5))
def test_digests_sort_by_algorithm_then_hex(many: list[Digest]) -> None:
    assert sorted(many) == sorted(many, key=lambda d: (d.algorithm, d.hex))
