"""The defects of the original, each of which must not come back; numbered as in its description.

What a table of rules can say about them is in tests/unit/images; here each is seen once as a user
(of the command line, or of the Python API) would meet it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kstore import images
from kstore.app import App, RegistryOptions
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import KstoreError
from kstore.manifest import RawManifest
from kstore.mediatypes import OCI_CONFIG, OCI_MANIFEST
from kstore.settings import load
from kstore.store import Publication, Store
from tests.support.cli import Result, run
from tests.support.dockertars import modern_docker, tar_of
from tests.support.faultserver import Basic, FaultServer
from tests.support.fixturestore import described, fill_store
from tests.support.fixturestore import images as images_of_the_shelf
from tests.support.images import TestImage, random_image
from tests.support.legacy import legacy_image
from tests.support.stores import put_image

PLAIN = ("--tls-verify=false", "--progress", "plain")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("defects") / "root"
    with Store.open(root, command="test") as store:
        fill_store(store)
    return root


@pytest.fixture
def root(filled: Path, tmp_path: Path) -> Path:
    """The store of five images, to be changed."""
    shutil.copytree(filled, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store.open(root, command="test") as store:
        yield store


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def offer(server: FaultServer, image: TestImage, tag: str = "v1") -> str:
    for data in image.blobs.values():
        server.add_blob(data)
    server.add_manifest(image.raw.data, image.raw.media_type, tag=tag)
    return f"{server.host}/team/app:{tag}"


def told(result: Result) -> str:
    """What a command that went well says on standard output."""
    assert result.code == 0, result.err
    return result.out


def inspected(root: Path, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(told(run("--root", root, "inspect", name)))[0]
    return document


def test_defect_01_an_id_is_found_by_its_start_and_not_the_reverse(store: Store) -> None:
    full = described(store).c.id
    assert images.matches_id(full, full[:6])
    assert not images.matches_id(full, full + "0")
    assert images.find_image(store, full[:6]).id == full


def test_defect_02_a_name_without_a_tag_matches_and_crashes_nothing() -> None:
    assert images.matches_reference("docker.io/mrunalp/oom", "oom:latest")
    assert not images.matches_reference("localhost:5000/foo:v1", "localhost")


@pytest.mark.parametrize("text", ["dangling", "foo=bar", "before=nosuch", "label=a,since="])
def test_defect_03_a_filter_that_is_wrong_is_an_error_that_names_it(root: Path, text: str) -> None:
    result = run("--root", root, "images", "--filter", text)
    assert result.code in (2, 3)
    assert any(word in result.err for word in ("dangling", "foo", "nosuch", "since"))
    assert result.out == ""


def test_defect_04_a_label_is_found_by_its_key(root: Path) -> None:
    found = told(run("--root", root, "images", "-q", "--no-trunc", "--filter", "label=empty"))
    assert found.split() == [images_of_the_shelf()["b"].id]


def test_defect_05_filter_and_name_must_both_hold(root: Path) -> None:
    assert told(run("--root", root, "images", "-q", "--filter", "dangling=true", "alpine")) == ""


def test_defect_06_a_digest_beside_a_name_counts(store: Store) -> None:
    shelf = described(store)
    assert images.find_image(store, f"alpine@{shelf.a.raw.digest}").id == shelf.a.id
    with pytest.raises(KstoreError):
        images.find_image(store, f"alpine@{shelf.c.raw.digest}")


def test_defect_07_a_short_name_that_was_given_is_shown_and_found(root: Path) -> None:
    told(run("--root", root, "tag", "alpine", "mine"))
    assert "localhost/mine:latest" in inspected(root, "mine")["RepoTags"]


def test_defect_08_a_pull_by_digest_moves_no_tag(root: Path, server: FaultServer) -> None:
    latest, other = random_image(1), random_image(2)
    offer(server, latest, "latest")
    offer(server, other, "other")
    repository = f"{server.host}/team/app"
    told(run("--root", root, "pull", *PLAIN, repository))
    pulled = told(run("--root", root, "pull", *PLAIN, f"{repository}@{other.raw.digest}"))
    assert pulled.split() == [other.id], "the ID is the config's digest, not the manifest's"
    assert inspected(root, repository)["Id"] == latest.id


def test_defect_09_pulling_twice_makes_one_image(root: Path, server: FaultServer) -> None:
    image = random_image(1)
    name = offer(server, image)
    for _ in range(2):
        assert told(run("--root", root, "pull", *PLAIN, name)).split() == [image.id]
    assert told(run("--root", root, "images", "-q", name)).count("\n") == 1


def test_defect_10_registry_options_count_when_pulling(store: Store, server: FaultServer) -> None:
    server.auth = Basic(("ann", "secret"))
    name = offer(server, random_image(1))
    app = App(load({}, root=store.root))
    registry = RegistryOptions(tls_verify=False, creds="ann:secret")
    pulled = images.pull_image(store, app, name, options=images.CopyOptions(registry=registry))
    assert [str(record.name) for record in pulled[0].names] == [name]


def test_defect_11_the_path_of_an_archive_ends_at_its_first_colon(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "saved.tar"
    image = random_image(1, compression="none")
    path.write_bytes(tar_of(modern_docker({"localhost:5000/x:v1": image})))
    app = App(load({"TMPDIR": str(tmp_path)}, root=store.root))
    (pulled,) = images.pull_image(store, app, f"docker-archive:{path}:localhost:5000/x:v1")
    assert [str(record.name) for record in pulled.names] == ["localhost:5000/x:v1"]


def test_defect_12_of_two_names_one_goes_and_the_image_stays(root: Path) -> None:
    result = run("--root", root, "rmi", "foobar", "nosuch", "myalpine")
    assert result.out.startswith("Untagged: localhost/foobar:latest\n")
    assert "nosuch" in result.err
    assert result.code != 0
    assert inspected(root, "alpine:3.20")["RepoTags"] == ["docker.io/library/alpine:3.20"]


def test_defect_12_a_short_id_of_an_image_with_two_names_is_refused(root: Path) -> None:
    start = inspected(root, "foobar")["Id"][:12]
    result = run("--root", root, "rmi", start)
    assert (result.code, result.out) == (4, "")
    assert "several names" in result.err


def test_defect_13_untag_takes_exactly_one_name(root: Path) -> None:
    told(run("--root", root, "tag", "alpine", "quay.io/x/alpine", "quay.io/y/alpine"))
    told(run("--root", root, "untag", "alpine"))
    names = inspected(root, "quay.io/x/alpine")["RepoTags"]
    assert names == ["quay.io/x/alpine:latest", "quay.io/y/alpine:latest"]


@pytest.mark.parametrize("created", ["2024-01-02T03:04:05Z", None], ids=["dated", "undated"])
def test_defect_14_a_push_leaves_every_byte_as_it_is(
    store: Store, server: FaultServer, created: str | None
) -> None:
    image = random_image(1, created=created, docker=True)
    put_image(store, image, "app")
    app = App(load({}, root=store.root))
    options = images.CopyOptions(registry=RegistryOptions(tls_verify=False))
    images.push_image(store, app, "app", f"{server.host}/team/app:v1", options)
    assert server.manifests["team/app"]["v1"][1] == image.raw.data
    data = images.get_image_copy_data(store, "app")
    with data.make_image_ref(image.raw.media_type).open_source() as source:
        assert source.read_manifest().data == image.raw.data


def test_defect_15_each_blob_is_counted_once(store: Store) -> None:
    data, image = images.get_data(store, "alpine"), images_of_the_shelf()["a"]
    assert data.size == sum(map(len, image.blobs.values()))
    assert data.to_json()["VirtualSize"] == data.size
    assert images.formatted_size(None) == "unknown"


def test_defect_16_signatures_in_a_manifest_are_not_part_of_its_digest(tmp_path: Path) -> None:
    raw = legacy_image(1).raw
    path = tmp_path / "manifest.json"
    path.write_bytes(raw.data)
    digest = told(run("manifest-digest", path)).strip()
    assert digest == str(Digest.of(raw.content))
    assert digest != str(Digest.of(raw.data))
    path.write_bytes(raw.content)
    assert told(run("manifest-digest", path)).strip() == digest


def test_defect_17_a_bad_template_is_an_error(root: Path) -> None:
    for template in ("{{.Nope}}", "{{.ID", "{{join}}"):
        for command in ("images", "inspect"):
            names = ["alpine"] if command == "inspect" else []
            result = run("--root", root, command, "--format", template, *names)
            assert (result.code, result.out) == (2, ""), (command, template)
    printed = told(run("--root", root, "images", "--format", "{{.Name}} a  b", "alpine"))
    assert "latest a  b\n" in printed, "blanks stay blanks"


def test_defect_18_a_list_of_ids_has_each_once(root: Path) -> None:
    ids = told(run("--root", root, "images", "-q", "--no-trunc")).split()
    assert len(ids) == len(set(ids)) == 5


def test_defect_18_json_has_numbers_and_an_empty_list(root: Path, tmp_path: Path) -> None:
    rows = json.loads(told(run("--root", root, "images", "--format", "json")))
    assert all(isinstance(row["size"], int) for row in rows)
    empty = tmp_path / "empty"
    Store.open(empty).close()
    assert json.loads(told(run("--root", empty, "images", "--format", "json"))) == []


def test_defect_18_one_bad_image_does_not_spoil_the_list(root: Path) -> None:
    with Store.open(root, read_only=True) as store:
        bad = described(store).c.id
    (root / "blobs" / "sha256" / bad).unlink()
    assert len(told(run("--root", root, "images", "-q")).split()) == 5


def test_defect_19_an_archive_holds_several_images_under_their_names(
    root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "saved.tar"
    told(run("--root", root, "save", "-o", path, "alpine", "foobar"))
    loaded = told(run("--root", tmp_path / "second", "load", "-i", path))
    assert "docker.io/library/alpine:latest" in loaded
    assert "localhost/foobar:latest" in loaded


def test_defect_19_an_id_is_no_name_in_an_archive(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    told(run("--root", root, "save", "-o", path, "c3d"))
    told(run("--root", tmp_path / "second", "load", "-i", path))
    assert json.loads(told(run("--root", tmp_path / "second", "images", "--format", "json")))
    with Store.open(tmp_path / "second", read_only=True) as store:
        assert store.names() == []


def test_defect_19_a_failed_save_leaves_no_file(root: Path, tmp_path: Path) -> None:
    with Store.open(root, read_only=True) as store:
        layer = described(store).d.layers[1].digest
    (root / "blobs" / "sha256" / layer.hex).unlink()
    path = tmp_path / "saved.tar"
    result = run("--root", root, "save", "-o", path, "alpine", "localhost:5000/team/app:v1")
    assert result.code != 0
    assert not path.exists()


def test_defect_20_credentials_are_their_owner_s_alone(server: FaultServer, tmp_path: Path) -> None:
    server.auth = Basic(("ann", "secret"))
    file = tmp_path / "auth.json"
    options = ("--tls-verify=false", "--authfile", file, "-u", "ann", "--password-stdin")
    told(run("login", *options, server.host, stdin=b"secret\n"))
    assert file.stat().st_mode & 0o777 == 0o600
    told(run("logout", "--authfile", file, "--all"))
    assert server.host not in file.read_text()


def test_defect_21_a_name_never_means_a_layer_or_a_container(store: Store) -> None:
    store.containers.create(None, name="box", stem="box", describe=lambda record: b"{}")
    layer = described(store).a.layers[0].digest
    for text in ("box", layer.hex, str(layer)):
        with pytest.raises(KstoreError):
            images.find_image(store, text)


def test_defect_21_an_image_without_layers_is_an_image(store: Store) -> None:
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    ).encode()
    with store.lease("test") as lease:
        blob: Descriptor = lease.put_bytes(config, OCI_CONFIG)
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []}
        raw = RawManifest.receive(
            json.dumps({**document, "config": blob.to_json()}).encode(), OCI_MANIFEST
        )
        lease.publish(Publication(raw))
    data = images.get_data(store, blob.digest.hex)
    assert (data.layer_sizes, data.diff_ids, data.created_by) == ((), (), None)


@pytest.mark.parametrize("command", [["pull"], ["push"], ["rmi"], ["tag", "x"], ["inspect"]])
def test_defect_22_too_few_arguments_are_an_error(root: Path, command: list[str]) -> None:
    result = run("--root", root, *command)
    assert (result.code, result.out) == (2, "")


def test_defect_23_an_image_that_lost_its_name_is_told_of(root: Path, server: FaultServer) -> None:
    first = random_image(1)
    name = offer(server, first)
    told(run("--root", root, "pull", *PLAIN, name))
    offer(server, random_image(2))
    result = run("--root", root, "pull", *PLAIN, name)
    assert f"{name} meant {first.id[:12]} before" in result.err
    assert "kstore prune" in result.err
    dangling = told(run("--root", root, "images", "-q", "--no-trunc", "-f", "dangling=true"))
    assert first.id in dangling
