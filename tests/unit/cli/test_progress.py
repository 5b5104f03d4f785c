from __future__ import annotations

import json
import sys
import threading

import pytest

from kstore.cli import progress
from kstore.cli.progress import Display, displayed
from kstore.cli.session import Session, tell
from kstore.cli.transfers import PULLING
from kstore.copier.progress import Event
from kstore.digest import Digest
from tests.support.cli import run_on_terminal

LAYER, OTHER = Digest.of(b"layer"), Digest.of(b"other")

EVENTS = (
    Event("plan", digest=LAYER, size=30_000_000, blob="layer"),
    Event("plan", digest=OTHER, size=2_000_000, blob="layer"),
    Event("finish", digest=OTHER, size=2_000_000, how="present"),
    Event("wait", digest=LAYER, pid=4711),
    Event("wait", digest=LAYER, pid=4711),
    Event("start", digest=LAYER, done=12_000_000),
    Event("advance", digest=LAYER, done=13_000_000),
    Event("retry", digest=LAYER, done=14_000_000, text="connection\x1b reset"),
    Event("finish", digest=LAYER, size=30_000_000, how="copied"),
    Event("manifest", digest=LAYER, size=400),
    Event("note", text="Pulling x"),
)

SCRIPT = """
import sys, time
from kstore.cli.progress import displayed
from kstore.cli.session import Session
from kstore.cli.transfers import PULLING
from tests.unit.cli.test_progress import EVENTS
session = Session()
with displayed(session, "auto", PULLING, quiet=False) as sink:
    for event in EVENTS:
        sink(event)
        time.sleep(0.25)
        if event.kind == "retry":
            session.warn("careful")
            if "stop" in sys.argv:
                raise KeyboardInterrupt
session.show(sink.summary())
"""


def written(mode: str, capsys: pytest.CaptureFixture[str], *, quiet: bool = False) -> list[str]:
    with displayed(Session(), mode, PULLING, quiet=quiet) as sink:
        for event in EVENTS:
            sink(event)
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_plain_lines_tell_each_blob_once_and_what_went_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    layer, other = f"layer {LAYER.short}", f"layer {OTHER.short}"
    assert written("plain", capsys) == [
        f"{other}: already here, 2 MB",
        f"{layer}: waiting for process 4711, which is fetching it",
        f"{layer}: resumed at 12.0 MB",
        f"{layer}: connection\\x1b reset; going on at 14.0 MB",
        f"{layer}: fetched, 30 MB",
        "Pulling x",
    ]


def test_a_retry_without_a_place_says_that_it_is_tried_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with displayed(Session(), "plain", PULLING, quiet=False) as sink:
        sink(Event("plan", digest=LAYER, size=1000, blob="layer"))
        sink(Event("retry", digest=LAYER, size=1000, text="connection reset"))
    assert capsys.readouterr().err == f"layer {LAYER.short}: connection reset; trying again\n"


def test_plain_is_what_auto_means_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert written("auto", capsys) == written("plain", capsys)


def test_a_long_blob_gets_a_line_every_few_seconds_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(n * 0.1 for n in range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with displayed(Session(), "plain", PULLING, quiet=False) as sink:
        sink(Event("start", digest=LAYER, size=100_000_000, done=0))
        for step in range(1, 121):
            sink(Event("advance", digest=LAYER, size=100_000_000, done=step * 100_000))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "4.9 MB of 100.0 MB, 1.0 MB/s, 1 min 36 s left",
        "9.9 MB of 100.0 MB, 1.0 MB/s, 1 min 31 s left",
    ]


def test_json_writes_every_event_as_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    events = [json.loads(line) for line in written("json", capsys)]
    assert [event["event"] for event in events] == [event.kind for event in EVENTS]
    assert events[5] == {"event": "start", "digest": str(LAYER), "done": 12_000_000}


def test_json_lines_of_many_threads_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    with displayed(Session(), "json", PULLING, quiet=False) as sink:

        def work() -> None:
            for n in range(100):
                sink(Event("advance", digest=LAYER, done=n))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert len([json.loads(line) for line in capsys.readouterr().err.splitlines()]) == 400


@pytest.mark.parametrize(("mode", "quiet"), [("none", False), ("plain", True), ("tty", True)])
def test_quiet_and_none_show_nothing_but_messages(
    mode: str, quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert written(mode, capsys, quiet=quiet) == []
    session = Session()
    with displayed(session, mode, PULLING, quiet=quiet) as sink:
        session.warn("something")
    assert capsys.readouterr().err == "kstore: warning: something\n"
    assert sink.summary() is None


def test_messages_go_through_the_display_only_while_it_is_open() -> None:
    session = Session()
    with displayed(session, "plain", PULLING, quiet=False) as sink:
        assert session.show == sink.show
    assert session.show is tell


def on_terminal(*args: str, **env: str) -> tuple[int, str]:
    return run_on_terminal("-c", SCRIPT, *args, program=(sys.executable,), env=env)


def test_the_live_board_shows_blobs_and_leaves_only_messages_behind() -> None:
    code, screen = on_terminal()
    assert code == 0
    assert f"layer {LAYER.short}" in screen
    assert "waiting for process 4711" in screen
    assert "resumed at 12.0 MB" in screen
    assert "already here, 2 MB" in screen
    assert visible(screen) == [
        f"layer {LAYER.short}: connection\\x1b reset; going on at 14.0 MB",
        "kstore: warning: careful",
        "Pulling x",
        *visible(screen)[3:],
    ]
    assert visible(screen)[-1].startswith("2 layers, 18 MB fetched in")


def test_the_cursor_comes_back_after_ctrl_c() -> None:
    _, screen = on_terminal("stop")
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l")


def test_a_dumb_terminal_gets_plain_lines() -> None:
    _, screen = on_terminal(TERM="dumb")
    assert "\x1b" not in screen
    assert f"layer {LAYER.short}: fetched, 30 MB" in screen


def test_the_live_board_of_many_blobs_shows_those_that_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("rich")
    from rich.console import Console

    from kstore.cli.live import LiveBoard

    board: Display = LiveBoard(PULLING)
    try:
        digests = [Digest.of(b"%d" % n) for n in range(20)]
        for digest in digests:
            board(Event("plan", digest=digest, size=1000, blob="layer"))
        board(Event("start", digest=digests[3], done=0))
        console = Console(width=100, height=40)
        with console.capture() as captured:
            console.print(board._render())  # type: ignore[attr-defined]
        lines = captured.get().splitlines()
        assert len(lines) == 2
        assert digests[3].short in lines[0]
        assert lines[1].startswith("0 B of 20.0 kB")
    finally:
        board.close()


def visible(screen: str) -> list[str]:
    """What a terminal shows in the end: only the escape sequences that rich uses are known."""
    lines: list[str] = [""]
    row = 0
    position = 0
    while position < len(screen):
        if screen.startswith("\x1b[", position):
            end = position + 2
            while not screen[end].isalpha():
                end += 1
            count = screen[position + 2 : end]
            if screen[end] == "A":
                row -= int(count or 1)
            elif screen[end] == "K":
                lines[row] = ""
            position = end + 1
            continue
        char = screen[position]
        if char == "\n":
            row += 1
            lines.extend([""] * (row + 1 - len(lines)))
        elif char != "\r":
            lines[row] += char
        position += 1
    return [line.rstrip() for line in lines if line.strip()]
