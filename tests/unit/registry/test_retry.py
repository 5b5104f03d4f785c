from __future__ import annotations

import email.utils
import time

import pytest

from kstore.errors import CancelledError, RemoteError, RemoteTimeoutError
from kstore.registry import RegistryClient
from kstore.registry.retry import Backoff, retry_after
from kstore.streams import Cancel, pump
from tests.support.faultserver import Fault, FaultServer
from tests.unit.registry.conftest import ClientFactory, fast_settings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("9" * 400, 999999999.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("\u0661", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("Fri, 99 Dec 1999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert retry_after(text) == seconds


def test_a_date_in_the_future_is_waited_for() -> None:
    found = retry_after(email.utils.formatdate(time.time() + 100, usegmt=True))
    assert found is not None
    assert 97 < found <= 100


def test_pauses_grow_up_to_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    cancel = Cancel()
    monkeypatch.setattr(cancel, "wait", waits.append)
    settings = fast_settings(attempts=6, backoff_base=1.0, backoff_cap=5.0)
    backoff = Backoff(settings, cancel, lambda _: None)
    for _ in range(5):
        backoff.pause(RemoteError("x"))
    for wait, most in zip(waits, (1, 2, 4, 5, 5), strict=True):
        assert most / 2 <= wait <= most


def test_what_a_server_asks_for_is_waited_and_not_by_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    cancel = Cancel()
    monkeypatch.setattr(cancel, "wait", waits.append)
    backoff = Backoff(fast_settings(attempts=99, backoff_cap=5.0), cancel, lambda _: None)
    for asked in (2.0, 5.0, 86400.0):
        for _ in range(10):
            backoff.pause(RemoteError("x"), asked)
    for asked, ten in zip((2.0, 5.0, 5.0), (waits[:10], waits[10:20], waits[20:]), strict=True):
        assert all(asked <= wait <= 1.1 * asked for wait in ten)
        assert len(set(ten)) > 1


def test_the_last_failure_is_raised_as_what_it_is() -> None:
    backoff = Backoff(fast_settings(attempts=2), Cancel(), lambda _: None)
    backoff.pause(RemoteError("first"), 0)
    with pytest.raises(RemoteTimeoutError, match=r"second \(2 attempts\)") as caught:
        backoff.pause(RemoteTimeoutError("second", hint="h", status=503))
    assert (caught.value.hint, caught.value.status) == ("h", 503)


def test_a_cancel_ends_a_pause() -> None:
    cancel = Cancel()
    cancel.cancel()
    backoff = Backoff(fast_settings(backoff_cap=60), cancel, lambda _: None)
    started = time.monotonic()
    with pytest.raises(CancelledError):
        backoff.pause(RemoteError("x"), 50)
    assert time.monotonic() - started < 1


def test_a_long_pause_is_announced(warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = Cancel()
    monkeypatch.setattr(cancel, "wait", lambda seconds: None)
    backoff = Backoff(fast_settings(backoff_cap=60), cancel, warnings.append)
    backoff.pause(RemoteError("registry is busy"), 30)
    backoff.pause(RemoteError("registry is busy"), 0.5)
    assert warnings == ["registry is busy; trying again in 30 s"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_temporary_answers_are_asked_again(
    server: FaultServer, client: RegistryClient, status: int
) -> None:
    server.add_manifest(b"{}", "x/y", tag="v1")
    server.fault(Fault(status=status), "GET", "/tags/", times=3)
    assert list(client.tags("team/app")) == ["v1"]


@pytest.mark.parametrize("status", [400, 404, 418, 501, 505])
def test_final_answers_are_not_asked_again(
    server: FaultServer, client: RegistryClient, status: int
) -> None:
    server.fault(Fault(status=status), "GET", "/tags/", times=9)
    with pytest.raises(Exception, match="team/app"):
        list(client.tags("team/app"))
    assert len(server.seen("GET", "/tags/")) == 1


def test_attempts_are_counted(server: FaultServer, make_client: ClientFactory) -> None:
    server.fault(Fault(status=503), "GET", "/tags/", times=9)
    with pytest.raises(RemoteError, match="3 attempts") as caught:
        list(make_client(server, attempts=3).tags("team/app"))
    assert caught.value.status == 503
    assert caught.value.retryable
    assert len(server.seen("GET", "/tags/")) == 3


def test_a_request_whose_connection_breaks_is_sent_again(
    server: FaultServer, client: RegistryClient
) -> None:
    server.add_manifest(b"{}", "x/y", tag="v1")
    server.fault(Fault(swallow=0), "GET", "/tags/", times=2)
    assert list(client.tags("team/app")) == ["v1"]


def test_an_idle_connection_the_server_closed_is_no_failure(
    server: FaultServer, make_client: ClientFactory
) -> None:
    server.add_manifest(b"{}", "x/y", tag="v1")
    client = make_client(server, attempts=1)
    assert list(client.tags("team/app")) == ["v1"]
    server.hang_up()
    assert list(client.tags("team/app")) == ["v1"]


def test_an_idle_connection_that_breaks_under_a_request_is_no_failure(
    server: FaultServer, make_client: ClientFactory
) -> None:
    server.add_manifest(b"{}", "x/y", tag="v1")
    client = make_client(server, attempts=1)
    assert list(client.tags("team/app")) == ["v1"]
    server.fault(Fault(swallow=0), "GET", "/tags/")
    assert list(client.tags("team/app")) == ["v1"]


def test_who_wants_to_hear_of_every_pause_gets_no_warning_besides(warnings: list[str]) -> None:
    told: list[float] = []
    backoff = Backoff(fast_settings(attempts=3), Cancel(), warnings.append)
    backoff.pause(RemoteError("x"), 0.01, told.append)
    with pytest.raises(RemoteError):
        Backoff(fast_settings(attempts=1), Cancel(), warnings.append).pause(
            RemoteError("the last one"), 0.01, told.append
        )
    assert told == [0.01]
    assert warnings == []


def test_each_lost_connection_of_a_download_is_told(
    server: FaultServer, client: RegistryClient
) -> None:
    blob = server.add_blob(bytes(100_000))
    server.fault(Fault(status=503, body=b""), "GET", "/blobs/")
    server.fault(Fault(truncate_after=30_000), "GET", "/blobs/")
    told: list[str] = []
    with client.open_blob("team/app", blob, on_retry=told.append) as download:
        assert pump(download, len) == blob.size
    assert len(told) == 2
    assert "503" in told[0]
    assert "closed the connection" in told[1]
