"""Every error kstore raises, grouped by what the caller can do about it.

::

    KstoreError                         1   any other failure
    |-- InvalidInputError               2   say it differently
    |   |-- InvalidReferenceError           a name, tag, digest or transport:reference
    |   `-- InvalidDigestError              an "algorithm:hex" text
    |-- NotFoundError                   3   ask for something else
    |   |-- ImageNotFoundError              no such image in the store
    |   |-- ManifestNotFoundError           a source has no such manifest
    |   |-- BlobNotFoundError               a source has no such blob
    |   `-- PlatformNotFoundError           an index without the wanted platform
    |-- ConflictError                   4   choose, force, or wait
    |   |-- AmbiguousNameError              several images match
    |   `-- InUseError                      something still needs it
    |-- IntegrityError                  5   the bytes are not what they claim to be
    |   |-- DigestMismatchError
    |   |-- SizeMismatchError
    |   `-- InvalidManifestError            a manifest, index or config that cannot be trusted
    |-- UnsupportedError                6   kstore or the other side cannot do this
    |   `-- ManifestRejectedError           a destination refused this manifest type
    |-- PolicyRejectedError             7   the trust policy forbids it
    |-- RemoteError                     8   the network or a registry failed
    |   `-- RemoteTimeoutError              it was silent, or too slow, for too long
    |-- AuthError                       9   credentials are missing, wrong or not enough
    |-- StorageError                   10   disk full, permission, damaged store
    |   |-- StorageFullError
    |   |-- StoreDamagedError
    |   `-- StoreVersionError               written by a newer kstore
    `-- CancelledError                130   the user said stop

The message is one sentence that names the object and the cause; ``hint``, where there is one, is
the next command to try.  Credentials never appear in either.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AmbiguousNameError",
    "AuthError",
    "BlobNotFoundError",
    "CancelledError",
    "ConflictError",
    "DigestMismatchError",
    "ImageNotFoundError",
    "InUseError",
    "IntegrityError",
    "InvalidDigestError",
    "InvalidInputError",
    "InvalidManifestError",
    "InvalidReferenceError",
    "KstoreError",
    "ManifestNotFoundError",
    "ManifestRejectedError",
    "NotFoundError",
    "PlatformNotFoundError",
    "PolicyRejectedError",
    "RemoteError",
    "RemoteTimeoutError",
    "SizeMismatchError",
    "StorageError",
    "StorageFullError",
    "StoreDamagedError",
    "StoreVersionError",
    "UnsupportedError",
]

#: The hint where the store is damaged.
REPAIR = "kstore check --repair"


class KstoreError(Exception):
    """Root of all errors of this package.

    ``exit_code`` is the status a command line program should end with.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInputError(KstoreError):
    """The caller's own words are wrong."""

    exit_code = 2


class InvalidReferenceError(InvalidInputError):
    """A name, tag or transport:reference that does not follow the grammar."""


class InvalidDigestError(InvalidInputError):
    """A digest text that does not follow the grammar or names an unknown algorithm."""


class NotFoundError(KstoreError):
    """What was asked for does not exist."""

    exit_code = 3


class ImageNotFoundError(NotFoundError):
    """No image in the store answers to this name or ID."""


class ManifestNotFoundError(NotFoundError):
    """A source has no manifest under this tag or digest."""


class BlobNotFoundError(NotFoundError):
    """A source has no blob with this digest."""


class PlatformNotFoundError(NotFoundError):
    """An index has no image for the wanted platform; the message lists those it has."""


class ConflictError(KstoreError):
    """The request is clear, but the present state stands in its way."""

    exit_code = 4


class AmbiguousNameError(ConflictError):
    """Several images match where one is needed."""


class InUseError(ConflictError):
    """Something still needs the object."""


class IntegrityError(KstoreError):
    """Bytes are not what their name or description says."""

    exit_code = 5


class DigestMismatchError(IntegrityError):
    """Bytes do not hash to the digest they were asked for by."""


class SizeMismatchError(IntegrityError):
    """More or fewer bytes than the descriptor declares."""


class InvalidManifestError(IntegrityError):
    """A manifest, index or config that is malformed, ambiguous or beyond the limits."""


class UnsupportedError(KstoreError):
    """kstore, or the other side, does not know how to do this."""

    exit_code = 6


class ManifestRejectedError(UnsupportedError):
    """A destination does not accept this manifest type; another type may do."""


class PolicyRejectedError(KstoreError):
    """The trust policy does not admit this image."""

    exit_code = 7


class RemoteError(KstoreError):
    """The network or a registry failed.

    ``status`` is the HTTP status where there was an answer, ``retryable`` says whether the same
    request may succeed later.
    """

    exit_code = 8

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retryable = retryable


class RemoteTimeoutError(RemoteError):
    """The other side was silent, or slower than the minimum speed, for too long."""


class AuthError(KstoreError):
    """Credentials are missing, wrong, or not sufficient."""

    exit_code = 9


class StorageError(KstoreError):
    """The local store or disk failed."""

    exit_code = 10


class StorageFullError(StorageError):
    """No space, inodes or quota left."""


class StoreDamagedError(StorageError):
    """The store is not in the state its records describe."""


class StoreVersionError(StorageError):
    """The store was written by a newer kstore."""


class CancelledError(KstoreError):
    """The user, or a sibling's failure, asked to stop."""

    exit_code = 130
