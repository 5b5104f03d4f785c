"""One signature checked by GnuPG, which must not see the user's keys, agent or settings.

GnuPG's exit code and status lines need care (see :func:`verify_message`), so one ``gpgv`` with a
keyring of its own is asked, and not a wrapper.

Source: doc/DETAILS of GnuPG, "Format of the --status-fd output".
"""

from __future__ import annotations

import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from kstore.blobs import storage_errors
from kstore.signing.claim import BadSignatureError
from kstore.signing.gpg import find_program
from kstore.signing.openpgp import MalformedError, check_message, primary_keys
from kstore.signing.simple import MAX_PAYLOAD
from kstore.values import dataclass

__all__ = ["Verified", "verify_message"]

#: Seconds that one gpgv may take.
TIME_LIMIT = 30.0
#: A signature from further ahead than this, in seconds, is not accepted: some clock is wrong.
FUTURE_TOLERANCE = 600
_MAX_STATUS = 64 << 10

_STATUS = b"[GNUPG:] "

#: Status lines that show a signature to be worthless, and what they mean; in the order in which
#: they explain most.
_FATAL: Mapping[str, str] = {
    "BADSIG": "is not what was signed: it was changed",
    "NO_PUBKEY": "is by key {key}, which is not an accepted one",
    "ERRSIG": "is of a kind that GnuPG cannot verify",
    "EXPSIG": "has expired",
    "EXPKEYSIG": "is by key {key}, which has expired",
    "REVKEYSIG": "is by key {key}, which was revoked",
    "UNEXPECTED": "is not a signed message",
    "NODATA": "is not a signed message",
    "DECRYPTION_FAILED": "is encrypted",
    "ENC_TO": "is encrypted",
    "ERROR": "cannot be verified by GnuPG",
    "FAILURE": "cannot be verified by GnuPG",
}


@dataclass(frozen=True, slots=True)
class Verified:
    """What was signed, and by whom: the fingerprint (upper-case hex) of the primary key."""

    payload: bytes
    fingerprint: str


def verify_message(message: bytes, keys: bytes) -> Verified:
    """The content of the OpenPGP ``message``, if one key of ``keys`` (binary) made it good.

    Good is: one message to its end; exactly one signature, of class 00 (binary document), in order
    by GnuPG's status lines, which tell more than its exit code; by a primary key of ``keys`` or a
    subkey of one; nothing expired, nothing revoked, not from the future.  Raises BadSignatureError,
    UnsupportedError without gpgv, StorageError.
    """
    try:
        check_message(message)
        accepted = primary_keys(keys)
    except MalformedError as exc:
        raise BadSignatureError(str(exc)) from exc
    program = find_program("gpgv")
    with (
        storage_errors("verify a signature in a temporary directory"),
        tempfile.TemporaryDirectory(prefix="kstore-gpg-") as home,  # of mode 0700
    ):
        output = _run_gpgv(program, Path(home), message, keys)
    return Verified(output.payload, _judge(output, accepted))


@dataclass(frozen=True, slots=True)
class _Output:
    code: int
    payload: bytes
    status: bytes


def _run_gpgv(program: str, home: Path, message: bytes, keys: bytes) -> _Output:
    (home / "keys").write_bytes(keys)
    (home / "message").write_bytes(message)
    status_out, status_in = os.pipe()
    arguments = ("--homedir", home, "--keyring", home / "keys", "--status-fd", str(status_in))
    with open(status_out, "rb", buffering=0) as status:  # noqa: PTH123 - a descriptor
        try:
            process = subprocess.Popen(  # noqa: S603 - an absolute path, and our own arguments
                [program, *arguments, "--output", "-", home / "message"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(status_in,),
                cwd=home,
                env={"PATH": os.defpath, "LC_ALL": "C", "GNUPGHOME": str(home), "HOME": str(home)},
            )
        finally:
            os.close(status_in)
        with process:
            assert process.stdout is not None
            try:
                caps = {process.stdout: MAX_PAYLOAD, status: _MAX_STATUS}
                read = _read_all(caps, time.monotonic() + TIME_LIMIT)
                code = process.wait(TIME_LIMIT)
            except subprocess.TimeoutExpired as exc:
                raise BadSignatureError("keeps GnuPG busy for too long") from exc
            finally:
                process.kill()
            return _Output(code, read[process.stdout], read[status])


def _read_all(caps: Mapping[IO[bytes], int], deadline: float) -> Mapping[IO[bytes], bytes]:
    """Everything from several pipes at once, each up to its cap; BadSignatureError beyond."""
    parts: dict[IO[bytes], bytearray] = {pipe: bytearray() for pipe in caps}
    with selectors.DefaultSelector() as selector:
        for pipe in caps:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise BadSignatureError("keeps GnuPG busy for too long")
            for key, _ in ready:
                source: Any = key.fileobj
                chunk = os.read(key.fd, 1 << 16)
                parts[source] += chunk
                if not chunk:
                    selector.unregister(source)
                elif len(parts[source]) > caps[source]:
                    raise BadSignatureError(f"has more than {caps[source]} bytes in it")
    return {pipe: bytes(data) for pipe, data in parts.items()}


def _judge(output: _Output, accepted: frozenset[str]) -> str:
    """The primary key's fingerprint; BadSignatureError unless everything is as it must be."""
    lines = [
        line.removeprefix(_STATUS).decode("ascii", "replace").split()
        for line in output.status.split(b"\n")
        if line.startswith(_STATUS)
    ]
    said: dict[str, list[list[str]]] = {}
    for keyword, *values in filter(None, lines):
        said.setdefault(keyword, []).append(values)
    for keyword, meaning in _FATAL.items():
        if keyword in said:
            values = said[keyword][0]
            raise BadSignatureError(meaning.format(key=values[0] if values else "of no name"))
    counts = [len(said.get(word, ())) for word in ("NEWSIG", "GOODSIG", "VALIDSIG", "PLAINTEXT")]
    if counts != [1, 1, 1, 1] or output.code != 0:
        raise BadSignatureError("is not one good signature of one message")
    return _signer(said["VALIDSIG"][0], accepted)


def _signer(valid: list[str], accepted: frozenset[str]) -> str:
    # fingerprint, date, time, expiry, version, reserved, key and hash algorithm, class, primary
    if len(valid) < 10 or not valid[2].isdecimal():
        raise BadSignatureError("was reported by GnuPG in words that are unknown")
    primary = valid[9].upper()
    if valid[8] != "00":
        raise BadSignatureError(f"is of class {valid[8]:.8}, and not for binary data")
    if primary not in accepted:
        raise BadSignatureError(f"is by key {primary:.64}, which is not an accepted one")
    if int(valid[2]) > time.time() + FUTURE_TOLERANCE:
        raise BadSignatureError("was made in the future, so that some clock is wrong")
    return primary
