"""What signs a manifest that is about to be written; each kind of signature has its own."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Protocol

from kstore.digest import Digest
from kstore.signature import Signature, SignatureKind

__all__ = ["Signer"]


class Signer(Protocol):
    """A key that is ready to sign: whatever can be wrong with it was found out before."""

    kind: ClassVar[SignatureKind]

    @abstractmethod
    def sign(self, manifest_digest: Digest, docker_reference: str) -> Signature:
        """Vouch that the manifest with this digest is the image of this name."""
