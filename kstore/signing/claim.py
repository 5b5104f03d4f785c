"""What a signature says once it is known to be good, and how a bad one is reported."""

from __future__ import annotations

from kstore.digest import Digest
from kstore.errors import PolicyRejectedError
from kstore.values import dataclass

__all__ = ["BadSignatureError", "Claim"]


@dataclass(frozen=True, slots=True)
class Claim:
    """What the signer vouches for: that the manifest with this digest is the image of this name.

    ``docker_reference`` is the name as signed, and may be anything at all: a matcher of
    ``signing.identities`` decides whether it is the wanted image.
    """

    docker_reference: str
    manifest_digest: Digest


class BadSignatureError(PolicyRejectedError):
    """One signature that is not good, or vouches for something else; another one may do.

    The message is a clause that goes on from "signature N": "was made by ...", "is expired".
    Private to ``signing``: a policy turns those of all signatures into one PolicyRejectedError.
    """
