"""What goes wrong, as a user meets it: one sentence, an exit code, and nothing changed or lost."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.manifest import RawManifest, parse_image
from kstore.platforms import Platform
from kstore.store import Store
from tests.support.cli import Result, run, run_process
from tests.support.faultserver import Basic, Fault, FaultServer
from tests.support.images import TestImage, index_of, random_image
from tests.support.legacy import legacy_image
from tests.support.stores import named, put_image

PATH = "team/app"


@dataclass
class Scene:
    """A store with one image under a name, and a registry that has another one for that name."""

    root: Path
    server: FaultServer
    old: TestImage
    new: TestImage

    @property
    def name(self) -> str:
        return f"{self.server.host}/{PATH}:v1"

    def pull(self, *extra: object, name: str | None = None) -> Result:
        return run("--root", self.root, "pull", "--tls-verify=false", *extra, name or self.name)

    def offer(self, raw: RawManifest, media_type: str | None = None) -> None:
        self.server.add_manifest(raw.data, media_type or raw.media_type, PATH, "v1")

    def offer_bytes(self, data: bytes, media_type: str = mt.OCI_MANIFEST) -> None:
        self.server.add_manifest(data, media_type, PATH, "v1")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    old, new = random_image(1), random_image(2)
    with FaultServer() as server:
        for data in new.blobs.values():
            server.add_blob(data, PATH)
        server.add_manifest(new.raw.data, new.raw.media_type, PATH, "v1")
        scene = Scene(tmp_path / "store", server, old, new)
        with Store.open(scene.root, command="test") as store:
            put_image(store, old, scene.name)
        yield scene


def check_refused(scene: Scene, result: Result, code: int, *words: str) -> None:
    """One sentence with ``words``, exit code ``code``, and the name still means what it meant."""
    said = [line for line in result.err.splitlines() if line.startswith("kstore: ")]
    assert result.code == code, result.err
    assert len(said) == 1, result.err
    assert "Traceback" not in result.err
    assert result.out in ("", "[]\n")  # the list of what was found
    for word in words:
        assert word in said[0]
    with Store.open(scene.root, read_only=True) as store:
        record = store.name(named(scene.name))
        assert record is not None
        assert record.target == scene.old.raw.digest
    with Store.open(scene.root) as store:
        assert not store.check(deep=True).damaged


def test_the_scene_itself_can_be_pulled(scene: Scene) -> None:
    result = scene.pull("-q")
    assert (result.code, result.out) == (0, f"{scene.new.id}\n")


def test_an_unknown_host_is_named(scene: Scene) -> None:
    check_refused(scene, scene.pull(name="no-such-host.invalid/x"), 8, "no-such-host.invalid")


def test_a_refused_connection_is_named(scene: Scene) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        check_refused(scene, scene.pull(name=f"{host}/x"), 8, host)


def test_a_registry_that_speaks_no_tls_is_not_spoken_to_in_the_clear(scene: Scene) -> None:
    result = run("--root", scene.root, "pull", scene.name)
    check_refused(scene, result, 8, scene.server.host)
    assert "--tls-verify=false" in result.err
    assert scene.server.requests == []


def test_a_registry_that_wants_credentials_is_answered_with_the_command_to_give_them(
    scene: Scene,
) -> None:
    scene.server.auth = Basic(("ann", "secret"))
    result = scene.pull()
    check_refused(scene, result, 9, scene.server.host)
    assert f"kstore login {scene.server.host}" in result.err


def test_wrong_credentials_are_refused_and_never_shown(scene: Scene) -> None:
    scene.server.auth = Basic(("ann", "secret"))
    result = scene.pull("--creds", "ann:hunter2")
    check_refused(scene, result, 9, scene.server.host)
    assert "hunter2" not in result.err


def test_the_right_credentials_are_accepted(scene: Scene) -> None:
    scene.server.auth = Basic(("ann", "secret"))
    assert scene.pull("--creds", "ann:secret").code == 0


def test_a_missing_manifest_is_named(scene: Scene) -> None:
    name = f"{scene.server.host}/{PATH}:v9"
    check_refused(scene, scene.pull(name=name), 3, "v9")


def test_a_missing_blob_is_named(scene: Scene) -> None:
    layer = scene.new.layers[0]
    del scene.server.blobs[PATH][str(layer.digest)]
    check_refused(scene, scene.pull(), 3, str(layer.digest))


def test_a_manifest_with_another_digest_than_asked_for_is_refused(scene: Scene) -> None:
    wanted = Digest.of(b"something else")
    scene.server.manifests[PATH][str(wanted)] = (mt.OCI_MANIFEST, scene.new.raw.data)
    name = f"{scene.server.host}/{PATH}@{wanted}"
    check_refused(scene, scene.pull(name=name), 5, str(wanted))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(Fault(corrupt=True), id="other bytes"),
        pytest.param(Fault(extra=b"more"), id="longer"),
    ],
)
def test_a_blob_that_is_not_what_it_claims_is_refused(scene: Scene, damage: Fault) -> None:
    layer = scene.new.layers[0].digest
    scene.server.fault(damage, "GET", str(layer), times=50)
    check_refused(scene, scene.pull(), 5, str(layer))


def test_a_blob_shorter_than_its_descriptor_is_refused(scene: Scene) -> None:
    layer = scene.new.layers[0].digest
    scene.server.blobs[PATH][str(layer)] = scene.new.blobs[layer][:-1]
    check_refused(scene, scene.pull(), 5, str(layer))


def test_a_redirect_to_another_host_gets_the_blob_but_not_the_credentials(scene: Scene) -> None:
    scene.server.auth = Basic(("ann", "secret"))
    layer = scene.new.layers[0].digest
    with FaultServer() as other:
        other.add_blob(scene.new.blobs[layer], PATH)
        where = f"{other.url}/v2/{PATH}/blobs/{layer}"
        fault = Fault(status=307, headers={"Location": where}, body=b"")
        scene.server.fault(fault, "GET", str(layer))
        assert scene.pull("--creds", "ann:secret").code == 0
        requests = other.seen("GET", str(layer))
    assert len(requests) == 1
    assert "authorization" not in requests[0].headers


def test_a_manifest_of_five_mebibytes_is_refused(scene: Scene) -> None:
    scene.offer_bytes(scene.new.raw.data + b" " * (5 << 20))
    check_refused(scene, scene.pull(), 5, str(4 << 20))


def test_an_index_inside_an_index_inside_itself_is_refused(scene: Scene) -> None:
    inner = index_of([scene.new])
    for _ in range(3):
        image = TestImage(inner, {}, b"", (), Platform("linux", "amd64"))
        scene.server.add_manifest(inner.data, inner.media_type, PATH)
        inner = index_of([image])
    scene.offer(inner)
    result = scene.pull("--platform", "linux/amd64")
    check_refused(scene, result, 5, "nested")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "JSON"),
        (b"[1, 2]", "object"),
        (b'{"schemaVersion":2,"schemaVersion":2}', "twice"),
        (b'{"schemaVersion":2,"mediaType":"x","mediatype":"y"}', "case"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"schemaVersion":2}', "type"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(scene: Scene, data: bytes, says: str) -> None:
    scene.offer_bytes(data)
    check_refused(scene, scene.pull(), 5, says)


def test_an_ambiguous_manifest_is_refused(scene: Scene) -> None:
    document = json.loads(scene.new.raw.data)
    document["manifests"] = []
    scene.offer_bytes(json.dumps(document).encode())
    check_refused(scene, scene.pull(), 5, "ambiguous")


def test_a_manifest_of_an_unknown_type_is_refused(scene: Scene) -> None:
    document = json.loads(scene.new.raw.data)
    document["mediaType"] = "application/vnd.example.future.v9+json"
    scene.offer_bytes(json.dumps(document).encode(), document["mediaType"])
    check_refused(scene, scene.pull(), 5, "type")


def test_a_docker_schema_1_image_without_layers_is_refused(scene: Scene) -> None:
    document = {"schemaVersion": 1, "name": PATH, "tag": "v1", "fsLayers": [], "history": []}
    scene.offer_bytes(json.dumps(document).encode(), mt.DOCKER_SCHEMA1)
    check_refused(scene, scene.pull(), 5, "fsLayers")


@pytest.mark.parametrize("signed", [True, False])
def test_a_docker_schema_1_image_is_pulled_as_a_newer_one(scene: Scene, signed: bool) -> None:
    image = legacy_image(1, signed=signed)
    for data in image.blobs.values():
        scene.server.add_blob(data, PATH)
    scene.offer(image.raw)
    assert scene.pull().code == 0
    with Store.open(scene.root) as store:
        record = store.name(named(scene.name))
        assert record is not None
        manifest = parse_image(store.read_manifest(record.target))
        assert [layer.digest for layer in manifest.layers] == list(image.blobs)
        assert store.check(deep=True).problems == ()


def test_a_platform_the_index_lacks_is_answered_with_those_it_has(scene: Scene) -> None:
    arm = random_image(3, platform=Platform("linux", "arm64"))
    scene.offer(index_of([scene.new, arm]))
    result = scene.pull("--platform", "linux/s390x")
    check_refused(scene, result, 3, "linux/amd64", "linux/arm64")


@pytest.mark.parametrize(
    "name",
    ["", "UPPER", "a b", "a//b", "a:b:c", "a@sha256:12", "a:", "-a", "a" * 300, "0" * 64, "x\ny"],
)
def test_an_invalid_name_is_refused_by_every_command_that_takes_one(
    scene: Scene, name: str
) -> None:
    for command in (["pull", name], ["tag", scene.name, name], ["push", scene.name, name]):
        check_refused(scene, run("--root", scene.root, *command), 2)


def test_an_image_that_is_not_there_is_named_by_every_command_that_takes_one(
    scene: Scene,
) -> None:
    for command in (["tag", "nope", "x"], ["push", "nope"], ["rmi", "nope"], ["inspect", "nope"],
                    ["history", "nope"], ["untag", "nope"]):  # fmt: skip
        check_refused(scene, run("--root", scene.root, *command), 3, "nope")


def test_a_database_written_by_a_newer_version_is_left_alone(scene: Scene) -> None:
    database = scene.root / "db" / "kstore.db"
    with sqlite3.connect(database) as connection:
        (before,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for command in (["images"], ["pull", scene.name], ["prune"], ["check"]):
        result = run("--root", scene.root, *command)
        assert result.code == 10
        assert "version 99" in result.err
        assert result.err.count("kstore: ") == 1
    with sqlite3.connect(database) as connection:
        connection.execute(f"PRAGMA user_version = {before}")
    connection.close()
    check_refused(scene, run("--root", scene.root, "inspect", "nope"), 3)


@pytest.mark.unprivileged
def test_a_read_only_root_can_be_read_and_not_written(scene: Scene) -> None:
    for directory, _, _ in os.walk(scene.root):
        Path(directory).chmod(0o500)
    try:
        listed = run("--root", scene.root, "images", "-q")
        result = scene.pull()
    finally:
        for directory, _, _ in os.walk(scene.root):
            Path(directory).chmod(0o700)
    assert (listed.code, listed.out.strip()) == (0, scene.old.id[:12])
    check_refused(scene, result, 10, str(scene.root))


def _other_users_root(scene: Scene, tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        return Path("/")
    root = tmp_path / "theirs"
    root.mkdir()
    os.chown(root, 12345, 12345)
    return root


def test_a_root_owned_by_another_user_is_refused_with_the_owner_named(
    scene: Scene, tmp_path: Path
) -> None:
    root = _other_users_root(scene, tmp_path)
    owner = "12345" if os.geteuid() == 0 else "root"
    for command in (["images"], ["pull", scene.name]):
        check_refused(scene, run("--root", root, *command), 10, owner)


def test_a_directory_full_of_something_else_is_not_filled(scene: Scene, tmp_path: Path) -> None:
    root = tmp_path / "documents"
    root.mkdir()
    (root / "thesis.tex").write_text("precious")
    result = run("--root", root, "pull", scene.name)
    check_refused(scene, result, 4, str(root))
    assert [path.name for path in root.iterdir()] == ["thesis.tex"]


@pytest.mark.root
def test_a_full_disk_fails_the_pull_and_keeps_the_store_usable(
    scene: Scene, tmp_path: Path
) -> None:
    """On a tmpfs that holds the store but not the image."""
    big = random_image(7, layers=2, layer_size=9 << 20, compression="none")
    for data in big.blobs.values():
        scene.server.add_blob(data, PATH)
    scene.server.add_manifest(big.raw.data, big.raw.media_type, PATH, "big")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=True)
    try:
        full = Scene(small / "store", scene.server, scene.old, scene.new)
        with Store.open(full.root, command="test") as store:
            put_image(store, full.old, full.name)
        result = full.pull(name=f"{full.server.host}/{PATH}:big")
        check_refused(full, result, 10, "space")
        assert run("--root", full.root, "images", "-q").out.strip() == full.old.id[:12]
        assert run("--root", full.root, "prune", "--all-partials").code == 0
        assert full.pull("-q").out == f"{full.new.id}\n"
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_two_processes_pulling_and_one_pruning_lose_nothing(scene: Scene) -> None:
    def start(*args: object) -> subprocess.Popen[bytes]:
        from tests.support.cli import PROGRAM, environment

        command = [*PROGRAM, "--root", str(scene.root), *map(str, args)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )

    def finish(process: subprocess.Popen[bytes]) -> None:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()

    names = []
    for number in range(4):
        image = random_image(20 + number, layers=4)
        for data in image.blobs.values():
            scene.server.add_blob(data, PATH)
        scene.server.add_manifest(image.raw.data, image.raw.media_type, PATH, f"n{number}")
        names.append(f"{scene.server.host}/{PATH}:n{number}")
    for number in range(2):
        pulls = [start("pull", "--tls-verify=false", "-q", *names) for _ in range(2)]
        prunes = [start("prune") for _ in range(2)]
        for process in (*pulls, *prunes):
            finish(process)
        with Store.open(scene.root) as store:
            assert all(store.name(named(name)) for name in names)
            assert store.check(deep=True).problems == ()
        if number == 0:
            assert run("--root", scene.root, "rmi", *names).code == 0


@pytest.mark.parametrize(
    "command",
    [["pull"], ["tag"], ["tag", "x"], ["rmi"], ["push"], ["images", "a", "b"], ["nonsense"]],
)
def test_a_wrong_call_is_a_usage_error(
    scene: Scene, command: list[str], run_it: Callable[..., Result]
) -> None:
    result = run_it("--root", scene.root, *command)
    assert result.code == 2
    assert result.out == ""
    assert "Traceback" not in result.err


@pytest.fixture(params=[run, run_process], ids=["in-process", "as a process"])
def run_it(request: pytest.FixtureRequest) -> Callable[..., Result]:
    runner: Callable[..., Result] = request.param
    return runner


@pytest.mark.parametrize(
    ("content", "code", "why"),
    [
        (None, 3, "does not exist"),
        (b"", 2, "has no users"),
        (b"anna", 2, "line 1 of password file"),
        (b"\x00\xff\xfe\n", 2, "line 1 of password file"),
        (b"anna:secret", 6, "unknown format"),
        (b"anna:$2y$05$short", 6, "is damaged"),
    ],
    ids=["absent", "empty", "no hash", "binary", "plain", "damaged"],
)
def test_a_server_whose_password_file_is_no_good_never_listens(
    tmp_path: Path, content: bytes | None, code: int, why: str
) -> None:
    users = tmp_path / "users"
    if content is not None:
        users.write_bytes(content)
    result = serve_guarded(tmp_path, users)
    assert (result.code, result.out) == (code, "")
    assert why in result.err
    assert str(users) in result.err
    assert result.err.count("kstore: ") == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.unprivileged
def test_a_server_whose_password_file_may_not_be_read_never_listens(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.touch(mode=0)
    result = serve_guarded(tmp_path, users)
    assert (result.code, result.out) == (10, "")
    assert f"cannot read password file {users}: Permission denied" in result.err


def serve_guarded(place: Path, users: Path) -> Result:
    """A server that could not listen if it came to that: it would end with 8."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        return run(
            "--root", place / "store", "serve", "--listen", f"127.0.0.1:{port}", "--htpasswd", users
        )
