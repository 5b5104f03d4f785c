"""Credential helpers: asked safely, and believed only as far as their protocol goes."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from kstore.errors import AuthError, CancelledError
from kstore.registry import Credentials
from kstore.registry.child import run_bounded
from kstore.registry.credential_programs import CredentialPrograms
from kstore.streams import Cancel
from tests.support.credentialprogram import answer, install


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    return tmp_path / "bin"


@pytest.fixture
def programs(bin_dir: Path) -> CredentialPrograms:
    return CredentialPrograms((bin_dir,), limit=20)


def test_a_program_gives_what_it_was_given(bin_dir: Path, programs: CredentialPrograms) -> None:
    install(bin_dir, "x")
    assert programs.get("x", "r.io") is None
    programs.store("x", "r.io", Credentials("ann", 'p"q\\'))
    assert programs.get("x", "r.io") == Credentials("ann", 'p"q\\')
    programs.store("x", "https://q.io/v1/", Credentials(identity_token="t"))
    assert programs.get("x", "https://q.io/v1/") == Credentials(identity_token="t")
    programs.erase("x", "r.io")
    assert programs.get("x", "r.io") is None
    assert programs.servers("x") == ("r.io",)


def test_a_program_runs_once_for_each_server(bin_dir: Path, programs: CredentialPrograms) -> None:
    entries = install(bin_dir, "x")
    (entries / "r.io").write_text(answer("ann", "p"))
    for _ in range(3):
        programs.get("x", "r.io")
        programs.get("x", "q.io")
    assert (entries / "runs").read_text().splitlines() == ["get r.io", "get q.io"]


def test_a_missing_program_is_an_error_that_names_it(programs: CredentialPrograms) -> None:
    assert not programs.is_installed("gone")
    with pytest.raises(AuthError, match="docker-credential-gone is not installed"):
        programs.get("gone", "r.io")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x\n", "-x", "x y", "a" * 101])
def test_a_name_that_could_lead_elsewhere_is_no_program(
    bin_dir: Path, programs: CredentialPrograms, name: str
) -> None:
    install(bin_dir, "x")
    with pytest.raises(AuthError, match="not the name of a credential helper"):
        programs.get(name, "r.io")


def test_a_program_of_the_current_directory_is_never_run(
    bin_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = install(bin_dir, "x")
    monkeypatch.chdir(bin_dir)
    for directories in ((), (Path(),), (Path(),)):
        with pytest.raises(AuthError, match="not installed"):
            CredentialPrograms(directories).get("x", "r.io")
    assert not (entries / "runs").exists()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "failed to get"),
        ("echo the vault is sealed; exit 1", "the vault is sealed"),
        ("echo no session >&2; exit 1", "no session"),
        ("echo 'Zugang s3cret-word'", "not understood"),
        ('echo \'{"Username": "u", "Secret": 3, "x": "s3cret-word"}\'', "no user or no secret"),
        ("echo '[]'", "not understood"),
        ("exec yes s3cret-word", "wrote more than"),
        ("kill -9 $$", "failed to get"),
    ],
    ids=["exit", "words", "stderr", "garbage", "types", "list", "flood", "killed"],
)
def test_a_program_that_fails_is_an_error_without_its_secrets(
    bin_dir: Path, programs: CredentialPrograms, script: str, said: str
) -> None:
    install(bin_dir, "x", script)
    with pytest.raises(AuthError, match=said) as caught:
        programs.get("x", "r.io")
    assert "s3cret-word" not in f"{caught.value.message} {caught.value.hint}"


def test_what_a_program_says_cannot_steer_a_terminal(
    bin_dir: Path, programs: CredentialPrograms
) -> None:
    install(bin_dir, "x", "printf 'a\\033[2Jb\\nc'; exit 1")
    with pytest.raises(AuthError) as caught:
        programs.get("x", "r.io")
    assert caught.value.message.isprintable()


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path, bin_dir: Path) -> None:
    note = tmp_path / "pid"
    install(bin_dir, "x", f'sleep 600 & echo $! >"{note}"; wait')
    with pytest.raises(AuthError, match=r"did not finish within 0\.5 s"):
        CredentialPrograms((bin_dir,), limit=0.5).get("x", "r.io")
    until = time.monotonic() + 10
    while _lives(int(note.read_text())) and time.monotonic() < until:
        time.sleep(0.01)
    assert not _lives(int(note.read_text()))


def _lives(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_program_that_reads_nothing_makes_nobody_wait(tmp_path: Path) -> None:
    done = run_bounded(("/bin/true",), b"x" * 10_000_000, limit=20, cap=10, cancel=Cancel())
    assert (done.code, done.out) == (0, b"")


def test_a_cancel_ends_a_program(bin_dir: Path) -> None:
    install(bin_dir, "x", "exec sleep 600")
    cancel = Cancel()
    timer = threading.Timer(0.1, cancel.cancel)
    timer.start()
    with pytest.raises(CancelledError):
        CredentialPrograms((bin_dir,), limit=60, cancel=cancel).get("x", "r.io")
    timer.join()


def test_a_file_that_is_no_program_is_not_installed(bin_dir: Path) -> None:
    install(bin_dir, "x")
    (bin_dir / "docker-credential-x").chmod(0o644)
    assert not CredentialPrograms((bin_dir,)).is_installed("x") or os.access(
        bin_dir / "docker-credential-x", os.X_OK
    )
    with pytest.raises(AuthError):
        CredentialPrograms((bin_dir,)).get("x", "r.io")
