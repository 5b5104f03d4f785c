"""Keeping and forgetting credentials, against a server that checks them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.errors import AuthError, InvalidInputError, NotFoundError, RemoteError, StorageError
from kstore.operations.login import log_in, log_out, logged_in_as
from kstore.registry import AuthFiles, Credentials, RegistrySettings
from tests.support.faultserver import Basic, FaultServer

PLAIN_HTTP = RegistrySettings(tls_verify=False)
ANN = Credentials("ann", "secret")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.auth = Basic(("ann", "secret"))
        yield server


@pytest.fixture
def files(tmp_path: Path) -> AuthFiles:
    return AuthFiles((), explicit=tmp_path / "auth.json")


@pytest.mark.parametrize("form", ["{}", "http://{}", "https://{}/"])
def test_credentials_that_work_are_kept_and_forgotten(
    server: FaultServer, files: AuthFiles, form: str
) -> None:
    result = log_in(form.format(server.host), ANN, files, PLAIN_HTTP)
    assert (result.registry, result.place) == (server.host, files.explicit)
    assert logged_in_as(server.host, files) == "ann"
    log_out(server.host, files)
    with pytest.raises(AuthError):
        logged_in_as(server.host, files)
    with pytest.raises(NotFoundError):
        log_out(server.host, files)


def test_credentials_that_are_refused_are_kept_nowhere(
    server: FaultServer, files: AuthFiles
) -> None:
    with pytest.raises(AuthError) as caught:
        log_in(server.host, Credentials("ann", "wrong-guess"), files, PLAIN_HTTP)
    assert "wrong-guess" not in caught.value.message
    assert caught.value.hint is None, "to log in is what was just tried"
    assert files.explicit is not None
    assert not files.explicit.exists()


def test_a_registry_that_cannot_be_asked_changes_nothing(files: AuthFiles) -> None:
    with pytest.raises(RemoteError):
        log_in("127.0.0.1:1", ANN, files, PLAIN_HTTP)
    assert files.explicit is not None
    assert not files.explicit.exists()


def test_a_file_that_cannot_be_written_is_answered_with_the_option(
    server: FaultServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StorageError) as caught:
        log_in(server.host, ANN, AuthFiles((), explicit=tmp_path / "file/auth.json"), PLAIN_HTTP)
    assert "--authfile" in (caught.value.hint or "")


def test_credentials_of_a_namespace_are_kept_apart(server: FaultServer, files: AuthFiles) -> None:
    result = log_in(f"{server.host}/team", ANN, files, PLAIN_HTTP)
    assert result.registry == f"{server.host}/team"
    assert logged_in_as(f"{server.host}/team", files) == "ann"
    with pytest.raises(AuthError):
        logged_in_as(server.host, files)
    log_out(f"{server.host}/team/", files)
    with pytest.raises(AuthError):
        logged_in_as(f"{server.host}/team", files)


@pytest.mark.parametrize(
    "registry", ["", "a/b", "r.io/UP", "r.io//x", "r.io/x:1", "user@host", "a b", "https://"]
)
def test_what_is_no_registry_is_refused(files: AuthFiles, registry: str) -> None:
    with pytest.raises(InvalidInputError):
        log_in(registry, ANN, files, PLAIN_HTTP)


def test_all_forgets_every_registry_and_takes_no_name(tmp_path: Path) -> None:
    files = AuthFiles((), explicit=tmp_path / "auth.json")
    files.store("one.example", ANN)
    files.store("two.example", ANN)
    with pytest.raises(InvalidInputError):
        log_out("one.example", files, everywhere=True)
    with pytest.raises(InvalidInputError):
        log_out(None, files)
    log_out(None, files, everywhere=True)
    assert json.loads((tmp_path / "auth.json").read_text())["auths"] == {}
