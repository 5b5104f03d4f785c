from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.registry.challenge import Challenge, parse_challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://a/token",service="b"',
            [("bearer", {"realm": "https://a/token", "service": "b"})],
        ),
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        ("Basic", [("basic", {})]),
        ('bEaReR REALM = "x" , Service=y', [("bearer", {"realm": "x", "service": "y"})]),
        (
            'Bearer realm="a,b=c",scope="repository:x:pull,push"',
            [("bearer", {"realm": "a,b=c", "scope": "repository:x:pull,push"})],
        ),
        ('Bearer realm="a \\"b\\" \\\\c"', [("bearer", {"realm": 'a "b" \\c'})]),
        (
            'Bearer realm="a", Basic realm="b"',
            [("bearer", {"realm": "a"}), ("basic", {"realm": "b"})],
        ),
        ('Negotiate abc123==, Basic realm="b"', [("negotiate", {}), ("basic", {"realm": "b"})]),
        ('Negotiate, Basic realm="b"', [("negotiate", {}), ("basic", {"realm": "b"})]),
        (', ,Basic realm="b",', [("basic", {"realm": "b"})]),
        ('Bearer realm="a",realm="b"', [("bearer", {"realm": "a"})]),
        ('Bearer realm="unterminated', []),
        ('Basic realm="b", Bearer realm="', [("basic", {"realm": "b"})]),
        ('Bearer service=x, realm="', []),
        ('realm="a"', []),
        ("", []),
        ("\x00\xff", []),
    ],
)  # fmt: skip
def test_a_header_is_read_by_its_grammar(
    header: str, expected: list[tuple[str, dict[str, str]]]
) -> None:
    found = parse_challenges([header])
    assert [(c.scheme, dict(c.parameters)) for c in found] == expected


def test_several_headers_are_read_in_order() -> None:
    assert parse_challenges(['Bearer realm="a"', "Basic"]) == (
        Challenge("bearer", {"realm": "a"}),
        Challenge("basic"),
    )


def test_a_giant_header_is_left_out() -> None:
    assert parse_challenges(['Bearer realm="' + "a" * 10_000 + '"']) == ()
    assert len(parse_challenges(["Basic, " * 1000])) <= 16


@given(st.text(alphabet='Basicearl ,="\\\t\x00é', max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    for challenge in parse_challenges([text, text]):
        assert challenge.scheme == challenge.scheme.lower()


def test_a_header_made_to_backtrack_is_read_in_linear_time() -> None:
    started = time.monotonic()
    parse_challenges(['Bearer realm="' + '\\"' * 4000, "a " * 4000, "Basic " + "=" * 8000])
    assert time.monotonic() - started < 1
