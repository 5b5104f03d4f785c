from __future__ import annotations

import base64
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kstore.errors import (
    AuthError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from kstore.registry import AuthFiles, Credentials, parse_creds, privatefile
from kstore.registry.authfiles import FILES
from kstore.registry.credential_programs import CredentialPrograms
from tests.support.credentialprogram import answer, install


def pair(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def auth_file(path: Path, auths: dict[str, Any], **more: Any) -> AuthFiles:
    path.write_text(json.dumps({"auths": auths, **more}))
    return AuthFiles((path,))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "auth.json"


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("ns/repo", "repo"),
        ("ns/repo/sub", "repo"),
        ("ns/other", "ns"),
        ("nsx/repo", "host"),
        ("else", "host"),
        ("", "host"),
    ],
)
def test_the_most_specific_key_wins(file: Path, path: str, user: str) -> None:
    files = auth_file(
        file,
        {"r.io": pair("host", "p"), "r.io/ns": pair("ns", "p"), "r.io/ns/repo": pair("repo", "p")},
    )
    assert files.lookup("r.io", path) == Credentials(user, "p")


@pytest.mark.parametrize(
    "key",
    [
        *("r.io", "https://r.io", "http://r.io/", "https://r.io/v1/", "https://r.io/v2/", "r.io/"),
        "https://r.io/ns",  # nobody has written namespaces with a scheme
    ],
)
def test_old_spellings_of_a_host_are_understood(file: Path, key: str) -> None:
    assert auth_file(file, {key: pair("u", "p")}).lookup("r.io", "a/b") == Credentials("u", "p")


@pytest.mark.parametrize(
    "key",
    ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"],
)
def test_docker_io_has_many_names(file: Path, key: str) -> None:
    files = auth_file(file, {key: pair("u", "p")})
    assert files.lookup("docker.io", "library/busybox") == Credentials("u", "p")


@pytest.mark.parametrize("key", ["xr.io", "r.io.evil", "r.io:443", "r.i", "r.io/ns", "*"])
def test_a_similar_key_does_not_match(file: Path, key: str) -> None:
    assert auth_file(file, {key: pair("u", "p")}).lookup("r.io", "a/b") is None


def test_files_are_read_in_order_and_may_be_absent(tmp_path: Path) -> None:
    auth_file(tmp_path / "second", {"r.io": pair("second", "p")})
    auth_file(tmp_path / "third", {"r.io": pair("third", "p"), "q.io": pair("q", "p")})
    files = AuthFiles(tuple(tmp_path / name for name in ("first", "second", "third")))
    assert files.lookup("r.io", "") == Credentials("second", "p")
    assert files.lookup("q.io", "") == Credentials("q", "p")
    assert files.lookup("nobody.io", "") is None


def test_an_explicit_file_is_read_alone(tmp_path: Path) -> None:
    auth_file(tmp_path / "usual", {"r.io": pair("u", "p")})
    files = AuthFiles((tmp_path / "usual",), explicit=tmp_path / "mine")
    assert files.lookup("r.io", "") is None


def test_a_password_may_contain_colons_and_an_entry_line_breaks(file: Path) -> None:
    entry = pair("ü", "a:b:c")
    entry["auth"] = entry["auth"][:4] + "\n" + entry["auth"][4:] + "\n"
    assert auth_file(file, {"r.io": entry}).lookup("r.io", "") == Credentials("ü", "a:b:c")


def test_padding_behind_a_password_is_no_part_of_it(file: Path) -> None:
    files = auth_file(file, {"r.io": pair("u", "p\0\0")})
    assert files.lookup("r.io", "") == Credentials("u", "p")


def test_an_identity_token_is_found(file: Path) -> None:
    files = auth_file(
        file, {"r.io": {**pair("u", ""), "identitytoken": "t"}, "q.io": {"identitytoken": "t"}}
    )
    assert files.lookup("r.io", "") == Credentials("u", None, "t")
    assert files.lookup("q.io", "") == Credentials(None, None, "t")


def test_an_empty_entry_counts_as_none(tmp_path: Path) -> None:
    auth_file(tmp_path / "a", {"r.io": {}})
    auth_file(tmp_path / "b", {"r.io": pair("u", "p")})
    files = AuthFiles((tmp_path / "a", tmp_path / "b"))
    assert files.lookup("r.io", "") == Credentials("u", "p")


def with_helper(files: AuthFiles, directory: Path, **changes: Any) -> AuthFiles:
    return replace(files, programs=CredentialPrograms((directory,)), **changes)


@pytest.mark.parametrize(
    "more", [{"credHelpers": {"r.io": "gone"}}, {"credsStore": "gone"}], ids=["own", "store"]
)
def test_a_helper_that_is_missing_is_an_error_and_nobody_else_is_asked(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    auth_file(tmp_path / "a", {"r.io": {}}, **more)
    auth_file(tmp_path / "b", {"r.io": pair("u", "p")})
    files = AuthFiles((tmp_path / "a", tmp_path / "b"))
    with pytest.raises(AuthError, match="docker-credential-gone is not installed"):
        files.lookup("r.io", "x")
    assert files.lookup("q.io", "x") is None, "nothing says that it has something of q.io"


@pytest.mark.parametrize(
    ("document", "user"),
    [
        ({"credHelpers": {"r.io": "h"}}, "helper"),
        ({"credHelpers": {"r.io": "h"}, "auths": {"r.io": pair("file", "p")}}, "helper"),
        ({"credHelpers": {"q.io": "h"}, "auths": {"r.io": pair("file", "p")}}, "file"),
        ({"credsStore": "h", "auths": {"r.io": {}}}, "helper"),
        ({"credsStore": "h"}, "helper"),
        ({"credsStore": "h", "auths": {"r.io": pair("file", "p")}}, "file"),
        ({"credsStore": "gone", "credHelpers": {"r.io": "h"}}, "helper"),
    ],
    ids=["own", "own-first", "of-another", "marked", "unmarked", "entry-first", "own-before-store"],
)
def test_the_helper_a_file_names_is_asked_in_dockers_order(
    file: Path, tmp_path: Path, document: dict[str, Any], user: str
) -> None:
    (install(tmp_path / "bin", "h") / "r.io").write_text(answer("helper", "p"))
    file.write_text(json.dumps(document))
    files = with_helper(AuthFiles((file,)), tmp_path / "bin")
    assert files.lookup("r.io", "ns/x") == Credentials(user, "p")


def test_a_helper_without_an_entry_leaves_the_question_to_the_next_file(tmp_path: Path) -> None:
    install(tmp_path / "bin", "h")
    auth_file(tmp_path / "a", {}, credHelpers={"r.io": "h"})
    auth_file(tmp_path / "b", {"r.io": pair("u", "p")})
    files = with_helper(AuthFiles((tmp_path / "a", tmp_path / "b")), tmp_path / "bin")
    assert files.lookup("r.io", "x") == Credentials("u", "p")


def test_a_helper_knows_docker_io_by_dockers_name(file: Path, tmp_path: Path) -> None:
    entries = install(tmp_path / "bin", "h")
    (entries / "https:__index.docker.io_v1_").write_text(answer("hub", "p"))
    files = with_helper(auth_file(file, {}, credsStore="h"), tmp_path / "bin")
    assert files.lookup("docker.io", "library/x") == Credentials("hub", "p")


def test_helpers_of_the_configuration_are_asked_in_its_order(file: Path, tmp_path: Path) -> None:
    (install(tmp_path / "bin", "h") / "r.io").write_text(answer("helper", "p"))
    files = auth_file(file, {"r.io": pair("file", "p")})
    first = with_helper(files, tmp_path / "bin", order=("h", FILES))
    last = with_helper(files, tmp_path / "bin", order=(FILES, "h"))
    assert first.lookup("r.io", "x") == Credentials("helper", "p")
    assert last.lookup("r.io", "x") == Credentials("file", "p")
    assert with_helper(files, tmp_path / "bin", order=()).lookup("r.io", "x") is None


@pytest.mark.parametrize(
    ("document", "order", "mark"),
    [
        ({"credHelpers": {"r.io": "h"}}, (FILES,), None),
        ({"credsStore": "h"}, (FILES,), {"r.io": {}}),
        ({}, ("h", FILES), None),
    ],
    ids=["own", "store", "configured"],
)
def test_what_belongs_to_a_helper_is_stored_and_erased_there(
    file: Path,
    tmp_path: Path,
    document: dict[str, Any],
    order: tuple[str, ...],
    mark: dict[str, Any] | None,
) -> None:
    entries = install(tmp_path / "bin", "h")
    file.write_text(json.dumps(document))
    files = with_helper(AuthFiles((file,)), tmp_path / "bin", order=order)
    assert files.store("r.io", Credentials("u", "s3cret-word")) == "h"
    assert "s3cret-word" not in file.read_text()
    assert json.loads(file.read_text()).get("auths") == mark
    assert files.lookup("r.io", "x") == Credentials("u", "s3cret-word")
    with pytest.raises(InvalidInputError, match="whole registries"):
        with_helper(files, tmp_path / "bin", order=("h",)).store("r.io/ns", Credentials("u", "p"))
    assert files.erase("r.io") in ("h", file)
    assert not (entries / "r.io").exists()
    with pytest.raises(NotFoundError):
        files.erase("r.io")


def test_everything_is_erased_from_helpers_too(file: Path, tmp_path: Path) -> None:
    entries = install(tmp_path / "bin", "h")
    (entries / "r.io").write_text(answer("u", "p"))
    files = auth_file(file, {"q.io": pair("u", "p")}, credHelpers={"r.io": "h"})
    with_helper(files, tmp_path / "bin").erase_all()
    assert not (entries / "r.io").exists()
    assert json.loads(file.read_text()) == {"auths": {}, "credHelpers": {"r.io": "h"}}


def test_the_flat_file_of_old_dockers_is_read_and_changed(tmp_path: Path) -> None:
    file = tmp_path / ".dockercfg"
    file.write_text(json.dumps({"https://r.io/v1/": pair("u", "p"), "q.io": pair("q", "p")}))
    files = AuthFiles((tmp_path / "auth.json", file))
    assert files.lookup("r.io", "a/b") == Credentials("u", "p")
    files.erase("r.io")
    assert json.loads(file.read_text()) == {"q.io": pair("q", "p")}


def test_many_logins_at_once_lose_none(file: Path) -> None:
    hosts = [f"r{number}.io" for number in range(24)]

    def log_in(host: str) -> None:
        AuthFiles((file,)).store(host, Credentials("u", "p"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log_in, hosts))
    assert sorted(json.loads(file.read_text())["auths"]) == sorted(hosts)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_another_process_holds_for_ever_is_given_up(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privatefile, "_PATIENCE", 0.1)
    with (
        privatefile.changing(file, "the file"),
        pytest.raises(ConflictError, match="changed by another process"),
    ):
        AuthFiles((file,)).store("r.io", Credentials("u", "p"))
    assert not file.exists()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"auths": []}', '{"auths": {"r.io": 3}}', '{"auths": {"r.io": {"auth": "%%"}}}',
     '{"auths": {"r.io": {"auth": "bm9jb2xvbg=="}}}', '{"auths": {"r.io": {"auth": "//8="}}}',
     '{"auths": {}, "auths": {}}'],
)  # fmt: skip
def test_a_damaged_file_is_named_and_its_secrets_are_not(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(StorageError, match=r"auth\.json") as caught:
        AuthFiles((file,)).lookup("r.io", "")
    assert "nocolon" not in str(caught.value)


def test_a_file_that_is_not_json_is_named_with_the_line(file: Path) -> None:
    file.write_text('{\n  "auths": {\n    "r.io": }\n}\n')
    with pytest.raises(StorageError, match=r"auth\.json is not valid JSON: .*line 3"):
        AuthFiles((file,)).lookup("r.io", "")


def test_an_oversized_file_is_refused(file: Path) -> None:
    file.write_text(json.dumps({"auths": {}, "x": "y" * (1024 * 1024)}))
    with pytest.raises(StorageError, match="limit of 1048576"):
        AuthFiles((file,)).lookup("r.io", "")


def test_an_empty_file_holds_nothing(file: Path) -> None:
    file.write_text("")
    assert AuthFiles((file,)).lookup("r.io", "") is None


def test_nothing_shows_a_password() -> None:
    text = repr(Credentials("ann", "s3cret-word", "t0ken-word"))
    assert "s3cret-word" not in text
    assert "t0ken-word" not in text


def test_credentials_are_parsed_from_text() -> None:
    assert parse_creds("u:p:q") == Credentials("u", "p:q")
    for text in ("u", ":p", "", "u\n:p", "u:p\0"):
        with pytest.raises(InvalidInputError) as caught:
            parse_creds(text)
        assert not text or text not in str(caught.value).split()


def test_what_is_stored_is_found_and_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        files = AuthFiles((tmp_path / "new/dir/auth.json",))
        written = files.store("r.io", Credentials("u", "p:q"))
    finally:
        os.umask(old)
    assert files.lookup("r.io", "a") == Credentials("u", "p:q")
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o700
    assert [path.name for path in written.parent.iterdir()] == ["auth.json"]


def test_other_content_survives_a_write(file: Path) -> None:
    files = auth_file(file, {"q.io": {**pair("q", "p"), "email": "x"}}, HttpHeaders={"A": "b"})
    files.store("r.io", Credentials("u", "p"))
    files.erase("r.io")
    document = json.loads(file.read_text())
    assert document == {
        "auths": {"q.io": {**pair("q", "p"), "email": "x"}},
        "HttpHeaders": {"A": "b"},
    }


def test_storing_replaces_older_spellings(file: Path) -> None:
    files = auth_file(file, {"https://r.io/v1/": pair("old", "p"), "r.io/ns": pair("ns", "p")})
    files.store("r.io", Credentials("new", "p"))
    assert files.lookup("r.io", "x") == Credentials("new", "p")
    assert files.lookup("r.io", "ns/x") == Credentials("ns", "p")
    assert sorted(json.loads(file.read_text())["auths"]) == ["r.io", "r.io/ns"]


def test_docker_io_is_stored_as_docker_reads_it(file: Path) -> None:
    files = AuthFiles((file,))
    files.store("docker.io", Credentials("u", "p", "t"))
    assert list(json.loads(file.read_text())["auths"]) == ["https://index.docker.io/v1/"]
    assert files.lookup("docker.io", "library/x") == Credentials("u", "p", "t")
    files.erase("docker.io")
    assert files.lookup("docker.io", "library/x") is None


def test_credentials_of_a_namespace_are_stored_apart(file: Path) -> None:
    files = AuthFiles((file,))
    files.store("r.io/ns", Credentials("u", "p"))
    assert files.lookup("r.io", "ns/x") == Credentials("u", "p")
    assert files.lookup("r.io", "other") is None


def test_erasing_what_is_not_there_is_an_error(file: Path) -> None:
    with pytest.raises(NotFoundError, match=r"r\.io"):
        AuthFiles((file,)).erase("r.io")
    assert not file.exists()


def test_everything_can_be_erased_at_once(file: Path) -> None:
    files = auth_file(file, {"r.io": pair("u", "p"), "q.io": pair("u", "p")}, other=1)
    files.erase_all()
    assert json.loads(file.read_text()) == {"auths": {}, "other": 1}
    AuthFiles((file.with_name("absent"),)).erase_all()
    assert not file.with_name("absent").exists()


def test_a_linked_file_stays_linked(tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    auth_file(real, {})
    link = tmp_path / "link.json"
    link.symlink_to(real)
    AuthFiles((link,)).store("r.io", Credentials("u", "p"))
    assert link.is_symlink()
    assert "r.io" in json.loads(real.read_text())["auths"]


@pytest.mark.parametrize("host", ["", "https://r.io", "u@r.io", "r.io/a:b", "r.io/", "/x"])
def test_a_key_that_is_no_host_is_refused(file: Path, host: str) -> None:
    with pytest.raises(InvalidInputError):
        AuthFiles((file,)).store(host, Credentials("u", "p"))
    assert not file.exists()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be"):
        AuthFiles((tmp_path / "file/auth.json",)).store("r.io", Credentials("u", "p"))
