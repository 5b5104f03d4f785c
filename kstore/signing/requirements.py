"""What a trust policy can ask of an image.

Source: containers-policy.json(5), "Policy Requirements".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from kstore.blobs import storage_errors
from kstore.errors import KstoreError, PolicyRejectedError
from kstore.image import UnparsedImage
from kstore.signature import Signature, SigstoreSignature, SimpleSignature, parse_signature
from kstore.signing.claim import BadSignatureError, Claim
from kstore.signing.identities import Identity
from kstore.values import dataclass

__all__ = [
    "InsecureAcceptAnything",
    "Keys",
    "Reject",
    "Requirement",
    "SignedBaseLayer",
    "SignedBy",
    "SigstoreSigned",
]

#: Most bytes of a file with public keys.
MAX_KEY_FILE = 4 << 20


class Requirement(Protocol):
    """One requirement; ``str()`` of it is for people.

    ``verifies``: it looks at signatures.  ``type_name`` is its name in the file.
    """

    type_name: ClassVar[str]
    verifies: ClassVar[bool] = False

    def check(self, image: UnparsedImage) -> None:
        """Raise PolicyRejectedError, with a clause that goes on from "because", if the image does
        not meet this."""
        ...

    def check_index(self, image: UnparsedImage) -> None:
        """As :meth:`check`, of an index whose members will each be checked for themselves."""
        return


@dataclass(frozen=True, slots=True)
class InsecureAcceptAnything(Requirement):
    """Met by every image."""

    type_name: ClassVar[str] = "insecureAcceptAnything"

    def check(self, image: UnparsedImage) -> None:
        return None

    def __str__(self) -> str:
        return "accepts any image"


@dataclass(frozen=True, slots=True)
class Reject(Requirement):
    """Met by no image."""

    type_name: ClassVar[str] = "reject"

    def check(self, image: UnparsedImage) -> None:
        raise PolicyRejectedError("such images are rejected")

    def check_index(self, image: UnparsedImage) -> None:
        self.check(image)

    def __str__(self) -> str:
        return "rejects every image"


@dataclass(frozen=True, slots=True)
class Keys:
    """Public keys, in files or in the policy itself (``data``)."""

    paths: tuple[str, ...] = ()
    data: tuple[bytes, ...] = ()

    def read(self) -> Sequence[bytes]:
        """The content of every file; PolicyRejectedError if one cannot be read, or is too large."""
        return (*map(_read_key, self.paths), *self.data)

    def __str__(self) -> str:
        return ", ".join(self.paths) if self.paths else "keys in the policy itself"


def _read_key(path: str) -> bytes:
    try:
        with storage_errors("read a key that the policy names"), Path(path).open("rb") as file:
            data = file.read(MAX_KEY_FILE + 1)
    except KstoreError as exc:
        raise PolicyRejectedError(exc.message) from exc
    except ValueError as exc:
        raise PolicyRejectedError(f"the policy names key {path!r:.200}: {exc}") from exc
    if len(data) > MAX_KEY_FILE:
        raise PolicyRejectedError(f"key {path} has more than {MAX_KEY_FILE} bytes")
    return data


class _ByAnySignature(Requirement, Protocol):
    """Met by an image with one signature that is good, and vouches for it."""

    verifies: ClassVar[bool] = True
    identity: Identity

    def verifier(self) -> Callable[[Signature], Claim | None]:
        """The check of one signature: what it claims; None if it is of a kind that does not count;
        BadSignatureError."""
        ...

    def check(self, image: UnparsedImage) -> None:
        verify = self.verifier()
        reasons = []
        for number, data in enumerate(image.signatures, 1):
            try:
                claim = verify(parse_signature(data, f"signature {number}"))
                if claim is not None:
                    return self._check_claim(image, claim)
            except BadSignatureError as exc:
                reasons.append(f"signature {number} {exc.message}")
            except KstoreError as exc:
                reasons.append(exc.message)
        if not reasons:
            raise PolicyRejectedError("a signature is required, and there is none")
        raise PolicyRejectedError(_few(reasons))

    def _check_claim(self, image: UnparsedImage, claim: Claim) -> None:
        if not image.raw.is_named(claim.manifest_digest):
            raise BadSignatureError(
                f"vouches for manifest {claim.manifest_digest}, not for {image.raw.digest}"
            )
        if not self.identity.matches(image.reference.docker_reference, claim.docker_reference):
            wanted = image.reference.docker_reference or "an image without a docker name"
            raise BadSignatureError(
                f"vouches for {claim.docker_reference!r:.300}, and one {self.identity} is needed,"
                f" for {wanted}"
            )


def _few(reasons: Sequence[str]) -> str:
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return "; ".join(reasons[:3]) + more


@dataclass(frozen=True)
class SignedBy(_ByAnySignature):
    """Met by an image with a simple signature by one of ``keys``.

    ``key_type``: only GPGKeys can be met; the others are known, and refused.
    """

    type_name: ClassVar[str] = "signedBy"
    keys: Keys
    identity: Identity
    key_type: str = "GPGKeys"

    def verifier(self) -> Callable[[Signature], Claim | None]:
        if self.key_type != "GPGKeys":
            raise PolicyRejectedError(f"keys of type {self.key_type} cannot be checked")
        keyring = self._keyring()
        from kstore.signing.gpgv import verify_message
        from kstore.signing.simple import parse_payload

        def verify(signature: Signature) -> Claim | None:
            if not isinstance(signature, SimpleSignature):
                return None
            return parse_payload(verify_message(signature.message, keyring).payload)

        return verify

    def _keyring(self) -> bytes:
        from kstore.signing.openpgp import MalformedError, binary_keys, primary_keys

        try:
            keyring = b"".join(map(binary_keys, self.keys.read()))
            count = len(primary_keys(keyring))
        except MalformedError as exc:
            raise PolicyRejectedError(f"a key of {self.keys} {exc}") from exc
        if not count:
            raise PolicyRejectedError(f"there is no public key in {self.keys}")
        return keyring

    def __str__(self) -> str:
        return f"needs a GPG signature {self.identity} by a key of {self.keys}"


@dataclass(frozen=True)
class SigstoreSigned(_ByAnySignature):
    """Met by an image with a sigstore signature by one of ``keys``.

    ``beyond`` names what else is asked for (a certificate authority, a transparency log), which
    kstore does not check: such a requirement cannot be met.
    """

    type_name: ClassVar[str] = "sigstoreSigned"
    keys: Keys
    identity: Identity
    beyond: str | None = None

    def verifier(self) -> Callable[[Signature], Claim | None]:
        if self.beyond is not None:
            raise PolicyRejectedError(f"the rule needs {self.beyond}, which kstore does not check")
        from kstore.signing.sigstore import verify as verify_sigstore

        public_keys = self.keys.read()

        def verify(signature: Signature) -> Claim | None:
            if not isinstance(signature, SigstoreSignature):
                return None
            return verify_sigstore(signature, public_keys)

        return verify

    def __str__(self) -> str:
        if self.beyond is not None:
            return f"needs {self.beyond}, which kstore does not check: accepts no image"
        return f"needs a sigstore signature {self.identity} by a key of {self.keys}"


@dataclass(frozen=True, slots=True)
class SignedBaseLayer(Requirement):
    """Known, and met by no image: nobody has ever said how it is to be checked."""

    type_name: ClassVar[str] = "signedBaseLayer"
    identity: Identity

    def check(self, image: UnparsedImage) -> None:
        raise PolicyRejectedError("signed base layers cannot be checked")

    def __str__(self) -> str:
        return "needs a signed base layer, which nobody can check: accepts no image"
