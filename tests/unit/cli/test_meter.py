"""The line that says how far a long piece of work got."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from kstore.cli import meter
from kstore.cli.session import Session

MB = 1_000_000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    return clock


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr(meter, "sys", SimpleNamespace(stderr=stream))
    return stream


def test_work_that_is_done_at_once_draws_nothing(clock: Clock, terminal: Terminal) -> None:
    with meter.metered(Session(), "hashing", 10 * MB) as advance:
        clock.now += 0.3
        advance(10 * MB)
    assert terminal.getvalue() == ""


def test_a_terminal_sees_one_line_that_is_wiped_at_the_end(
    clock: Clock, terminal: Terminal
) -> None:
    with meter.metered(Session(), "hashing", 10 * MB) as advance:
        clock.now += 1
        advance(2 * MB)
        clock.now += 0.01
        advance(2 * MB)
        clock.now += 0.99
        advance(1 * MB)
    frames = terminal.getvalue().split("\r\x1b[K")
    assert frames == [
        "",
        "hashing: 2.0 MB of 10.0 MB, 2.0 MB/s, 4 s left",
        "hashing: 5.0 MB of 10.0 MB, 2.5 MB/s, 2 s left",
        "",
    ]


def test_the_line_is_wiped_before_a_message_and_after_a_failure(
    clock: Clock, terminal: Terminal
) -> None:
    run = Session()

    def told(text: str) -> None:
        terminal.write(f"{text}\n")

    run.show = told

    def work() -> None:
        with meter.metered(run, "hashing", None) as advance:
            clock.now += 1
            advance(MB)
            run.show("look here")
            clock.now += 1
            advance(MB)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    wipe = "\r\x1b[K"
    assert terminal.getvalue() == (
        f"{wipe}hashing: 1.0 MB, 1.0 MB/s{wipe}look here\n{wipe}hashing: 2.0 MB, 1.0 MB/s{wipe}"
    )
    assert run.show is told


def test_a_long_line_is_cut_and_cannot_steer_the_terminal(clock: Clock, terminal: Terminal) -> None:
    with meter.metered(Session(), f"importing \x1b[31m{'x' * 80}", None) as advance:
        clock.now += 1
        advance(MB)
    line = terminal.getvalue().split("\r\x1b[K")[1]
    assert line.startswith("importing \\x1b[31mxxx")
    assert line.endswith("xxx...: 1.0 MB, 1.0 MB/s")
    assert len(line) == 59


def test_more_than_was_foretold_has_no_end(clock: Clock, terminal: Terminal) -> None:
    with meter.metered(Session(), "hashing", MB) as advance:
        clock.now += 1
        advance(2 * MB)
    assert "hashing: 2.0 MB, 2.0 MB/s\r" in terminal.getvalue()


def test_off_a_terminal_there_is_a_line_every_few_seconds(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(meter, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setattr(meter, "tell", lambda text: stream.write(f"{text}\n"))
    with meter.metered(Session(), "hashing", 100 * MB) as advance:
        for _ in range(11):
            clock.now += 1
            advance(MB)
    assert stream.getvalue().splitlines() == [
        "hashing: 5.0 MB of 100.0 MB, 1.0 MB/s, 1 min 35 s left",
        "hashing: 10.0 MB of 100.0 MB, 1.0 MB/s, 1 min 30 s left",
    ]
