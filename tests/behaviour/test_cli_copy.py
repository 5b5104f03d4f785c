"""``copy``, as the command line does it."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.manifest import RawManifest, parse_image
from kstore.store import Store
from tests.support.cli import PROGRAM, Result, environment, run
from tests.support.fakedocker import FakeDocker, ok
from tests.support.faultserver import Basic, Bearer, Fault, FaultServer, make_certificate
from tests.support.images import ARM64, TestImage, index_of, random_image, write_oci_layout
from tests.support.legacy import legacy_image
from tests.support.stores import put_image

ONE = random_image(1)
ARM = random_image(2, platform=ARM64)
BOTH = index_of([ONE, ARM])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    write_oci_layout(tmp_path / "layout", {"v1": ONE, "both": (BOTH, [ONE, ARM])})
    return tmp_path / "layout"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def offer(server: FaultServer, image: TestImage, path: str) -> None:
    for data in image.blobs.values():
        server.add_blob(data, path)
    server.add_manifest(image.raw.data, image.raw.media_type, path, "v1")


def copy(root: Path, *args: object) -> Result:
    return run("--root", root, "copy", *args)


def manifest(directory: Path) -> bytes:
    return (directory / "manifest.json").read_bytes()


def test_a_copy_between_files_makes_no_store(root: Path, layout: Path, tmp_path: Path) -> None:
    result = copy(root, f"oci:{layout}:v1", f"dir:{tmp_path}/copy")
    assert (result.code, result.out) == (0, "")
    assert manifest(tmp_path / "copy") == ONE.raw.data
    assert not root.exists()
    summary, digest = result.err.splitlines()[-2:]
    assert summary.startswith(f"copied oci:{layout}:v1 to dir:{tmp_path}/copy: 2 layers, ")
    assert digest == f"digest {ONE.raw.digest}"


def test_a_quiet_copy_says_nothing_and_notes_the_digest(
    root: Path, layout: Path, tmp_path: Path
) -> None:
    note = tmp_path / "digest"
    result = copy(root, "-q", "--digestfile", note, f"oci:{layout}:v1", f"dir:{tmp_path}/copy")
    assert result == Result(0, "", "")
    assert note.read_text() == str(ONE.raw.digest)


def test_a_digest_that_cannot_be_noted_is_an_error_that_tells_it(
    root: Path, layout: Path, tmp_path: Path
) -> None:
    note = tmp_path / "none/digest"
    result = copy(root, "-q", "--digestfile", note, f"oci:{layout}:v1", f"dir:{tmp_path}/copy")
    assert result.code == 10
    assert f"the image was copied, but its digest {ONE.raw.digest}" in result.err


def test_all_platforms_go_from_a_layout_through_registries_into_the_store(
    root: Path, layout: Path, server: FaultServer, tmp_path: Path
) -> None:
    roads = [
        (f"oci:{layout}:both", f"docker://{server.host}/a/one:v1"),
        (f"docker://{server.host}/a/one:v1", f"docker://{server.host}/a/two:v1"),
        (f"docker://{server.host}/a/two:v1", "kstore:quay.io/me/both:1"),
        ("kstore:quay.io/me/both:1", f"dir:{tmp_path}/copy"),
    ]
    for source, destination in roads:
        result = copy(root, "-q", "--all", "--tls-verify=false", source, destination)
        assert result == Result(0, "", "")
    assert manifest(tmp_path / "copy") == BOTH.data


def test_one_platform_is_copied_as_an_image(root: Path, layout: Path, tmp_path: Path) -> None:
    copy(root, "--platform", "linux/arm64", f"oci:{layout}:both", f"dir:{tmp_path}/copy")
    assert manifest(tmp_path / "copy") == ARM.raw.data


def test_several_platforms_are_copied_under_a_new_index_or_with_gaps(
    root: Path, layout: Path, tmp_path: Path
) -> None:
    source = f"oci:{layout}:both"
    platforms = ("--platform", "linux/arm64", "--platform", "linux/amd64")
    copy(root, *platforms, source, f"dir:{tmp_path}/both")
    assert manifest(tmp_path / "both") == BOTH.data
    copy(root, "--sparse", "--platform", "linux/arm64", source, f"dir:{tmp_path}/sparse")
    assert manifest(tmp_path / "sparse") == BOTH.data
    assert not (tmp_path / "sparse" / f"{ONE.raw.digest.hex}.manifest.json").exists()
    copy(root, "--index-only", source, f"dir:{tmp_path}/index")
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [
        "manifest.json",
        "version",
    ]


def test_an_image_is_converted_and_compressed_anew_on_the_way(
    root: Path, layout: Path, tmp_path: Path
) -> None:
    options = ("--format", "docker", "--compress", "none", "--force-compress")
    assert copy(root, *options, f"oci:{layout}:v1", f"dir:{tmp_path}/plain").code == 0
    document = json.loads(manifest(tmp_path / "plain"))
    assert document["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    diff_ids = json.loads(ONE.config)["rootfs"]["diff_ids"]
    assert [layer["digest"] for layer in document["layers"]] == diff_ids
    back = ("--format", "oci", "--compress", "zstd:19")
    assert copy(root, *back, f"dir:{tmp_path}/plain", f"dir:{tmp_path}/zstd").code == 0
    layers = json.loads(manifest(tmp_path / "zstd"))["layers"]
    assert {layer["mediaType"].rpartition("+")[2] for layer in layers} == {"zstd"}


def test_who_preserves_digests_gets_no_conversion(root: Path, layout: Path, tmp_path: Path) -> None:
    options = ("--format", "docker", "--preserve-digests")
    result = copy(root, *options, f"oci:{layout}:v1", f"dir:{tmp_path}/copy")
    assert result.code == 6
    assert "would have to change" in result.err
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--all", "--index-only"),
        ("--all", "--platform", "linux/arm64"),
        ("--sparse",),
        ("--force-compress",),
        ("--compress", "lzma"),
        ("--compress", "gzip:10"),
        ("--compress", "gzip:0"),
        ("--compress", "none:1"),
        ("--compress", "zstd:fast"),
        ("--retry", "-1"),
        ("--format", "v1"),
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_refused(
    root: Path, layout: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    result = copy(root, *options, f"oci:{layout}:v1", f"dir:{tmp_path}/copy")
    assert result.code == 2
    assert result.err.splitlines()[-1] == "hint: kstore copy --help"
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("docker:busybox", "docker://busybox"),
        ("busybox", "docker://busybox for a registry's, kstore:busybox for the store's"),
        ("oci:none:v1", "the source comes first: kstore copy SOURCE DESTINATION"),
    ],
)
def test_the_mistakes_of_newcomers_get_a_sentence_and_a_hint(
    root: Path, source: str, hint: str
) -> None:
    result = copy(root, source, "docker://localhost:1/app")
    assert result.code in (2, 3)
    assert len(result.err.splitlines()) == 2
    assert result.err.splitlines()[1] == f"hint: {hint}"


def test_each_side_has_its_own_credentials(root: Path, server: FaultServer) -> None:
    offer(server, ONE, "team/app")
    server.auth = Basic(("ann", "secret"))
    with FaultServer() as other:
        other.auth = Basic(("bob", "word"))
        ends = (f"docker://{server.host}/team/app:v1", f"docker://{other.host}/team/app:v1")
        creds = ("--src-creds", "ann:secret", "--dest-creds", "bob:word")
        assert copy(root, "-q", "--tls-verify=false", *creds, *ends) == Result(0, "", "")
        assert other.manifests["team/app"]["v1"][1] == ONE.raw.data
        refused = copy(root, "-q", "--tls-verify=false", *creds[:2], *ends)
        assert refused.code == 9
        assert "secret" not in refused.err


def test_each_side_has_its_own_file_of_credentials(
    root: Path, server: FaultServer, tmp_path: Path
) -> None:
    offer(server, ONE, "team/app")
    server.auth = Basic(("ann", "secret"))
    with FaultServer() as other:
        other.auth = Basic(("bob", "word"))
        for name, host, pair in (("a", server.host, b"ann:secret"), ("b", other.host, b"bob:word")):
            entry = {"auths": {host: {"auth": base64.b64encode(pair).decode()}}}
            (tmp_path / name).write_text(json.dumps(entry))
        ends = (f"docker://{server.host}/team/app:v1", f"docker://{other.host}/team/app:v1")
        words = ("-q", "--tls-verify=false", "--src-authfile", tmp_path / "a")
        assert copy(root, *words, "--dest-authfile", tmp_path / "b", *ends) == Result(0, "", "")
        other.manifests.clear()
        assert copy(root, *words, "--authfile", tmp_path / "b", *ends) == Result(0, "", "")
        assert copy(root, *words, *ends).code == 9
        nobody = copy(root, *words, "--dest-authfile", tmp_path / "b", "--src-no-creds", *ends)
        assert nobody.code == 9
        assert f"{server.host} refuses anonymous access" in nobody.err
        told = copy(
            *(root, *words, "--no-creds", "--src-creds", "ann:secret"),
            *("--dest-creds", "bob:word", *ends),
        )
        assert told == Result(0, "", ""), "one side's own word counts more than that for both"


def test_a_token_is_borne_where_it_was_given_for(root: Path, server: FaultServer) -> None:
    offer(server, ONE, "team/app")
    pull = frozenset({"repository:team/app:pull"})
    server.auth = Bearer(user=("ann", "secret"), tokens={"g1ven": (pull, [100])})
    place = f"docker://{server.host}/team/app:v1"
    words = ("-q", "--tls-verify=false", "--src-registry-token")
    assert copy(root, *words, "g1ven", place, "kstore:app") == Result(0, "", "")
    assert server.seen("GET", "/token") == [], "nobody was asked for another one"
    wrong = copy(root, *words, "wr0ng-token", place, "kstore:other")
    assert wrong.code == 9
    assert "wr0ng" not in wrong.err
    for odd in ("", "a b", "a\nb", "\u00e9"):
        refused = copy(root, *words, odd, place, "kstore:other")
        assert (refused.code, "a token must be" in refused.err) == (2, True)


@pytest.mark.parametrize("side", ["", "src-", "dest-"])
def test_credentials_a_token_and_none_of_them_exclude_each_other(
    root: Path, server: FaultServer, side: str
) -> None:
    three = [(f"--{side}creds", "a:b"), (f"--{side}no-creds",), (f"--{side}registry-token", "x")]
    for left_out in range(3):
        words = [word for at, pair in enumerate(three) if at != left_out for word in pair]
        refused = copy(root, *words, f"docker://{server.host}/team/app:v1", "dir:x")
        assert (refused.code, "only one of --creds" in refused.err) == (2, True)
    assert server.connections == 0


def test_each_side_has_its_own_certificates(root: Path, layout: Path, tmp_path: Path) -> None:
    pairs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pairs.append(make_certificate(tmp_path, name))
        (tmp_path / name / "ca.crt").write_bytes(pairs[-1][0].read_bytes())
    one, two = (tmp_path / name for name in ("one", "two"))
    with FaultServer(tls=pairs[0]) as server, FaultServer(tls=pairs[1]) as other:
        offer(server, ONE, "team/app")
        ends = (f"docker://{server.host}/team/app:v1", f"docker://{other.host}/team/app:v1")
        good = ("-q", "--src-cert-dir", one, "--dest-cert-dir", two)
        assert copy(root, *good, *ends) == Result(0, "", "")
        assert copy(root, "-q", "--cert-dir", one, "--dest-cert-dir", two, *ends).code == 0
        asked = len(other.requests)
        wrong = copy(root, "-q", "--cert-dir", one, *ends)
        assert (wrong.code, f"the certificate of {other.host} is not" in wrong.err) == (8, True)
        assert len(other.requests) == asked


def test_each_side_has_its_own_word_on_tls(root: Path, layout: Path, server: FaultServer) -> None:
    ends = (f"oci:{layout}:v1", f"docker://{server.host}/team/app:v1")
    assert copy(root, "-q", "--src-tls-verify=false", *ends).code == 8
    assert copy(root, "-q", "--dest-tls-verify=false", *ends) == Result(0, "", "")


def test_a_failure_of_the_network_is_tried_again_if_that_is_asked_for(
    root: Path, server: FaultServer, tmp_path: Path
) -> None:
    offer(server, ONE, "team/app")
    ends = (f"docker://{server.host}/team/app:v1", f"dir:{tmp_path}/copy")
    # More failures of one request than the client forgives by itself.
    server.fault(Fault(status=503, headers={"Retry-After": "0"}), "GET", "/manifests/", times=6)
    result = copy(root, "--retry", "1", "--tls-verify=false", *ends)
    assert result.code == 0, result.err
    assert "trying again in 1 s" in result.err
    assert manifest(tmp_path / "copy") == ONE.raw.data


LOADED = b'{"stream":"Loaded image: app:1\\n"}\n'


def test_docker_host_says_where_the_daemon_is(
    root: Path, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeDocker() as docker:
        docker.answers["/images/load"] = ok(LOADED)
        monkeypatch.setenv("DOCKER_HOST", docker.host)
        result = copy(root, "-q", f"oci:{layout}:v1", "docker-daemon:app:1")
        assert (result.code, result.err) == (0, "")
        assert len(docker.loaded) == 1


@pytest.mark.parametrize("verify", ["1", ""])
def test_docker_cert_path_and_tls_verify_say_how_it_is_trusted(
    root: Path, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: str
) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    trusted, other = tmp_path / "trusted", tmp_path / "other"
    for place in (trusted, other):
        place.mkdir()
    certificate.rename(trusted / "ca.pem")
    make_certificate(other)[0].rename(other / "ca.pem")
    with FakeDocker(context) as docker:
        docker.answers["/images/load"] = ok(LOADED)
        monkeypatch.setenv("DOCKER_HOST", docker.host)
        monkeypatch.setenv("DOCKER_TLS_VERIFY", verify)
        codes = []
        for place in (trusted, other):
            monkeypatch.setenv("DOCKER_CERT_PATH", str(place))
            codes.append(copy(root, "-q", f"oci:{layout}:v1", "docker-daemon:app:1").code)
    assert codes == ([0, 8] if verify else [0, 0])


def test_a_schema_1_image_of_a_directory_is_copied_as_a_newer_one(
    root: Path, tmp_path: Path
) -> None:
    image = legacy_image(1)
    old = tmp_path / "old"
    old.mkdir()
    (old / "version").write_text("Directory Transport Version: 1.1\n")
    (old / "manifest.json").write_bytes(image.raw.data)
    for digest, data in image.blobs.items():
        (old / digest.hex).write_bytes(data)
    for family, wanted in (("oci", mt.OCI_MANIFEST), ("docker", mt.DOCKER_MANIFEST)):
        target = tmp_path / family
        result = copy(root, "-q", "--format", family, f"dir:{old}", f"dir:{target}")
        assert (result.code, result.err) == (0, "")
        raw = RawManifest.receive(manifest(target))
        assert raw.media_type == wanted
        assert [layer.digest for layer in parse_image(raw).layers] == list(image.blobs)


def test_archives_go_through_pipes(root: Path, tmp_path: Path) -> None:
    with Store.open(root) as store:
        put_image(store, ONE, "quay.io/me/app:1")
    command = [*PROGRAM, "--root", str(root), "copy", "-q"]
    sent = subprocess.run(
        [*command, "kstore:quay.io/me/app:1", "docker-archive:-:app:1"],
        capture_output=True,
        env=environment(),
        timeout=30,
        check=True,
    )
    assert sent.stderr == b""
    received = subprocess.run(
        [*command, "docker-archive:-", f"dir:{tmp_path}/copy"],
        input=sent.stdout,
        capture_output=True,
        env=environment(),
        timeout=30,
        check=True,
    )
    assert (received.stdout, received.stderr) == (b"", b"")
    assert Digest.of(manifest(tmp_path / "copy")) == ONE.raw.digest
