"""Signatures beside a registry: files under an address, numbered from 1.

``BASE/REPOSITORY-PATH@ALGORITHM=HEX/signature-N``; the registry's host is not part of it.  Files
are read and written, web servers are only read.

Source: containers/image, docs/signature-protocols.md, "Lookaside".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from kstore.blobs import open_plain_file, replace_file, storage_errors
from kstore.digest import Digest
from kstore.errors import (
    IntegrityError,
    InvalidInputError,
    StorageError,
    StorageFullError,
    UnsupportedError,
)
from kstore.registry.exchange import Exchange, Load
from kstore.registry.registriesd import Section
from kstore.registry.settings import RegistrySettings
from kstore.registry.urls import Url
from kstore.signature import MAX_SIGNATURE_SIZE
from kstore.streams import Cancel

__all__ = ["MAX_SIGNATURES", "Lookaside"]

#: Most signatures of one manifest.
MAX_SIGNATURES = 128


class Lookaside:
    """Where the signatures of one image are, by what registries.d says about it.

    ``fallback`` is the directory for images about which nothing is said.  Raises InvalidInputError
    for an address that is neither a file's nor a web server's.
    """

    def __init__(
        self,
        section: Section,
        fallback: Path,
        settings: RegistrySettings,
        *,
        cancel: Cancel,
        warn: Callable[[str], None],
    ) -> None:
        usual = fallback.absolute().as_uri()
        self._is_usual = section.read is None
        self._read = section.read or usual
        self._write = section.write or usual
        self._settings = settings
        self._cancel = cancel
        self._warn = warn

    @property
    def writable(self) -> bool:
        """Whether signatures can be written."""
        return urlsplit(self._write).scheme == "file"

    def read(self, path: str, digest: Digest) -> Sequence[bytes]:
        """The signatures of a manifest of repository ``path``; none where there are none.

        Raises StorageError, RemoteError, IntegrityError beyond a limit.
        """
        if urlsplit(self._read).scheme == "file":
            directory = _directory(self._read, path, digest)
            return () if self._is_usual and self._is_closed(directory) else _read_files(directory)
        url = _web_address(self._read)
        exchange = Exchange(
            url.origin.netloc,
            self._settings,
            None,
            self._cancel,
            self._warn,
            origin=url.origin,
        )
        try:
            return _read_web(exchange, f"{str(url).rstrip('/')}/{_place(path, digest)}")
        finally:
            exchange.close()

    def _is_closed(self, directory: Path) -> bool:
        """Whether the usual place is another user's, and closed to this one: who is root of a name
        space only has root's places, and not root's rights.  A rule that wants a signature then
        admits nothing."""
        try:
            (directory / "signature-1").lstat()
        except PermissionError:
            self._warn(f"signatures are not looked for: {directory} is another user's")
            return True
        except OSError:
            return False
        return False

    def add(self, path: str, digest: Digest, signatures: Sequence[bytes]) -> None:
        """Add signatures to those of a manifest; what is there already is not written again.

        Other names of the same manifest may be signed there too, so nothing is replaced.  Raises
        UnsupportedError where only reading is possible, StorageError.
        """
        if not self.writable:
            raise UnsupportedError(
                f"signatures are kept at {self._write}, where they cannot be written",
                hint="name a file:// address as lookaside-staging in registries.d",
            )
        directory = _directory(self._write, path, digest)
        there = _read_files(directory)
        new = [data for data in dict.fromkeys(signatures) if data not in there]
        if len(there) + len(new) > MAX_SIGNATURES:
            raise _too_many(directory)
        with _place_errors(f"write signatures to {directory}"):
            directory.mkdir(parents=True, exist_ok=True)
            for number, data in enumerate(new, len(there) + 1):
                replace_file(directory / f"signature-{number}", data)

    def remove(self, path: str, digest: Digest) -> None:
        """Remove the signatures of a manifest that is deleted, where they can be; StorageError."""
        if not self.writable:
            return
        directory = _directory(self._write, path, digest)
        with _place_errors(f"remove signatures from {directory}"):
            # The first one last: without it, the others do not count.
            for number in reversed(range(1, len(_read_files(directory)) + 1)):
                (directory / f"signature-{number}").unlink(missing_ok=True)
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()


class _Read(Protocol):
    def __call__(self, number: int) -> bytes | None: ...


@contextlib.contextmanager
def _place_errors(what: str) -> Iterator[None]:
    """As ``storage_errors``, whose advice is about the store."""
    try:
        with storage_errors(what):
            yield
    except StorageFullError:
        raise
    except StorageError as exc:
        raise StorageError(exc.message, hint="registries.d says where signatures are") from exc


def _place(path: str, digest: Digest) -> str:
    return f"{path}@{digest.algorithm}={digest.hex}"


def _directory(base: str, path: str, digest: Digest) -> Path:
    parts = urlsplit(base)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise InvalidInputError(f"signatures cannot be at {base!r:.300}: it is not file:///PATH")
    return Path(unquote(parts.path)) / _place(path, digest)


def _web_address(base: str) -> Url:
    if urlsplit(base).scheme not in ("http", "https"):
        raise InvalidInputError(
            f"signatures cannot be at {base!r:.300}: it is neither a file, an http nor an https"
            " address"
        )
    return Url.parse(base, "the address of signatures")


def _read_files(directory: Path) -> Sequence[bytes]:
    def read(number: int) -> bytes | None:
        file = directory / f"signature-{number}"
        with _place_errors(f"read {file}"):
            try:
                with open_plain_file(file) as opened:
                    return opened.read(MAX_SIGNATURE_SIZE + 1)
            except (FileNotFoundError, NotADirectoryError):
                return None

    return _read_all(read, str(directory))


def _read_web(exchange: Exchange, base: str) -> Sequence[bytes]:
    def read(number: int) -> bytes | None:
        address = f"{base}/signature-{number}"
        url = Url.parse(address, "the address of signatures")
        response = exchange.request("GET", url, load=Load(MAX_SIGNATURE_SIZE, address))
        if response.status == 404:
            response.discard()
            return None
        if response.status != 200:
            raise exchange.error(exchange.refusal(response), f"the signature {address}")
        return response.body

    return _read_all(read, base)


def _read_all(read: _Read, where: str) -> Sequence[bytes]:
    signatures: list[bytes] = []
    while (data := read(len(signatures) + 1)) is not None:
        if len(signatures) == MAX_SIGNATURES:
            raise _too_many(where)
        if len(data) > MAX_SIGNATURE_SIZE:
            raise IntegrityError(
                f"signature {len(signatures) + 1} in {where} is larger than {MAX_SIGNATURE_SIZE}"
                " bytes"
            )
        signatures.append(data)
    return signatures


def _too_many(where: Path | str) -> IntegrityError:
    return IntegrityError(f"there are more than {MAX_SIGNATURES} signatures in {where}")
