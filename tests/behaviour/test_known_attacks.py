"""Attacks that are known of other tools, tried on whole commands.

``contrib/docs/attacks.md`` lists all of them, most of which are tried where the code is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from kstore.errors import UnsupportedError
from kstore.manifest import Manifest, RawManifest, parse
from kstore.signing.gpg import find_program
from kstore.store import Store
from tests.support.cli import run
from tests.support.dockertars import dump, legacy_docker, tar_of
from tests.support.faultserver import FaultServer, make_certificate
from tests.support.images import random_image, write_oci_layout
from tests.support.sigstorekeys import key_pair
from tests.support.stores import put_image

IMAGE = random_image(1)
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultServer]:
    """A registry whose certificate nobody has signed."""
    with FaultServer(tls=make_certificate(tmp_path_factory.mktemp("tls"))) as server:
        for data in IMAGE.blobs.values():
            server.add_blob(data)
        server.add_manifest(IMAGE.raw.data, IMAGE.raw.media_type, "team/app", "v1")
        yield server


@pytest.mark.parametrize(
    "line",
    [
        "pull HOST/team/app:v1",
        "pull --all-tags HOST/team/app",
        "pull --with-referrers HOST/team/app:v1",
        "push local HOST/team/app:v2",
        "copy docker://HOST/team/app:v1 dir:copy",
        "copy kstore:local docker://HOST/team/app:v2",
        "sync --src docker --dest dir HOST/team/app:v1 synced",
        "inspect docker://HOST/team/app:v1",
        "referrers docker://HOST/team/app:v1",
        "list-tags docker://HOST/team/app",
        "delete docker://HOST/team/app:v1",
        "search HOST/app",
        "sign --sign-by-sigstore-private-key me.private docker://HOST/team/app:v1",
        "verify --key me.public docker://HOST/team/app:v1",
        "login -u ann -p secret HOST",
        "import https://HOST/v2/team/app/manifests/v1",
    ],
    ids=lambda line: "-".join(re.findall(r"^[\w-]+|(?<=copy )\w+", line)),
)
def test_no_command_speaks_to_a_server_that_nobody_vouches_for(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    for kind, key in zip(("private", "public"), key_pair("ec"), strict=True):
        (tmp_path / f"me.{kind}").write_bytes(key)
    with Store.open(tmp_path / "root") as store:
        put_image(store, IMAGE, "localhost/local:latest")
    result = run("--root", tmp_path / "root", *line.replace("HOST", server.host).split())
    assert result.code == 8, result.err
    assert "certificate" in result.err
    assert server.requests == [], "not a word was said, and no password"
    assert not (tmp_path / "auth.json").exists()


@pytest.mark.parametrize("path", ["", ".", ":", "bin", ".:bin:"])
def test_a_program_of_gnupg_in_the_current_directory_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    for place in (tmp_path, tmp_path / "bin"):
        (place / "gpgv").write_text("#!/bin/sh\nexit 0\n")
        (place / "gpgv").chmod(0o755)
    monkeypatch.setenv("PATH", path)
    with pytest.raises(UnsupportedError, match="gpgv is not installed"):
        find_program("gpgv")
    monkeypatch.setenv("PATH", f"{path}:{tmp_path}/bin")
    assert find_program("gpgv") == f"{tmp_path}/bin/gpgv"


def test_an_image_is_not_found_by_its_digest_under_the_name_of_another_repository(
    tmp_path: Path,
) -> None:
    with Store.open(tmp_path) as store:
        put_image(store, IMAGE, "registry.test/good/app:v1")
    evil = f"registry.test/evil/app@{IMAGE.raw.digest}"
    assert run("--root", tmp_path, "inspect", evil).code == 3
    assert run("--offline", "--root", tmp_path, "pull", "--if-missing", evil).code == 8
    good = f"registry.test/good/app@{IMAGE.raw.digest}"
    assert run("--root", tmp_path, "inspect", good).code == 0


def test_what_an_image_says_of_itself_is_no_instruction(tmp_path: Path) -> None:
    """Labels and annotations that are called like what kstore, docker and OCI layouts keep."""
    root, layout = tmp_path / "root", tmp_path / "layout"
    words = {
        **dict.fromkeys(("kstore.protected", "protected", "kstore.pinned", "trusted"), "true"),
        **dict.fromkeys(("kstore.name", "name", "RepoTags"), "registry.test/good/app:v1"),
        "org.opencontainers.image.ref.name": "registry.test/good/app:v1",
        "io.containerd.image.name": "registry.test/good/app:v1",
        "kstore.source": "docker://registry.test/good/app:v1",
        "containerd.io/gc.root": "1",
    }
    evil = random_image(2, labels=words)
    manifest = {**json.loads(evil.raw.data), "annotations": words}
    evil = replace(evil, raw=RawManifest.receive(json.dumps(manifest).encode()))
    write_oci_layout(layout, {"evil": evil})
    with Store.open(root) as store:
        put_image(store, IMAGE, "registry.test/good/app:v1")
    assert run("--root", root, "load", "-q", layout).code == 0
    listed = run("--root", root, "images", "--format", "{{.Name}} {{.Id}}", "--no-trunc").out
    assert listed.splitlines() == [
        f"localhost/evil:latest {evil.id}",
        f"registry.test/good/app:v1 {IMAGE.id}",
    ]
    assert run("--root", root, "rmi", "evil").code == 0, "it does not protect itself"
    left = run("--root", root, "images", "-q", "--no-trunc").out
    assert (evil.id in left, IMAGE.id in left) == (False, True)


def test_a_layer_is_not_taken_for_another_one_that_claims_the_same_id(tmp_path: Path) -> None:
    """Docker's first archives call layers by IDs that anybody can write down."""
    first, other = (random_image(seed, compression="none") for seed in (5, 6))
    files = legacy_docker({"app:1": first})
    layers = [name for name in files if name.endswith("layer.tar")]
    stolen = {
        name: other.blobs[layer.digest] for name, layer in zip(layers, other.layers, strict=True)
    }
    named = json.loads(cast("bytes", files["repositories"]))
    forged = files | stolen | {"repositories": dump({"evil": named["app"]})}
    root = tmp_path / "root"
    for name, content in (("first", files), ("forged", forged)):
        (tmp_path / name).write_bytes(tar_of(content))
        assert run("--root", root, "load", "-q", tmp_path / name).code == 0
    with Store.open(root) as store:
        for name, image in (("app:1", first), ("evil:1", other)):
            manifest = parse(store.read_manifest(store.find_image(name).manifest))
            assert isinstance(manifest, Manifest)
            assert [layer.digest for layer in manifest.layers] == [
                layer.digest for layer in image.layers
            ]
        assert store.check(deep=True).problems == ()


def test_every_attack_that_is_listed_has_tests_and_they_exist() -> None:
    text = (PROJECT / "contrib" / "docs" / "attacks.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    assert [row for row in rows if "`test_" not in row] == []
    sources = "".join(path.read_text() for path in (PROJECT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^ *def (test_\w+)", sources, re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", text)) - there == set()
