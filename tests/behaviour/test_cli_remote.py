"""Images that stay where they are: list-tags, inspect, manifest-digest, delete; and import."""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kstore.store import Store
from tests.support.cli import Result, run, run_on_terminal, run_process
from tests.support.faultserver import Basic, Fault, FaultServer
from tests.support.images import (
    AMD64,
    ARM64,
    index_of,
    layer_tar,
    random_image,
    write_oci_layout,
)
from tests.support.legacy import legacy_image
from tests.support.localregistry import LocalRegistry, serve
from tests.support.programs import require_program
from tests.support.stores import put_image

SMALL, OTHER = random_image(1), random_image(2)
ARM = random_image(3, platform=ARM64)
BOTH = index_of([SMALL, ARM])
TAR = layer_tar({"etc/motd": b"hello\n"})


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    with serve(tmp_path / "registry") as registry:
        registry.push("team/app", "1", SMALL)
        registry.push("team/app", "2", OTHER)
        registry.push("team/both", str(ARM.raw.digest), ARM)
        registry.push("team/both", str(SMALL.raw.digest), SMALL)
        assert registry.push_manifest("team/both", "1", BOTH).status == 201
        yield registry


@pytest.fixture
def faulty() -> Iterator[FaultServer]:
    with FaultServer() as server:
        for tag in ("v1", "v2"):
            server.add_manifest(SMALL.raw.data, SMALL.raw.media_type, "team/app", tag)
        for data in SMALL.blobs.values():
            server.add_blob(data, "team/app")
        yield server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def kstore(root: Path, command: str, *args: object) -> Result:
    return run("--root", root, command, "--tls-verify=false", *args)


def shown(result: Result) -> Any:
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


# ---- list-tags


def test_tags_are_listed_one_a_line_and_no_store_is_made(
    root: Path, registry: LocalRegistry
) -> None:
    result = kstore(root, "list-tags", f"docker://{registry.host}/team/app")
    assert result == Result(0, "1\n2\n", "")
    assert not root.exists()


def test_tags_as_json_have_skopeos_shape(root: Path, registry: LocalRegistry) -> None:
    name = f"{registry.host}/team/app"
    found = shown(kstore(root, "list-tags", "--format", "json", name))
    assert found == {"Repository": name, "Tags": ["1", "2"]}
    result = kstore(root, "list-tags", "--format", '{{join .Tags ","}}', name)
    assert result.out == "1,2\n"


def test_a_tag_too_many_is_explained(root: Path) -> None:
    result = kstore(root, "list-tags", "docker://quay.io/team/app:1")
    assert result.code == 2
    assert result.err == (
        "kstore: quay.io/team/app:1 is one image, not a repository\n"
        "hint: kstore list-tags docker://quay.io/team/app\n"
    )


def test_credentials_on_the_command_line_are_used_and_not_shown(
    root: Path, faulty: FaultServer
) -> None:
    faulty.auth = Basic(("ann", "secret"))
    refused = kstore(root, "list-tags", f"{faulty.host}/team/app")
    assert refused.code == 9
    result = kstore(root, "list-tags", "--creds", "ann:secret", f"{faulty.host}/team/app")
    assert result == Result(0, "v1\nv2\n", "")


# ---- inspect


def test_an_image_at_a_registry_is_inspected_without_a_store(
    root: Path, registry: LocalRegistry
) -> None:
    [found] = shown(kstore(root, "inspect", f"docker://{registry.host}/team/app:1"))
    assert found["Name"] == f"{registry.host}/team/app"
    assert (found["Digest"], found["RepoTags"]) == (str(SMALL.raw.digest), ["1", "2"])
    assert found["Layers"] == [str(layer.digest) for layer in SMALL.layers]
    assert not root.exists()


def test_the_raw_manifest_and_config_arrive_byte_for_byte(
    root: Path, registry: LocalRegistry
) -> None:
    text = f"docker://{registry.host}/team/both:1"
    options = ("--root", root, "inspect", "--tls-verify=false", "--raw")
    assert run_process(*options, text).out.encode() == BOTH.data
    for image in (SMALL, ARM):
        chosen = ("--platform", image.platform, text)
        assert run_process(*options, *chosen).out.encode() == image.raw.data
        assert run_process(*options, "--config", *chosen).out.encode() == image.config
    config = shown(kstore(root, "inspect", "--config", "--platform", ARM64, text))
    assert config == json.loads(ARM.config)


@pytest.mark.parametrize("prefix", ["", "kstore:"])
def test_the_raw_manifest_and_config_of_a_stored_image_are_shown_too(
    root: Path, prefix: str
) -> None:
    with Store.open(root) as store:
        put_image(store, SMALL, "localhost/app:1")
    for options, data in ((["--raw"], SMALL.raw.data), (["--raw", "--config"], SMALL.config)):
        result = run("--root", root, "inspect", *options, f"{prefix}app:1")
        assert (result.code, result.out.encode()) == (0, data)
    [found] = shown(run("--root", root, "inspect", f"{prefix}app:1"))
    assert found["Id"] == SMALL.id


def test_a_platform_that_cannot_be_chosen_is_a_warning(root: Path, tmp_path: Path) -> None:
    with Store.open(root) as store:
        put_image(store, SMALL, "localhost/app:1")
    write_oci_layout(tmp_path / "layout", {"v1": SMALL})
    for image in ("app:1", f"oci:{tmp_path / 'layout'}"):
        result = run("--root", root, "inspect", "-f", "{{.Os}}", "--platform", ARM64, image)
        assert (result.code, result.out) == (0, "linux\n")
        assert result.err == f"kstore: warning: {image} is an image for {SMALL.platform} only\n"
        silent = run("--root", root, "inspect", "-f", "{{.Os}}", "--platform", AMD64, image)
        assert silent == Result(0, "linux\n", "")


def test_images_here_and_elsewhere_are_inspected_together(
    root: Path, registry: LocalRegistry, tmp_path: Path
) -> None:
    with Store.open(root) as store:
        put_image(store, SMALL, "localhost/app:1")
    write_oci_layout(tmp_path / "layout", {"v1": OTHER})
    places = ("app:1", f"docker://{registry.host}/team/app:2", f"oci:{tmp_path / 'layout'}:v1")
    result = kstore(root, "inspect", "--format", "{{.Digest}}", *places)
    digests = (SMALL.raw.digest, OTHER.raw.digest, OTHER.raw.digest)
    assert (result.code, result.out) == (0, "".join(f"{digest}\n" for digest in digests))


def test_one_that_fails_does_not_hide_the_others(root: Path, registry: LocalRegistry) -> None:
    place = f"docker://{registry.host}/team/app"
    result = kstore(root, "inspect", f"{place}:none", f"{place}:1")
    assert (result.code, len(json.loads(result.out))) == (3, 1)
    assert "has no manifest team/app:none" in result.err


@pytest.mark.parametrize(
    "args", [("--raw", "a", "b"), ("--raw", "--format", "json", "a"), ("--config", "a", "b")]
)
def test_a_document_as_it_is_is_one_document(root: Path, args: tuple[str, ...]) -> None:
    assert run("--root", root, "inspect", *args).code == 2


def test_a_label_cannot_steer_the_terminal(faulty: FaultServer, root: Path) -> None:
    evil = random_image(9, labels={"a": "\x1b[31mred"})
    for data in evil.blobs.values():
        faulty.add_blob(data, "team/evil")
    faulty.add_manifest(evil.raw.data, evil.raw.media_type, "team/evil", "v1")
    text = f"docker://{faulty.host}/team/evil:v1"
    for options in ((), ("--config",)):
        result = kstore(root, "inspect", *options, text)
        assert "\x1b" not in result.out
        assert "[31mred" in result.out


@pytest.mark.peer
def test_skopeo_says_the_same(root: Path, registry: LocalRegistry) -> None:
    skopeo = require_program("skopeo")
    text = f"docker://{registry.host}/team/app:1"
    command = [skopeo, "inspect", "--tls-verify=false", text]
    theirs = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)
    [ours] = shown(kstore(root, "inspect", text))
    theirs["Labels"] = theirs["Labels"] or {}
    for layer in theirs.get("LayersData", ()):
        layer["Annotations"] = layer.get("Annotations")
    assert {key: ours[key] for key in theirs} == theirs


@pytest.mark.peer
def test_skopeo_lists_the_same_tags(root: Path, registry: LocalRegistry) -> None:
    skopeo = require_program("skopeo")
    text = f"docker://{registry.host}/team/app"
    command = [skopeo, "list-tags", "--tls-verify=false", text]
    theirs = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)
    assert shown(kstore(root, "list-tags", "--format", "json", text)) == theirs


# ---- manifest-digest


@pytest.mark.parametrize("raw", [SMALL.raw, BOTH, legacy_image(1).raw])
def test_a_manifest_in_a_file_or_a_pipe_has_one_digest(raw: Any, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_bytes(raw.data)
    wanted = Result(0, f"{raw.digest}\n", "")
    assert run("manifest-digest", file) == wanted
    assert run("manifest-digest", "-", stdin=raw.data) == wanted


@pytest.mark.peer
@pytest.mark.parametrize("raw", [SMALL.raw, BOTH, legacy_image(1).raw])
def test_skopeo_computes_the_same_digest(raw: Any, tmp_path: Path) -> None:
    skopeo = require_program("skopeo")
    file = tmp_path / "manifest.json"
    file.write_bytes(raw.data)
    command = [skopeo, "manifest-digest", str(file)]
    theirs = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout.decode()
    assert run("manifest-digest", file).out.strip() == theirs.strip()


def test_what_is_no_manifest_has_no_manifest_digest() -> None:
    assert run("manifest-digest", "-", stdin=b"").err == (
        "kstore: standard input is not a manifest: it is empty\n"
    )
    result = run("manifest-digest", "-", stdin=b"hello")
    assert (result.code, result.out) == (5, "")
    assert result.err.startswith("kstore: standard input is not a manifest: ")


def test_a_terminal_is_no_manifest() -> None:
    code, screen = run_on_terminal("manifest-digest", "-")
    assert code == 2
    assert "standard input is a terminal, not a manifest" in screen


# ---- delete


def test_a_tag_is_deleted_and_named(root: Path, registry: LocalRegistry) -> None:
    name = f"{registry.host}/team/app:1"
    result = kstore(root, "delete", f"docker://{name}")
    assert result == Result(0, f"Deleted: {name}\n", "")
    assert kstore(root, "list-tags", f"{registry.host}/team/app").out == "2\n"
    assert kstore(root, "delete", f"docker://{name}").code == 3
    assert not root.exists()


def test_deleting_more_than_was_named_needs_force(root: Path, faulty: FaultServer) -> None:
    name = f"{faulty.host}/team/app"
    refused = kstore(root, "delete", "--digest", f"docker://{name}:v1")
    assert (refused.code, refused.out) == (4, "")
    assert refused.err == (
        f"kstore: deleting manifest {SMALL.raw.digest} of {name} would also delete the tag v2\n"
        "hint: --force deletes all of them\n"
    )
    result = kstore(root, "delete", "--digest", "--force", f"docker://{name}:v1")
    lines = [f"Untagged: {name}:v1", f"Untagged: {name}:v2", f"Deleted: {SMALL.raw.digest}"]
    assert (result.code, result.out.splitlines()) == (0, lines)


def test_a_registry_that_forbids_deleting_is_explained(root: Path, faulty: FaultServer) -> None:
    faulty.fault(Fault(status=405, body=b"{}"), "DELETE", times=9)
    result = kstore(root, "delete", "-f", f"docker://{faulty.host}/team/app:v1")
    assert (result.code, result.out) == (6, "")
    assert "does not allow manifests to be deleted" in result.err
    assert "REGISTRY_STORAGE_DELETE_ENABLED=true" in result.err


def test_a_bare_name_is_not_deleted_by_guess(root: Path) -> None:
    result = kstore(root, "delete", "busybox")
    assert result.code == 2
    assert "kstore delete docker://busybox, or for the store: kstore rmi busybox" in result.err


def test_an_image_of_a_layout_is_deleted(root: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"v1": SMALL, "v2": OTHER})
    assert run("--root", root, "delete", f"oci:{layout}:v1").code == 0
    assert run("--root", root, "list-tags", f"oci:{layout}").out == "v2\n"
    assert not (layout / "blobs/sha256" / SMALL.id).exists()
    assert not root.exists()


# ---- import


def test_a_directory_becomes_an_image_another_command_can_use(root: Path, tmp_path: Path) -> None:
    (tmp_path / "tree/etc").mkdir(parents=True)
    (tmp_path / "tree/etc/motd").write_text("hello\n")
    result = run("--root", root, "import", "-c", "CMD=/bin/sh", tmp_path / "tree", "base:1")
    assert result.code == 0
    assert result.err.startswith("imported localhost/base:1: ")
    [found] = shown(run("--root", root, "inspect", "base:1"))
    assert (found["Id"], found["Config"]["Cmd"]) == (
        result.out.strip(),
        ["/bin/sh", "-c", "/bin/sh"],
    )


def test_a_url_becomes_an_image(root: Path, faulty: FaultServer) -> None:
    digest = faulty.add_blob(lzma.compress(TAR)).digest
    url = f"{faulty.url}/v2/team/app/blobs/{digest}"
    result = run("--root", root, "import", f"{url}?token=secret", "base:1")
    assert result.code == 0
    assert "secret" not in result.err
    [found] = shown(run("--root", root, "inspect", "base:1"))
    assert (found["Id"], found["Comment"]) == (result.out.strip(), f"imported from {url}")


@pytest.mark.parametrize(("size", "code"), [("1kB", 5), ("100", 5), ("1MiB", 0), ("1g", 0)])
def test_the_size_of_what_is_imported_can_be_limited(
    root: Path, faulty: FaultServer, size: str, code: int
) -> None:
    digest = faulty.add_blob(gzip.compress(TAR)).digest
    url = f"{faulty.url}/v2/team/app/blobs/{digest}"
    result = run("--root", root, "import", "-q", "--max-size", size, url)
    assert result.code == code
    assert ("hint: --max-size sets another limit" in result.err) == (code != 0)


@pytest.mark.parametrize("size", ["", "0", "-1", "much", "1PB", "1e9", "1 2"])
def test_a_size_that_is_none_is_refused(root: Path, size: str) -> None:
    assert run("--root", root, "import", "--max-size", size, "x.tar").code == 2
    assert not root.exists()


@pytest.mark.peer
def test_skopeo_reads_an_image_made_of_a_directory(root: Path, tmp_path: Path) -> None:
    skopeo = require_program("skopeo")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"x" * 100_000)
    (tmp_path / "tree/link").hardlink_to(tmp_path / "tree/file")
    args = ("--platform", AMD64, tmp_path / "tree", "localhost/base:1")
    assert run("--root", root, "import", *args).code == 0
    subprocess.run(
        [skopeo, "copy", "--insecure-policy", f"oci:{root}:localhost/base:1", f"dir:{tmp_path}/d"],
        check=True,
        capture_output=True,
        timeout=60,
    )
