"""Scopes as they are written, and rules as they are changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kstore.errors import ConflictError, InvalidInputError, NotFoundError, StorageError
from kstore.operations.policy import NewRule, change_policy, parse_scope
from kstore.transports import FACTORIES, validate_policy_scope

REJECT = [{"type": "reject"}]
ACCEPT = [{"type": "insecureAcceptAnything"}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default", None),
        ("quay.io", ("docker", "quay.io")),
        ("quay.io/me/app:1", ("docker", "quay.io/me/app:1")),
        ("localhost:5000", ("docker", "localhost:5000")),
        ("localhost:5000/x", ("docker", "localhost:5000/x")),
        ("*.example.org", ("docker", "*.example.org")),
        ("docker:quay.io", ("docker", "quay.io")),
        ("docker://quay.io", ("docker", "quay.io")),
        ("docker:", ("docker", "")),
        ("dir:/srv", ("dir", "/srv")),
        ("docker-archive:", ("docker-archive", "")),
        ("kstore:[/srv]", ("kstore", "[/srv]")),
    ],
)
def test_a_scope_is_docker_s_unless_it_says_otherwise(
    text: str, expected: tuple[str, str] | None
) -> None:
    assert parse_scope(text, tuple(FACTORIES)) == expected


def change(file: Path, scope: tuple[str, str] | None, rule: NewRule) -> dict[str, object]:
    change_policy([file], scope, rule, validate_policy_scope)
    found: dict[str, object] = json.loads(file.read_text())
    return found


def test_rules_of_every_kind_are_written(tmp_path: Path) -> None:
    file, key = tmp_path / "policy.json", tmp_path / "key"
    key.write_bytes(b"\xc6\x04\x04abc")
    assert change(file, None, NewRule("reject")) == {"default": REJECT}
    signed = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(key)}
    by_two = {"type": "sigstoreSigned", "keyPaths": [str(key), str(key)]}
    change(file, ("docker", "a.org"), NewRule("signed-by", (key,)))
    change(file, ("docker", ""), NewRule("sigstore-signed-by", (key, key)))
    assert change(file, ("dir", "/srv"), NewRule("accept")) == {
        "default": REJECT,
        "transports": {"docker": {"a.org": [signed], "": [by_two]}, "dir": {"/srv": ACCEPT}},
    }
    assert change(file, ("dir", "/srv"), NewRule("remove"))["transports"] == {
        "docker": {"a.org": [signed], "": [by_two]}
    }


def test_a_relative_key_is_written_as_it_is_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_bytes(b"\xc6\x04\x04abc")
    change(tmp_path / "policy.json", ("docker", "a.org"), NewRule("signed-by", (Path("key"),)))
    assert f'"keyPath": "{tmp_path}/key"' in (tmp_path / "policy.json").read_text()


def test_the_first_file_that_is_there_is_changed(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    two.write_text(json.dumps({"default": REJECT}))
    result = change_policy([one, two], None, NewRule("accept"), validate_policy_scope)
    assert (result.file, result.created, one.exists()) == (two, False, False)


@pytest.mark.parametrize("rule", [NewRule("signed-by"), NewRule("sigstore-signed-by")])
def test_a_rule_about_signatures_needs_a_key(tmp_path: Path, rule: NewRule) -> None:
    with pytest.raises(InvalidInputError, match="no file with public keys"):
        change(tmp_path / "policy.json", None, rule)
    assert list(tmp_path.iterdir()) == []


def test_a_rule_that_is_not_there_cannot_be_removed(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no rule for dir:/srv"):
        change(tmp_path / "policy.json", ("dir", "/srv"), NewRule("remove"))


def test_what_somebody_else_writes_meanwhile_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"default": REJECT}))

    def meanwhile(transport: str, scope: str) -> None:
        file.write_text(json.dumps({"default": ACCEPT}))

    with pytest.raises(ConflictError, match="changed by somebody else"):
        change_policy([file], ("docker", "a.org"), NewRule("reject"), meanwhile)
    assert json.loads(file.read_text()) == {"default": ACCEPT}


@pytest.mark.unprivileged
def test_a_policy_that_must_not_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "policy.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"default": REJECT}))
    os.chmod(file.parent, 0o500)  # noqa: PTH101
    with pytest.raises(StorageError, match="cannot write the trust policy") as caught:
        change(file, None, NewRule("accept"))
    assert caught.value.hint is None
    own = tmp_path / "home/policy.json"
    with pytest.raises(StorageError) as caught:
        change_policy([own, file], None, NewRule("accept"), validate_policy_scope)
    assert (
        caught.value.hint == f"install -D {file} {own} makes one of your own, which counts instead"
    )
    assert not own.parent.exists()
    assert json.loads(file.read_text()) == {"default": REJECT}
