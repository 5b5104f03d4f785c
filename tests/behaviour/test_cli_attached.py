"""Keys, signatures and what else is attached to images, as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.signature import SigstoreSignature, parse_signature
from kstore.signing.keyfile import load_private_key
from kstore.signing.sigstore import verify
from kstore.store import Store
from tests.support.cli import Result, run, run_on_terminal
from tests.support.images import random_artifact, random_image
from tests.support.localregistry import LocalRegistry, serve
from tests.support.sigstorekeys import key_pair
from tests.support.stores import put_artifact, put_image

IMAGE = random_image(1)
SBOM = random_artifact(1, subject=IMAGE.raw.descriptor, artifact_type="application/spdx+json")
SECRET = "correct horse"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    with serve(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "root", command="test") as store:
        put_image(store, IMAGE, "app:1")
        put_artifact(store, SBOM)
    return tmp_path / "root"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(f"{SECRET}\nand more\n")
    return tmp_path / "secret"


def generate(tmp_path: Path, *args: object) -> Result:
    return run("--root", tmp_path / "none", "generate-key", *args)


def modes(*paths: Path) -> list[int]:
    return [path.stat().st_mode & 0o777 for path in paths]


def test_a_key_pair_is_made_and_only_the_owner_reads_the_private_one(
    tmp_path: Path, secret: Path
) -> None:
    made = generate(tmp_path, "--passphrase-file", secret, tmp_path / "me")
    private, public = tmp_path / "me.private", tmp_path / "me.pub"
    assert (made.code, made.out) == (0, f"{private}\n{public}\n"), made.err
    assert modes(private, public) == [0o600, 0o644]
    load_private_key(private.read_bytes(), SECRET.encode(), "it")
    assert not (tmp_path / "none").exists(), "no store is needed"


def test_the_prefix_may_be_said_as_skopeo_does(tmp_path: Path) -> None:
    made = generate(tmp_path, "--plain", "--output-prefix", tmp_path / "me")
    assert made.code == 0, made.err
    load_private_key((tmp_path / "me.private").read_bytes(), None, "it")


@pytest.mark.parametrize("taken", ["me.private", "me.pub"])
def test_a_key_is_never_overwritten(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("precious")
    made = generate(tmp_path, "--plain", tmp_path / "me")
    assert (made.code, made.out) == (4, "")
    assert f"{taken} exists already" in made.err
    assert [path.name for path in tmp_path.glob("me.*")] == [taken]
    assert (tmp_path / taken).read_text() == "precious"


@pytest.mark.parametrize(
    "args", [(), ("a", "--output-prefix", "b"), ("--plain", "a", "--passphrase-file", "f")]
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, args: tuple[str, ...]) -> None:
    assert generate(tmp_path, *args).code == 2


def test_without_a_terminal_a_passphrase_must_come_from_a_file(tmp_path: Path) -> None:
    assert generate(tmp_path, tmp_path / "me").code == 9
    assert generate(tmp_path, "--passphrase-file", tmp_path / "nothing", tmp_path / "me").code == 3
    assert not list(tmp_path.glob("me.*"))


@pytest.mark.parametrize(("second", "code"), [(SECRET, 0), ("other", 2)])
def test_a_passphrase_is_asked_for_twice(tmp_path: Path, second: str, code: int) -> None:
    status, screen = run_on_terminal(
        *("generate-key", tmp_path / "me"),
        answers=[("Passphrase for", SECRET), ("The same again", second)],
    )
    assert status == code, screen
    assert SECRET not in screen
    assert (tmp_path / "me.private").exists() is (code == 0)


def push(root: Path, name: str, *args: object) -> Result:
    return run("--root", root, "push", "--tls-verify=false", "-q", *args, "app:1", name)


def test_a_signed_push_is_seen_by_referrers(
    tmp_path: Path, root: Path, registry: LocalRegistry, secret: Path
) -> None:
    assert generate(tmp_path, "--passphrase-file", secret, tmp_path / "me").code == 0
    name = f"{registry.host}/team/app:1"
    key = ("--sign-by-sigstore-private-key", tmp_path / "me.private")
    pushed = push(root, name, *key, "--sign-passphrase-file", secret)
    assert pushed.code == 0, pushed.err
    seen = run("--root", root, "referrers", "--tls-verify=false", f"docker://{name}")
    assert seen.code == 0, seen.err
    heading, line = seen.out.splitlines()
    assert heading.split() == ["DIGEST", "TYPE", "SIZE", "ATTACHED", "TO"]
    assert "cosign sig" in line
    assert line.endswith(IMAGE.raw.digest.short)


def test_a_wrong_passphrase_stops_before_anything_is_pushed(
    tmp_path: Path, root: Path, registry: LocalRegistry, secret: Path
) -> None:
    assert generate(tmp_path, "--passphrase-file", secret, tmp_path / "me").code == 0
    (tmp_path / "wrong").write_text("battery staple")
    key = ("--sign-by-sigstore-private-key", tmp_path / "me.private")
    name = f"{registry.host}/team/app:1"
    for words, said in (
        (("--sign-passphrase-file", tmp_path / "wrong"), "passphrase"),
        ((), "cannot ask for the passphrase of"),
    ):
        pushed = push(root, name, *key, *words)
        assert pushed.code == 9, pushed.err
        assert said in pushed.err
        assert "battery" not in pushed.err
    assert registry.log == []


def test_a_key_file_that_is_not_there_is_named(
    tmp_path: Path, root: Path, registry: LocalRegistry
) -> None:
    pushed = push(root, f"{registry.host}/x", "--sign-by-sigstore-private-key", tmp_path / "none")
    assert pushed.code == 3
    assert f"key file {tmp_path}/none does not exist" in pushed.err


def test_a_copy_into_a_directory_is_signed_as_what_is_said(tmp_path: Path, root: Path) -> None:
    (tmp_path / "me").write_bytes(key_pair("ec")[0])
    copy = ("--root", root, "copy", "-q", "--sign-by-sigstore-private-key", tmp_path / "me")
    ends = ("kstore:app:1", f"dir:{tmp_path}/out")
    unnamed = run(*copy, *ends)
    assert unnamed.code == 2
    assert "--sign-identity" in unnamed.err
    assert not (tmp_path / "out").exists()
    named = run(*copy, "--sign-identity", "quay.io/team/app:1", *ends)
    assert named.code == 0, named.err
    signature = parse_signature((tmp_path / "out" / "signature-1").read_bytes(), "it")
    assert isinstance(signature, SigstoreSignature)
    claim = verify(signature, [key_pair("ec")[1]])
    assert (claim.docker_reference, claim.manifest_digest) == (
        "quay.io/team/app:1",
        IMAGE.raw.digest,
    )


def test_a_place_that_keeps_no_signatures_is_refused(tmp_path: Path, root: Path) -> None:
    (tmp_path / "me").write_bytes(key_pair("ec")[0])
    done = run(
        *("--root", root, "copy", "--sign-by-sigstore-private-key", tmp_path / "me"),
        *("--sign-identity", "quay.io/team/app:1", "kstore:app:1", f"oci:{tmp_path}/out"),
    )
    assert done.code == 6
    assert "cannot keep sigstore signatures, so that nothing is signed" in done.err


def test_attachments_go_with_their_image_there_and_back(
    tmp_path: Path, root: Path, registry: LocalRegistry
) -> None:
    name = f"{registry.host}/team/app:1"
    pushed = push(root, name, "--with-referrers")
    assert pushed.code == 0, pushed.err
    other = tmp_path / "other"
    pulled = run("--root", other, "pull", "-q", "--tls-verify=false", "--with-referrers", name)
    assert (pulled.code, pulled.out) == (0, f"{IMAGE.id}\n"), pulled.err
    assert run("--root", other, "referrers", "-q", name).out == f"{SBOM.raw.digest}\n"
    copied = run(
        "--root", other, "copy", "-q", "--with-referrers", f"kstore:{name}", f"oci:{tmp_path}/l:1"
    )
    assert copied.code == 0, copied.err
    assert (
        run("--root", other, "referrers", "-q", f"oci:{tmp_path}/l:1").out == f"{SBOM.raw.digest}\n"
    )
    assert run("--root", other, "rmi", name).code == 0
    with Store.open(other) as store:
        assert store.facts().blobs == 0


def test_attachments_go_into_a_file_and_through_a_mirror(
    tmp_path: Path, root: Path, registry: LocalRegistry
) -> None:
    file, other, place = tmp_path / "app.oci", tmp_path / "other", f"docker://{registry.host}/x"
    saved = run(
        *("--root", root, "save", "-q", "--format", "oci-archive", "--with-referrers"),
        *("-o", file, "app:1"),
    )
    assert saved.code == 0, saved.err
    loaded = run("--root", other, "load", "-q", "--with-referrers", file)
    assert loaded.code == 0, loaded.err
    synced = run(
        *("--root", other, "sync", "-q", "--tls-verify=false", "--with-referrers"),
        *("kstore:", place),
    )
    assert synced.code == 0, synced.err
    for where in ("app:1", f"{place}/app:1"):
        told = run("--root", other, "referrers", "-q", "--tls-verify=false", where)
        assert told.out == f"{SBOM.raw.digest}\n", told.err
    refused = run("--root", root, "save", "--with-referrers", "-o", tmp_path / "out", "app:1")
    assert (refused.code, (tmp_path / "out").exists()) == (6, False)


def test_referrers_are_told_to_programs_in_full(root: Path) -> None:
    told = run("--root", root, "referrers", "--format", "json", "app:1")
    assert told.code == 0, told.err
    assert json.loads(told.out) == [
        {
            "digest": str(SBOM.raw.digest),
            "mediaType": SBOM.raw.media_type,
            "artifactType": "application/spdx+json",
            "size": len(SBOM.raw.data),
            "annotations": {"seed": "1"},
            "subject": str(IMAGE.raw.digest),
            "tag": None,
        }
    ]
    for template in ("{{.ArtifactType}}", "{{.artifactType}}"):
        typed = run("--root", root, "referrers", "--format", template, "app:1")
        assert typed.out == "application/spdx+json\n"
    none = run("--root", root, "referrers", "-q", "--artifact-type", "x/y", "app:1")
    assert (none.code, none.out) == (0, "")


def test_an_image_the_store_does_not_have_may_be_elsewhere(root: Path) -> None:
    done = run("--root", root, "referrers", "nothing:1")
    assert done.code == 3
    assert "hint: kstore referrers docker://nothing:1" in done.err
