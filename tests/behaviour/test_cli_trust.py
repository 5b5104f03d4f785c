"""Trust as a user meets it: policies, signing and verifying on the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kstore.store import Store
from kstore.transports.dir import DirTransport
from tests.support.cli import Result, run
from tests.support.gpgkeys import GpgHome
from tests.support.images import random_image
from tests.support.localregistry import LocalRegistry, serve
from tests.support.programs import require_program
from tests.support.sessions import put
from tests.support.stores import put_image

IMAGE = random_image(1)
ACCEPT = {"type": "insecureAcceptAnything"}
REJECT = {"type": "reject"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a lookaside of its own, whoever runs this."""
    home = tmp_path / "home"
    config = home / ".config/containers"
    (config / "registries.d").mkdir(parents=True)
    place = (tmp_path / "lookaside").as_uri()
    (config / "registries.d/default.yaml").write_text(f"default-docker: {{lookaside: '{place}'}}")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (config / "policy.json").write_text(json.dumps({"default": [ACCEPT]}))
    return home


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def image(tmp_path: Path) -> str:
    """An image in a directory."""
    put(DirTransport().parse_reference(str(tmp_path / "image")), IMAGE)
    return f"dir:{tmp_path}/image"


def policy(home: Path, document: Any) -> None:
    (home / ".config/containers/policy.json").write_text(json.dumps(document))


def loud(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result
    for word in words:
        assert word in result.err


# ---- which policy counts


@pytest.mark.parametrize(
    "command",
    [("copy", "{image}", "kstore:app"), ("load", "{place}"), ("sync", "{image}", "kstore:")],
)
def test_the_users_policy_counts_for_what_comes_in(
    root: Path, home: Path, image: str, command: tuple[str, ...]
) -> None:
    policy(home, {"default": [REJECT]})
    words = [word.format(image=image, place=image.removeprefix("dir:")) for word in command]
    if command[0] == "sync":
        words[1] = f"dir:{Path(image.removeprefix('dir:')).parent}"
    result = run("--root", root, *words)
    loud(result, 7, "is not trusted by the default in", "such images are rejected")
    assert run("--root", root, "images", "-q").out == ""
    assert run("--root", root, *words, "--insecure-policy").code == 0


def test_the_policy_that_is_given_counts_instead(root: Path, tmp_path: Path, image: str) -> None:
    given = tmp_path / "given.json"
    given.write_text(json.dumps({"default": [REJECT]}))
    for option in ("--policy", "--signature-policy"):  # the second is podman's word for it
        loud(run("--root", root, "copy", option, given, image, "kstore:app"), 7, str(given))
    gone = tmp_path / "gone.json"
    loud(run("--root", root, "copy", "--policy", gone, image, "kstore:app"), 2, "no policy file")


def test_a_pull_under_a_policy_that_rejects_brings_nothing(
    root: Path, home: Path, tmp_path: Path
) -> None:
    policy(home, {"default": [REJECT]})
    with serve(tmp_path / "registry") as registry:
        registry.push("team/app", "1", IMAGE)
        name = f"{registry.host}/team/app:1"
        result = run("--root", root, "pull", "--tls-verify=false", name)
        loud(result, 7, f"docker://{name} is not trusted", f"kstore policy show docker://{name}")
        asked = [line.path for line in registry.log if line.method == "GET"]
        assert not [path for path in asked if "/blobs/" in path]


def test_what_was_admitted_leaves_the_store_under_any_policy(
    root: Path, home: Path, tmp_path: Path
) -> None:
    with Store.open(root) as store:
        put_image(store, IMAGE, "app")
    policy(home, {"default": [REJECT]})
    assert run("--root", root, "save", "-o", tmp_path / "app.tar", "app").code == 0
    with serve(tmp_path / "registry") as registry:
        push = ("push", "--tls-verify=false", "app", f"{registry.host}/app:1")
        assert run("--root", root, *push).code == 0
    policy(home, {"default": [ACCEPT], "transports": {"kstore": {"": [REJECT]}}})
    loud(run("--root", root, "save", "-o", tmp_path / "other.tar", "app"), 7, "kstore in")


def test_require_signed_wants_more_than_acceptance(root: Path, image: str) -> None:
    result = run("--root", root, "copy", "--require-signed", image, "kstore:app")
    loud(result, 7, "looks at no signature")


def test_opposites_cannot_both_be_meant(root: Path, image: str) -> None:
    for other in (("--policy", "x"), ("--require-signed",)):
        result = run("--root", root, "copy", "--insecure-policy", *other, image, "kstore:app")
        loud(result, 2, f"--insecure-policy is the opposite of {other[0]}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "line 1"), ("{}", "has no 'default'"), ('{"default": [], "x": 1}', "'x'")],
)
def test_a_policy_that_is_not_in_order_lets_nothing_in(
    root: Path, home: Path, image: str, text: str, reason: str
) -> None:
    (home / ".config/containers/policy.json").write_text(text)
    loud(run("--root", root, "copy", image, "kstore:app"), 2, "policy.json", reason)


def test_registries_d_that_is_not_in_order_is_said_with_its_file(
    root: Path, home: Path, tmp_path: Path
) -> None:
    (home / ".config/containers/registries.d/bad.yaml").write_text("docker: [")
    with serve(tmp_path / "registry") as registry:
        registry.push("app", "1", IMAGE)
        result = run("--root", root, "pull", "--tls-verify=false", f"{registry.host}/app:1")
        loud(result, 2, "bad.yaml is not a valid file", "line ")


# ---- policy show


def test_policy_show_says_which_rule_and_why(root: Path, home: Path) -> None:
    file = home / ".config/containers/policy.json"
    scopes = {"quay.io": [REJECT], "quay.io/me": [ACCEPT]}
    policy(home, {"default": [REJECT], "transports": {"docker": scopes}})
    result = run("--root", root, "policy", "show", "quay.io/me/app:1")
    assert result.out.splitlines() == [
        "image  docker://quay.io/me/app:1",
        f"rule   the rule for docker:quay.io/me in {file}",
        "why    there is none for quay.io/me/app:1, quay.io/me/app",
        "it     accepts any image",
    ]
    assert "the default in" in run("--root", root, "policy", "show", "busybox").out
    assert not root.exists()


def test_policy_show_is_json_for_programs(root: Path, home: Path, tmp_path: Path) -> None:
    place = tmp_path.resolve() / "x"
    result = run("--root", root, "policy", "show", "--format", "json", f"dir:{tmp_path}/x")
    assert json.loads(result.out) == {
        "Image": f"dir:{tmp_path}/x",
        "File": str(home / ".config/containers/policy.json"),
        "Section": "default",
        "Transport": "dir",
        "Scope": None,
        "Passed": [str(place), *map(str, [*place.parents][:-1]), ""],
        "Requirements": [{"Type": "insecureAcceptAnything", "Meaning": "accepts any image"}],
    }
    shown = run("--root", root, "policy", "show", "--format", "{{.Section}}", "busybox")
    assert shown.out == "default\n"


def test_policy_show_without_a_name_lists_what_policy_set_can_change(
    root: Path, home: Path, tmp_path: Path
) -> None:
    key = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}
    scopes = {"docker": {"": [REJECT], "quay.io/me": [key, ACCEPT]}, "dir": {"/x": [ACCEPT]}}
    policy(home, {"default": [REJECT], "transports": scopes})
    result = run("--root", root, "policy", "show")
    lines = [line.split(maxsplit=1) for line in result.out.splitlines()]
    assert [line[0] for line in lines[1:]] == ["default", "docker:", "docker:quay.io/me", "dir:/x"]
    assert lines[1][1] == "rejects every image"
    assert lines[3][1].startswith("needs a GPG signature")
    assert lines[3][1].endswith("by a key of /k; accepts any image")
    assert f"the trust policy is {home}/.config/containers/policy.json" in result.err
    for line in lines[2:]:
        assert run("--root", root, "policy", "set", "--remove", line[0]).code == 0
    shown = json.loads(run("--root", root, "policy", "show", "--format", "json").out)
    assert [(each["Section"], each["Scope"]) for each in shown] == [("default", None)]
    bad = run("--root", root, "policy", "show", "--policy", tmp_path / "gone")
    loud(bad, 2, "no policy file")


# ---- policy set


def test_policy_set_changes_one_rule_and_keeps_the_others(
    root: Path, home: Path, tmp_path: Path
) -> None:
    file = home / ".config/containers/policy.json"
    before = '{\n  "transports": {\n    "future": {\n      "x": [{"type": "reject"}]\n    }\n  },\n'
    file.write_text(before + '  "default": [{"type": "reject"}]\n}\n')
    file.chmod(0o640)
    assert run("--root", root, "policy", "set", "--accept", "quay.io/me").code == 0
    text = file.read_text()
    assert text.startswith('{\n  "transports": {\n    "future": {\n')  # order and indent stay
    assert json.loads(text) == {
        "transports": {"future": {"x": [REJECT]}, "docker": {"quay.io/me": [ACCEPT]}},
        "default": [REJECT],
    }
    assert file.stat().st_mode & 0o777 == 0o640
    assert run("--root", root, "policy", "set", "--accept", f"dir:{tmp_path}").code == 0
    assert run("--root", root, "policy", "set", "--reject", "docker:").err.count("\n") == 1
    assert run("--root", root, "policy", "set", "--accept", "default").code == 0
    assert run("--root", root, "policy", "set", "--remove", "quay.io/me").code == 0
    assert json.loads(file.read_text()) == {
        "transports": {
            "future": {"x": [REJECT]},
            "docker": {"": [REJECT]},
            "dir": {str(tmp_path): [ACCEPT]},
        },
        "default": [ACCEPT],
    }
    assert sorted(path.name for path in file.parent.iterdir()) == ["policy.json", "registries.d"]


def test_policy_set_makes_a_file_where_there_is_none(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "policy.json"
    result = run("--root", root, "policy", "set", "--policy", file, "--reject", "quay.io")
    loud(result, 0, f"made {file}")
    assert json.loads(file.read_text()) == {
        "default": [ACCEPT],
        "transports": {"docker": {"quay.io": [REJECT]}},
    }


@pytest.mark.peer
@pytest.mark.parametrize(("scope", "refused"), [("{}", True), ("", False)])
def test_policy_set_tells_of_a_rule_that_skopeo_would_refuse(
    root: Path, tmp_path: Path, scope: str, refused: bool
) -> None:
    skopeo, file = require_program("skopeo"), tmp_path / "policy.json"
    words = ("--policy", file, "--accept", f"docker-archive:{scope.format(tmp_path)}")
    result = run("--root", root, "policy", "set", *words)
    assert (result.code, "podman and skopeo refuse a policy" in result.err) == (0, refused)
    theirs = subprocess.run(
        [skopeo, "--policy", file, "copy", f"docker-archive:{tmp_path}/x", f"dir:{tmp_path}/y"],
        capture_output=True,
        timeout=60,
    )
    assert (b"Unknown key" in theirs.stderr) == refused, theirs.stderr
    assert (
        run("--root", root, "policy", "set", *words[:2], "--remove", words[3]).err.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("--accept", "--reject", "quay.io"), 2, "is needed"),
        (("quay.io",), 2, "is needed"),
        (("--accept", "dir:relative"), 2, "not an absolute, clean path"),
        (("--accept", "https://quay.io"), 2, "cannot match"),
        (("--remove", "default"), 2, "cannot be removed"),
        (("--remove", "quay.io"), 3, "there is no rule for docker:quay.io"),
        (("--signed-by", "/nowhere/key.gpg", "quay.io"), 7, "No such file"),
        (("--signed-by", "/dev/null", "quay.io"), 2, "holds no public key"),
    ],
)
def test_policy_set_refuses_what_makes_no_sense_and_changes_nothing(
    root: Path, home: Path, words: tuple[str, ...], code: int, reason: str
) -> None:
    file = home / ".config/containers/policy.json"
    before = file.read_bytes()
    loud(run("--root", root, "policy", "set", *words), code, reason)
    assert file.read_bytes() == before


def test_policy_set_does_not_touch_a_file_that_is_not_in_order(root: Path, home: Path) -> None:
    file = home / ".config/containers/policy.json"
    file.write_text('{"default": [{"type": "trust"}]}')
    loud(run("--root", root, "policy", "set", "--reject", "quay.io"), 2, "'trust'")
    assert file.read_text() == '{"default": [{"type": "trust"}]}'


def test_a_link_to_the_policy_stays_a_link(root: Path, home: Path, tmp_path: Path) -> None:
    file = home / ".config/containers/policy.json"
    file.rename(tmp_path / "real.json")
    file.symlink_to(tmp_path / "real.json")
    assert run("--root", root, "policy", "set", "--reject", "quay.io").code == 0
    assert file.is_symlink()
    assert "quay.io" in (tmp_path / "real.json").read_text()


# ---- signing


@pytest.fixture(scope="module")
def gpg() -> Iterator[GpgHome]:
    with GpgHome() as home:
        home.make("Alice <alice@example.org>")
        home.make("Lock <lock@example.org>", passphrase="secret")
        yield home


@pytest.fixture
def alice(gpg: GpgHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a public key, whose secret half is at hand."""
    monkeypatch.setenv("GNUPGHOME", str(gpg.path))
    file = tmp_path / "alice.gpg"
    file.write_bytes(gpg.export("alice@example.org", armor=True))
    return file


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    with serve(tmp_path / "registry") as registry:
        yield registry


@pytest.mark.peer
def test_what_is_pushed_with_a_signature_is_pulled_under_a_policy_that_wants_it(
    root: Path, home: Path, tmp_path: Path, alice: Path, registry: LocalRegistry
) -> None:
    with Store.open(root) as store:
        put_image(store, IMAGE, "app")
    name = f"{registry.host}/team/app:1"
    plain = ("--tls-verify=false",)
    assert run("--root", root, "push", *plain, "app", f"{registry.host}/team/bare:1").code == 0
    result = run("--root", root, "push", *plain, "--sign-by", "alice@example.org", "app", name)
    assert result.code == 0, result
    assert run("--root", root, "policy", "set", "--reject", "default").code == 0
    assert run("--root", root, "policy", "set", "--signed-by", alice, registry.host).code == 0
    other = tmp_path / "other"
    assert run("--root", other, "pull", *plain, name).code == 0
    unsigned = run("--root", other, "pull", *plain, f"{registry.host}/team/bare:1")
    loud(unsigned, 7, "a signature is required, and there is none")
    # The signature came along: it is in the other store, and leaves it again.
    assert run("--root", other, "verify", "--key", alice, name).code == 0
    copied = run("--root", other, "copy", f"kstore:{name}", f"dir:{tmp_path}/d")
    assert copied.code == 0
    assert (tmp_path / "d/signature-1").exists()


@pytest.mark.peer
def test_a_policy_costs_one_run_of_gnupg_a_signature_and_no_request_more(
    tmp_path: Path, alice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in ("gpg", "gpgv"):
        real = require_program(program)
        (programs / program).write_text(f'#!/bin/sh\necho >>{programs}/runs; exec {real} "$@"\n')
        (programs / program).chmod(0o755)
    given = tmp_path / "signed.json"
    given.write_text(json.dumps({"default": [signed_by(alice)]}))
    logs = []
    for words in ((), ("--policy", given)):
        place = tmp_path / f"run{len(logs)}"
        place.mkdir()
        with serve(place / "registry") as registry:
            registry.push("team/app", "1", IMAGE)
            name = f"{registry.host}/team/app:1"
            sign = ("sign", "--sign-by", "alice@example.org", "--tls-verify=false")
            assert run("--root", place, *sign, f"docker://{name}").code == 0
            with monkeypatch.context() as patch:
                patch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
                pull = ("pull", "--tls-verify=false", *words, name)
                assert run("--root", place / "store", *pull).code == 0
        logs.append(sorted((line.method, line.path) for line in registry.log))  # all are there now
        shutil.rmtree(tmp_path / "lookaside")  # where the host is no part of a place
    assert logs[0] == logs[1]
    assert (programs / "runs").read_text() == "\n"


@pytest.mark.peer
def test_another_directory_than_the_machines_says_where_signatures_are(
    root: Path, tmp_path: Path, alice: Path, registry: LocalRegistry
) -> None:
    registry.push("team/app", "1", IMAGE)
    there, own = f"docker://{registry.host}/team/app:1", tmp_path / "own.d"
    own.mkdir()
    (own / "x.yaml").write_text(f"default-docker: {{lookaside: '{(tmp_path / 'own').as_uri()}'}}")
    words = ("--tls-verify=false", "--registries.d", own)
    assert run("--root", root, "sign", "--sign-by", "alice@example.org", *words, there).code == 0
    assert sorted(path.name for path in tmp_path.rglob("signature-*")) == ["signature-1"]
    assert (tmp_path / "own/team").is_dir()
    verify = ("verify", "--no-sigstore-attachments", "--key", alice)
    assert run("--root", root, *verify, *words, there).code == 0
    loud(run("--root", root, *verify, words[0], there), 7, "there is none")
    gone = run("--root", root, *verify, "--registries.d", tmp_path / "gone", there)
    loud(gone, 2, "gone")


@pytest.mark.peer
def test_of_many_tags_only_those_that_are_trusted_are_pulled(
    root: Path, tmp_path: Path, alice: Path, registry: LocalRegistry
) -> None:
    registry.push("team/app", "1", IMAGE)
    registry.push("team/app", "2", random_image(2))
    there = f"{registry.host}/team/app"
    sign = ("sign", "--sign-by", "alice@example.org", "--tls-verify=false", f"docker://{there}:2")
    assert run("--root", root, *sign).code == 0
    given = tmp_path / "signed.json"
    given.write_text(json.dumps({"default": [signed_by(alice)]}))
    result = run("--root", root, "pull", "-a", "--tls-verify=false", "--policy", given, there)
    loud(result, 7, f"{there}:1", "a signature is required")
    assert result.out == f"{random_image(2).id}\n"


def signed_by(key: Path) -> dict[str, str]:
    return {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(key)}


@pytest.mark.peer
def test_sign_signs_an_image_of_the_store_and_verify_sees_it(
    root: Path, alice: Path, tmp_path: Path
) -> None:
    with Store.open(root) as store:
        put_image(store, IMAGE, "a.org/app:1")
    key = ("--key", alice)
    loud(run("--root", root, "verify", *key, "a.org/app:1"), 7, "there is none")
    signed = run("--root", root, "sign", "--sign-by", "alice@example.org", "a.org/app:1")
    assert (signed.code, signed.out) == (0, f"{IMAGE.raw.digest}\n")
    verified = run("--root", root, "verify", *key, "a.org/app:1")
    assert (verified.code, verified.out) == (0, f"{IMAGE.raw.digest}\n")
    loud(run("--root", root, "verify", "a.org/app:1"), 7, "looks at no signature")
    assert run("--root", root, "policy", "set", "--signed-by", alice, "a.org").code == 0
    assert run("--root", root, "verify", "a.org/app:1").out == f"{IMAGE.raw.digest}\n"
    loud(run("--root", root, "verify", IMAGE.id), 7, "the rule for the store", "no signature")
    by_id = run("--root", root, "sign", "--sign-by", "alice@example.org", IMAGE.id)
    loud(by_id, 2, "--sign-identity NAME")
    loud(run("--root", root, "save", "-o", tmp_path / "x.tar", "a.org/app:1"), 6, "--remove-sig")
    saved = run(
        *("--root", root, "save", "--remove-signatures", "-o", tmp_path / "x.tar", "a.org/app:1")
    )
    assert saved.code == 0


@pytest.mark.peer
def test_sign_signs_an_image_where_it_is(
    root: Path, image: str, alice: Path, registry: LocalRegistry
) -> None:
    registry.push("team/app", "1", IMAGE)
    there = f"docker://{registry.host}/team/app:1"
    signing = ("sign", "--sign-by", "alice@example.org", "--tls-verify=false")
    assert run("--root", root, *signing, there).code == 0
    assert run("--root", root, "verify", "--tls-verify=false", "--key", alice, there).code == 0
    named = ("--sign-identity", "a.org/app:1")
    assert run("--root", root, *signing, *named, image).code == 0
    assert Path(image.removeprefix("dir:"), "signature-1").exists()
    loud(run("--root", root, *signing, image), 2, "no name that could be signed")
    assert not root.exists()


@pytest.mark.peer
def test_the_passphrase_comes_from_a_file(
    root: Path, tmp_path: Path, alice: Path, image: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret\nmore\n")
    words = ("copy", "--sign-by", "lock@example.org", "--sign-identity", "a.org/app:1")
    good = run(
        *("--root", root, *words, "--sign-passphrase-file", secret, image, f"dir:{tmp_path}/to")
    )
    assert good.code == 0, good
    gone = run(
        *("--root", root, *words, "--sign-passphrase-file", tmp_path / "no", image, "dir:/x/y")
    )
    loud(gone, 3, "passphrase file")


@pytest.mark.peer
def test_a_key_that_is_not_there_is_found_out_before_anything_moves(
    root: Path, tmp_path: Path, alice: Path, image: str
) -> None:
    result = run("--root", root, "copy", "--sign-by", "carol", image, f"dir:{tmp_path}/to")
    loud(result, 3, "no secret key 'carol'", "gpg --list-secret-keys")
    assert not (tmp_path / "to").exists()


@pytest.mark.peer
def test_standalone_signatures_are_made_and_checked(
    root: Path, tmp_path: Path, alice: Path, gpg: GpgHome
) -> None:
    manifest, signature = tmp_path / "manifest.json", tmp_path / "signature"
    manifest.write_bytes(IMAGE.raw.data)
    key = gpg.run("--with-colons", "-k", "alice@example.org").decode().split("fpr:")[1].strip(":")
    key = key.split(":")[0]
    sign = ("standalone-sign", manifest, "a.org/app:1", "alice@example.org", "-o", signature)
    assert run("--root", root, *sign).code == 0
    good = run("--root", root, "standalone-verify", manifest, "a.org/app:1", key, signature)
    said = f"Signature verified using fingerprint {key}, digest {IMAGE.raw.digest}\n"
    assert (good.code, good.out) == (0, said)
    by_file = ("standalone-verify", "--public-key-file", alice, manifest, "a.org/app:1")
    assert run("--root", root, *by_file, "any", signature).code == 0
    loud(run("--root", root, *by_file, "0" * 40, signature), 7, "which is not accepted")
    other = ("standalone-verify", manifest, "a.org/app:2", key, signature)
    loud(run("--root", root, *other), 7, "is of 'a.org/app:1'")
    (tmp_path / "other.json").write_bytes(random_image(2).raw.data)
    another = ("standalone-verify", tmp_path / "other.json", "a.org/app:1", key, signature)
    loud(run("--root", root, *another), 7, "is of manifest")
    loud(run("--root", root, "standalone-verify", manifest, "a.org/app:1", "any", signature), 2)
    assert not root.exists()
