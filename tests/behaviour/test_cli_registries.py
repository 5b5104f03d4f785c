"""Pulling, pushing, serving and logging in, as the command line does it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kstore.platforms import Platform
from kstore.store import Store
from tests.support.cli import PROGRAM, Result, environment, run, run_on_terminal
from tests.support.faultserver import Basic, Fault, FaultServer
from tests.support.images import TestImage, random_artifact, random_image
from tests.support.localregistry import LocalRegistry, serve
from tests.support.stores import put_image

SMALL = random_image(1)
OTHER = random_image(2)
LARGE = random_image(3, layers=1, layer_size=3_000_000)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    with serve(tmp_path / "registry") as registry:
        registry.push("team/app", "1", SMALL)
        registry.push("team/app", "2", OTHER)
        yield registry


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def faulty() -> Iterator[FaultServer]:
    with FaultServer() as server:
        offer(server, SMALL, "v1")
        yield server


def offer(server: FaultServer, image: TestImage, tag: str) -> None:
    for data in image.blobs.values():
        server.add_blob(data, "team/app")
    server.add_manifest(image.raw.data, image.raw.media_type, "team/app", tag)


def kstore(root: Path, command: str, *args: object) -> Result:
    return run("--root", root, command, "--tls-verify=false", *args)


# ---- pull


def test_pull_prints_the_id_alone_on_standard_output(root: Path, registry: LocalRegistry) -> None:
    result = kstore(root, "pull", f"{registry.host}/team/app:1")
    assert (result.code, result.out) == (0, f"{SMALL.id}\n")
    layer = SMALL.layers[0].digest.short
    assert re.search(rf"^layer {layer}: fetched, [\d.]+ kB$", result.err, re.MULTILINE)
    summary = result.err.splitlines()[-1]
    assert summary.startswith(f"pulled {registry.host}/team/app:1: 2 layers, ")


def test_a_second_pull_says_that_everything_is_here(root: Path, registry: LocalRegistry) -> None:
    kstore(root, "pull", f"{registry.host}/team/app:1")
    result = kstore(root, "pull", f"{registry.host}/team/app:1")
    assert (result.code, result.out) == (0, f"{SMALL.id}\n")
    assert result.err.splitlines()[-1].endswith("2 layers, all already here")


def test_a_quiet_pull_says_nothing_else(root: Path, registry: LocalRegistry) -> None:
    result = kstore(root, "pull", "-q", f"{registry.host}/team/app:1")
    assert result == Result(0, f"{SMALL.id}\n", "")


def test_several_names_are_pulled_and_a_failure_does_not_stop_the_rest(
    root: Path, registry: LocalRegistry
) -> None:
    names = [f"{registry.host}/team/{name}" for name in ("app:1", "none:1", "app:2")]
    result = kstore(root, "pull", "-q", *names)
    assert (result.code, result.out) == (3, f"{SMALL.id}\n{OTHER.id}\n")
    assert len(result.err.splitlines()) == 1
    assert "none:1" in result.err


def test_all_tags_pulls_each_of_them(root: Path, registry: LocalRegistry) -> None:
    result = kstore(root, "pull", "--all-tags", f"{registry.host}/team/app")
    assert sorted(result.out.split()) == sorted((SMALL.id, OTHER.id))


def test_a_tag_that_is_no_image_is_named_and_the_others_are_pulled(
    root: Path, registry: LocalRegistry
) -> None:
    registry.push("team/app", "1-signature", random_artifact(1))
    result = kstore(root, "pull", "-q", "-a", f"{registry.host}/team/app")
    assert (result.code, result.out) == (6, f"{SMALL.id}\n{OTHER.id}\n")
    assert result.err.startswith(f"kstore: {registry.host}/team/app:1-signature: manifest ")


def test_an_image_for_another_platform_is_pulled_with_a_warning(
    root: Path, registry: LocalRegistry
) -> None:
    registry.push("team/app", "3", random_image(5, platform=Platform("linux", "s390x")))
    name = f"{registry.host}/team/app:3"
    result = kstore(root, "pull", name)
    assert result.code == 0
    assert f"kstore: warning: {name} is an image for linux/s390x only\n" in result.err
    assert "warning" not in kstore(root, "pull", "--platform", "linux/s390x", name).err


def test_a_pull_that_leaves_an_image_nameless_says_so(root: Path, registry: LocalRegistry) -> None:
    kstore(root, "pull", f"{registry.host}/team/app:1")
    registry.push("team/app", "1", OTHER)
    result = kstore(root, "pull", f"{registry.host}/team/app:1")
    assert result.out == f"{OTHER.id}\n"
    assert f"meant {SMALL.id[:12]} before" in result.err.splitlines()[-1]


def test_progress_as_json_is_one_event_a_line(root: Path, registry: LocalRegistry) -> None:
    result = kstore(root, "pull", "--progress", "json", f"{registry.host}/team/app:1")
    lines = [line for line in result.err.splitlines() if line.startswith("{")]
    events = [json.loads(line) for line in lines]
    assert events[0]["event"] == "plan"
    assert events[-1]["event"] == "manifest"
    finished = {event["digest"] for event in events if event["event"] == "finish"}
    assert finished == {str(digest) for digest in SMALL.blobs}


def test_a_pull_on_a_terminal_leaves_summary_and_id(root: Path, registry: LocalRegistry) -> None:
    code, screen = run_on_terminal(
        "--root", root, "pull", "--tls-verify=false", f"{registry.host}/team/app:1"
    )
    assert code == 0
    assert "\x1b[?25l" in screen  # it was drawn
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l")
    assert screen.endswith(f"\r\n{SMALL.id}\r\n")


def test_a_pull_that_fails_prints_one_sentence_and_no_id(root: Path, faulty: FaultServer) -> None:
    faulty.fault(Fault(corrupt=True), "GET", f"/blobs/{SMALL.layers[0].digest}", times=9)
    result = kstore(root, "pull", f"{faulty.host}/team/app:v1")
    assert (result.code, result.out) == (5, "")
    assert result.err.splitlines()[-1].startswith("kstore: ")


def test_ctrl_c_answers_at_once_and_the_next_pull_resumes(root: Path, faulty: FaultServer) -> None:
    offer(faulty, LARGE, "large")
    blob = f"/blobs/{LARGE.layers[0].digest}"
    faulty.fault(Fault(stall_after=1_500_000), "GET", blob)
    command = [*PROGRAM, "--root", str(root), "pull", "--tls-verify=false"]
    with subprocess.Popen(
        [*command, f"{faulty.host}/team/app:large"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # The test runner may itself have been started with the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            until(lambda: held(root) > 1_000_000)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
            took = time.monotonic() - began
        finally:
            process.kill()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1] == (
        "kstore: stopped; finished layers and partial downloads are kept, and the next pull goes"
        " on from there"
    )
    assert took < 2
    result = kstore(root, "pull", f"{faulty.host}/team/app:large")
    assert result.code == 0
    assert "resumed at" in result.err
    assert "range" in faulty.seen("GET", blob)[-1].headers


def held(root: Path) -> int:
    """Bytes of the largest partial download."""
    sizes = [0]
    for path in (root / "ingest").glob("*"):
        with suppress(FileNotFoundError):  # side files come and go
            sizes.append(path.stat().st_size)
    return max(sizes)


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


# ---- push


def test_push_prints_nothing_on_standard_output_and_notes_the_digest(
    root: Path, registry: LocalRegistry, tmp_path: Path
) -> None:
    image = random_image(7)
    with Store.open(root, command="test") as store:
        put_image(store, image, "localhost/mine")
    note = tmp_path / "digest"
    result = kstore(root, "push", "--digestfile", note, "mine", f"{registry.host}/team/mine:3")
    assert (result.code, result.out) == (0, "")
    assert note.read_text() == str(image.raw.digest)
    pushed, digest = result.err.splitlines()[-2:]
    assert pushed.startswith(f"pushed {registry.host}/team/mine:3: 2 layers, ")
    assert digest == f"digest {image.raw.digest}"
    answer = registry.ask("GET", "/v2/team/mine/manifests/3")
    assert answer.body == image.raw.data


def test_a_push_to_another_place_says_which(root: Path, tmp_path: Path) -> None:
    with Store.open(root) as store:
        put_image(store, SMALL, "localhost/mine")
    for place in (f"oci:{tmp_path}/layout:x", f"docker-archive:{tmp_path}/mine.tar:quay.io/me/x:1"):
        result = run("--root", root, "push", "mine", place)
        assert result.code == 0, result.err
        assert f"\npushed {place}: " in result.err


@pytest.mark.parametrize("command", ["pull", "push mine"])
def test_an_address_of_the_web_is_no_name(root: Path, command: str) -> None:
    Store.open(root).close()
    result = run("--root", root, *command.split(), "https://quay.io/team/app")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "kstore: 'https://quay.io/team/app' is an address of the web, not an image\n"
        "hint: docker://quay.io/team/app\n"
    )


def test_a_second_push_sends_nothing(root: Path, registry: LocalRegistry) -> None:
    with Store.open(root, command="test") as store:
        put_image(store, SMALL, "localhost/mine")
    result = kstore(root, "push", "mine", f"{registry.host}/team/app:9")
    assert result.err.splitlines()[-2].endswith("2 layers, all already there")
    assert kstore(root, "push", "-q", "mine", f"{registry.host}/team/app:9") == Result(0, "", "")


def test_a_damaged_layer_is_not_pushed(root: Path, registry: LocalRegistry) -> None:
    with Store.open(root, command="test") as store:
        put_image(store, LARGE, "localhost/mine")
    [layer] = LARGE.layers
    blob = root / "blobs/sha256" / layer.digest.hex
    blob.chmod(0o600)
    with blob.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    name = f"{registry.host}/team/mine:1"
    result = kstore(root, "push", "-q", "mine", name)
    assert (result.code, result.out) == (5, "")
    assert result.err.startswith(f"kstore: bytes sent as {layer.digest} hash to ")
    assert "hint: kstore check --repair" in result.err
    puts = [line.path for line in registry.log if line.method == "PUT" and "mine" in line.path]
    assert len(puts) <= 1, "the config's upload may be complete, the layer's must not be"
    blob.unlink()
    result = kstore(root, "push", "-q", "mine", name)
    assert (result.code, result.err.splitlines()[-1]) == (10, "hint: kstore check --repair")


# ---- login, logout


@pytest.fixture
def guarded(faulty: FaultServer) -> FaultServer:
    faulty.auth = Basic(("ann", "secret"))
    return faulty


def login(server: FaultServer, file: Path, *args: object, stdin: bytes = b"") -> Result:
    return run("login", "--tls-verify=false", "--authfile", file, *args, server.host, stdin=stdin)


def test_login_keeps_credentials_that_pull_then_uses(
    guarded: FaultServer, root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "auth.json"
    result = login(guarded, file, "-u", "ann", "--password-stdin", stdin=b"secret\n")
    assert (result.code, result.out) == (0, "Login Succeeded!\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert "secret" not in result.err
    pulled = kstore(root, "pull", "-q", "--authfile", file, f"{guarded.host}/team/app:v1")
    assert pulled == Result(0, f"{SMALL.id}\n", "")
    assert run("login", "--authfile", file, "--get-login", guarded.host).out == "ann\n"
    gone = run("logout", "--authfile", file, guarded.host)
    assert gone.out == f"Removed login credentials for {guarded.host}\n"
    assert run("login", "--authfile", file, "--get-login", guarded.host).code == 9
    assert run("logout", "--authfile", file, guarded.host).code == 3


def test_a_wrong_password_is_refused_and_kept_nowhere(guarded: FaultServer, tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    result = login(guarded, file, "-u", "ann", "-p", "wrong-guess")
    assert (result.code, result.out) == (9, "")
    assert "wrong-guess" not in result.err
    assert "hint" not in result.err, "to log in is what was just tried"
    assert not file.exists()


def test_login_asks_on_the_terminal_and_never_shows_the_password(
    guarded: FaultServer, tmp_path: Path
) -> None:
    file = tmp_path / "auth.json"
    command = ("login", "--tls-verify=false", "--authfile", file, guarded.host)
    code, screen = run_on_terminal(*command, answers=[("Username", "ann"), ("Password", "secret")])
    assert code == 0
    assert "Username: " in screen
    assert "Password: " in screen
    assert "secret" not in screen
    assert "Login Succeeded!" in screen


def test_login_without_a_terminal_does_not_wait_for_an_answer(
    guarded: FaultServer, tmp_path: Path
) -> None:
    result = login(guarded, tmp_path / "auth.json", "-u", "ann")
    assert result.code == 9
    assert "--password-stdin" in result.err


# ---- serve


@contextmanager
def served(root: Path, *args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(
        [*PROGRAM, "--root", str(root), "serve", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().rstrip("\n")
            assert line.startswith("listening on http://"), line
            yield process, line.removeprefix("listening on http://")
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_where_it_listens_and_ends_in_peace(
    root: Path, tmp_path: Path, number: int
) -> None:
    with Store.open(root, command="test") as store:
        put_image(store, SMALL, "localhost/app:1")
    with served(root) as (process, host):
        result = kstore(tmp_path / "other", "pull", "-q", f"{host}/app:1")
        assert result == Result(0, f"{SMALL.id}\n", "")
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "GET /v2/app/manifests/1 200" in err
    assert err.splitlines()[-1] == "stopped"


def test_a_read_only_registry_refuses_pushes(root: Path, tmp_path: Path) -> None:
    with Store.open(root, command="test") as store:
        put_image(store, SMALL, "localhost/app:1")
    with served(root, "--read-only", "--quiet") as (process, host):
        result = kstore(root, "push", "app:1", f"{host}/other:1")
        assert result.code in (6, 8)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[1] == "stopped\n"


def test_an_address_in_use_is_one_sentence(root: Path, registry: LocalRegistry) -> None:
    result = run("--root", root, "serve", "--listen", registry.host)
    assert (result.code, result.out) == (8, "")
    assert result.err == f"kstore: cannot listen on {registry.host}: Address already in use\n"


def test_a_registry_for_the_network_needs_passwords(root: Path) -> None:
    result = run("--root", root, "serve", "--listen", "0.0.0.0:0")
    assert (result.code, result.out) == (2, "")
