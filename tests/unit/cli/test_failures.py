from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from kstore.cli.failures import exit_code_of
from kstore.cli.interrupts import Interrupts
from kstore.cli.session import Session
from kstore.errors import (
    AuthError,
    CancelledError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    KstoreError,
    NotFoundError,
    PolicyRejectedError,
    RemoteError,
    StorageError,
    UnsupportedError,
)
from kstore.store import Store
from tests.support.cli import PROGRAM, environment, run
from tests.support.images import random_image
from tests.support.stores import put_image


def code_of(error: BaseException, session: Session | None = None) -> int:
    return exit_code_of(error, session or Session(), Interrupts(lambda: None))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInputError("x"), 2),
        (NotFoundError("x"), 3),
        (ConflictError("x"), 4),
        (IntegrityError("x"), 5),
        (UnsupportedError("x"), 6),
        (PolicyRejectedError("x"), 7),
        (RemoteError("x"), 8),
        (AuthError("x"), 9),
        (StorageError("x"), 10),
        (CancelledError("x"), 130),
        (KstoreError("x"), 1),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_one_line(
    error: KstoreError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(error) == code
    assert capsys.readouterr().err == "kstore: x\n"


def test_a_hint_is_a_second_line(capsys: pytest.CaptureFixture[str]) -> None:
    code_of(NotFoundError("no image", hint="kstore pull x"))
    assert capsys.readouterr().err == "kstore: no image\nhint: kstore pull x\n"


def test_what_a_registry_says_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code_of(RemoteError("answered \x1b]0;title\x07\nkstore: all is well"))
    assert capsys.readouterr().err == "kstore: answered \\x1b]0;title\\x07\\nkstore: all is well\n"


def test_a_defect_is_one_line_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(ZeroDivisionError("division by zero")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "kstore: internal error, please report it: ZeroDivisionError: division by zero",
        "hint: kstore --log-level debug ... shows where",
    ]


def test_a_defect_shows_where_with_log_level_debug(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session()
    session.log_level = "debug"
    try:
        raise ZeroDivisionError("x")
    except ZeroDivisionError as error:
        code_of(error, session)
    assert "test_failures.py" in capsys.readouterr().err


def test_an_interrupt_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session()
    session.on_interrupt = "partial downloads are kept"
    assert code_of(KeyboardInterrupt(), session) == 130
    assert capsys.readouterr().err == "kstore: stopped; partial downloads are kept\n"


@pytest.mark.parametrize(
    "args",
    [
        ("pull",),
        ("tag", "x"),
        ("images", "a", "b"),
        ("images", "--sort", "colour"),
        ("pull", "--platform", "x", "busybox"),
        ("images", "--format", "{{.Nope}}"),
        ("images", "--format", "{{"),
        ("inspect", "--format", "{{range}}", "x"),
        ("serve", "--listen", "here"),
        ("serve", "--listen", "::1:80"),
        ("serve", "--listen", "127.0.0.1:99999"),
        ("--log-level", "loud", "images"),
        ("--nonsense",),
        ("login", "-u", "a:b", "-p", "x", "r.example"),
        ("login", "--password-stdin", "r.example"),
        ("login", "-u", "a", "-p", "x", "--password-stdin", "r.example"),
        ("logout",),
        ("logout", "--all", "r.example"),
        ("completion", "tcsh"),
        ("history",),
        ("pull", "--tls-verify=perhaps", "x"),
        ("rmi",),
        ("rmi", "--all", "x"),
        ("images", "--filter", "nonsense"),
        ("tag", "Upper:x", "y z"),
    ],
)
def test_bad_input_is_exit_code_2_and_one_sentence(args: tuple[str, ...], tmp_path: Path) -> None:
    Store.open(tmp_path / "root").close()
    result = run("--root", tmp_path / "root", *args)
    assert result.code == 2
    assert result.out == ""
    assert "Traceback" not in result.err
    said = [line for line in result.err.splitlines() if line.startswith("kstore: ")]
    assert len(said) == 1, result.err


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("df", "app"), "IMAGE and --what-if rm go together"),
        (
            ("pull", "--policy=missing", "app"),
            "invalid value for '--policy' / '--signature-policy': 'missing' is no file of trust"
            " policy; --if-missing of pull leaves what is there",
        ),
        (("completion",), "missing argument 'bash|zsh|fish', choose from bash, zsh, fish"),
        (("version", "-f", "jsn"), "--format 'jsn' is neither json nor a template with {{...}}"),
    ],
)
def test_words_of_the_command_line_are_quoted_as_they_are(
    args: tuple[str, ...], sentence: str
) -> None:
    assert f"kstore: {sentence}\n" in run(*args).err


def ended_without_a_reader(*args: str) -> tuple[int, bytes]:
    """The exit code, and what was said, of a run whose standard output nobody reads."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*PROGRAM, *args], stdout=pipe, stderr=pipe, env=environment()) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        return run.wait(20), run.stderr.read()


def test_a_reader_that_goes_away_is_no_noise() -> None:
    assert ended_without_a_reader("--help") == (141, b"")


@pytest.mark.parametrize(
    "args",
    [
        ("load", ""),
        ("load", "-i", ""),
        ("save", "-o", "", "app"),
        ("import", "", "app"),
        ("manifest-digest", ""),
        ("copy", "", "dir:x"),
        ("copy", "dir:x", ""),
        ("sync", "", "dir:x"),
        ("delete", ""),
        ("pull", "--policy", "", "app"),
        ("pull", "--authfile", "", "app"),
        ("push", "--digestfile", "", "app"),
        ("verify", "--key", "", "app"),
        ("serve", "--htpasswd", ""),
        ("policy", "set", "--reject", "--policy", "", "default"),
        ("--additional-store", "", "images"),
    ],
    ids=" ".join,
)
def test_an_unset_variable_in_a_script_is_no_name(args: tuple[str, ...], tmp_path: Path) -> None:
    Store.open(tmp_path / "root").close()
    result = run("--root", tmp_path / "root", *args)
    assert (result.code, result.out) == (2, "")
    assert "name is empty\n" in result.err


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_a_reader_that_has_enough_of_an_archive_is_no_noise(tmp_path: Path, form: str) -> None:
    with Store.open(tmp_path) as store:
        put_image(store, random_image(1), "localhost/app")
    save = ("--root", str(tmp_path), "save", "--quiet", "--format", form, "app")
    assert ended_without_a_reader(*save) == (141, b"")


@pytest.mark.parametrize(("command", "code"), [("rmi", 3), ("nonsense", 2)])
def test_an_error_that_nobody_hears_keeps_its_exit_code(
    tmp_path: Path, command: str, code: int
) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "--root", str(tmp_path / "absent"), command, "x"],
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(20) == code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=20,
            check=False,
        )
    assert done.returncode == 1
    message = "kstore: standard output cannot be written: No space left on device\n"
    assert done.stderr.decode() == message


def test_closed_standard_streams_are_no_traceback() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {' '.join(PROGRAM)} --help >&- 2>&-"],
        env=environment(),
        timeout=20,
        check=False,
    )
    assert done.returncode == 0


def test_a_closed_standard_input_is_an_empty_one(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {' '.join(PROGRAM)} --root '{tmp_path}/root' import - x <&-"],
        stderr=subprocess.PIPE,
        env=environment(),
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, b"kstore: standard input is empty\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("arguments", "code"), [(["no-such-command"], 2), (["tag", "nothing", "x"], 3)]
)
def test_messages_that_cannot_be_written_do_not_change_the_exit_code(
    tmp_path: Path, arguments: list[str], code: int
) -> None:
    Store.open(tmp_path / "root").close()
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, "--root", str(tmp_path / "root"), *arguments],
            stdout=subprocess.PIPE,
            stderr=full,
            env=environment(),
            timeout=20,
            check=False,
        )
    assert (done.returncode, done.stdout) == (code, b"")


def test_an_empty_root_is_not_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("--root", "", "import", "-")
    assert result.code == 2
    assert "the name is empty" in result.err
    assert list(tmp_path.iterdir()) == []
    assert run("--root", ".", "images").code == 0


SLEEPER = """
import sys, threading, time
from kstore.cli import main as program
from kstore.cli.grammar import Entry, declare
from kstore.cli.session import pass_session

@declare("sleep")
@pass_session
def command(session):
    session.on_interrupt = "nothing is lost"
    def work():
        while not session.cancel.cancelled:
            time.sleep(0.01)
    worker = threading.Thread(target=work)
    worker.start()
    try:
        print("ready", flush=True)
        for _ in range(2000):  # a signal just before one long sleep would wait for its end
            time.sleep(0.01)
    finally:
        worker.join(10)
        while STUBBORN:
            try:
                time.sleep(0.01)
            except KeyboardInterrupt:
                pass

STUBBORN = "stubborn" in sys.argv
program.COMMANDS["sleep"] = Entry("__main__", "Test", "sleep")
sys.exit(program.main(["sleep"]))
"""


@contextmanager
def sleeper(*args: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # The test runner may itself have been started with the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_workers_at_once_and_says_so(number: int, code: int) -> None:
    with sleeper() as process:
        began = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert err == "kstore: stopped; nothing is lost\n"
    assert time.monotonic() - began < 10  # of the 20 that it would have worked


def test_a_second_signal_ends_the_process_whatever_it_is_doing() -> None:
    with sleeper("stubborn") as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 130


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interrupts(lambda: None).installed():
            os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        pytest.fail("the signal was handled")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_handlers_of_the_caller_come_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts(lambda: None).installed():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_several_errors_end_with_the_code_of_the_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    session = Session()
    session.report(NotFoundError("one"))
    session.report(RemoteError("two", hint="later"))
    with pytest.raises(click.exceptions.Exit) as caught:
        session.finish()
    assert caught.value.exit_code == 3
    assert capsys.readouterr().err == "kstore: one\nkstore: two\nhint: later\n"


def test_a_cancelled_operation_is_not_one_of_several_errors() -> None:
    with pytest.raises(CancelledError):
        Session().report(CancelledError("stopped on request"))
