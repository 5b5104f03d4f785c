"""Content digests: the only way bytes are named.

Source: OCI image specification 1.1, ``descriptor.md``, section "Digests".
"""

from __future__ import annotations

import hashlib
import re
from typing import Protocol

from kstore.errors import InvalidDigestError
from kstore.values import dataclass

__all__ = ["ALGORITHMS", "SHORT_ID_LENGTH", "Digest", "Hasher"]

#: Registered algorithms and the length of their lower-case hex form.
ALGORITHMS: dict[str, int] = {"sha256": 64, "sha384": 96, "sha512": 128}

#: Hex digits shown where a full ID would be noise.
SHORT_ID_LENGTH = 12

# ASCII classes and \Z: "$" would accept a trailing newline, which must never reach a path or a log.
_SHAPE = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]+\Z", re.ASCII)
_LOWER_HEX = re.compile(r"[0-9a-f]+\Z", re.ASCII)
_SHOWN = 100


class Hasher(Protocol):
    """What :mod:`hashlib` objects offer and this package uses."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """See more bytes."""

    def hexdigest(self) -> str:
        """The digest of all bytes seen so far."""
        ...


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """``algorithm:hex``, validated; safe to use in a path or URL.

    Build one with :meth:`parse` (text from outside), :meth:`of` (bytes at hand) or
    :meth:`from_hasher` (bytes that streamed by).
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        length = _hex_length(self.algorithm)
        if len(self.hex) != length:
            raise InvalidDigestError(
                f"digest {f'{self.algorithm}:{self.hex}'[:_SHOWN]!r} needs {length} hex digits,"
                f" not {len(self.hex)}"
            )
        if _LOWER_HEX.match(self.hex) is None:
            raise InvalidDigestError(
                f"digest {f'{self.algorithm}:{self.hex}'[:_SHOWN]!r} is not lower-case hex"
            )

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse ``algorithm:hex``.

        Raises InvalidDigestError naming what is wrong: the shape, the algorithm, the length or
        upper-case digits.
        """
        if not isinstance(text, str) or _SHAPE.match(text) is None:
            raise InvalidDigestError(f"{str(text)[:_SHOWN]!r} is not a digest (algorithm:hex)")
        algorithm, _, hex_part = text.partition(":")
        return cls(algorithm, hex_part)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
        """The digest of ``data``."""
        hasher = cls.new_hasher(algorithm)
        hasher.update(data)
        return cls.from_hasher(hasher, algorithm)

    @classmethod
    def from_hasher(cls, hasher: Hasher, algorithm: str = "sha256") -> Digest:
        """The digest of all bytes ``hasher`` has seen."""
        return cls(algorithm, hasher.hexdigest())

    @staticmethod
    def new_hasher(algorithm: str = "sha256") -> Hasher:
        """A fresh hasher for ``algorithm``; InvalidDigestError when it is unknown."""
        _hex_length(algorithm)
        return hashlib.new(algorithm, usedforsecurity=True)

    @property
    def short(self) -> str:
        """The first 12 hex digits, for display only."""
        return self.hex[:SHORT_ID_LENGTH]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def _hex_length(algorithm: str) -> int:
    length = ALGORITHMS.get(algorithm)
    if length is None:
        known = ", ".join(ALGORITHMS)
        raise InvalidDigestError(
            f"digest algorithm {algorithm[:_SHOWN]!r} is not supported (known: {known})"
        )
    return length
