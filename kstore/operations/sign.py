"""Sign images where they are, and say whether an image is signed as it must be."""

from __future__ import annotations

from collections.abc import Sequence

from kstore.copier import CopyOptions, copy_image
from kstore.copier.selection import Selection, select
from kstore.digest import Digest
from kstore.errors import ImageNotFoundError, InvalidInputError
from kstore.image import TrustPolicy
from kstore.interfaces import ImageReference
from kstore.reference import Named
from kstore.signing.policy import ACCEPT_ANYTHING, FilePolicy
from kstore.signing.signer import Signer
from kstore.streams import Cancel
from kstore.transports import Transports, split_transport
from kstore.transports.storage import StorageReference
from kstore.values import dataclass

__all__ = ["Verdict", "image_reference", "sign_image", "verify_image"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The manifests of an image that is trusted: the index, if there is one, comes first."""

    manifests: tuple[Digest, ...]


def image_reference(transports: Transports, text: str) -> ImageReference:
    """``transport:reference``, or the name or ID of an image of the store."""
    if split_transport(text) is not None:
        return transports.parse(text)
    return transports.storage.parse_reference(text)


def sign_image(
    reference: ImageReference,
    signers: Sequence[Signer],
    identity: Named | None = None,
    *,
    cancel: Cancel | None = None,
) -> tuple[Digest, ...]:
    """Add signatures to an image where it is, as the image ``identity`` (None: as its own name).

    Of an index, every member is signed, too.  The digests that were signed.  Raises
    InvalidInputError without a name to sign, UnsupportedError where no signature can be kept, and
    what the transport and the signers raise.
    """
    if not signers:
        raise InvalidInputError("no key was given to sign with", hint="--sign-by KEY names one")
    options = CopyOptions(instances="all", signers=tuple(signers), sign_identity=identity)
    with reference.open_source() as source:
        signed = _manifests(select(source, ACCEPT_ANYTHING, CopyOptions(instances="all")))
        found = source.reference  # of the store: with the name that it has there
    if not isinstance(found, StorageReference):
        # Onto itself: nothing changes but the signatures, and every transport knows how.
        copy_image(reference, reference, ACCEPT_ANYTHING, options, cancel=cancel)
        return signed
    name = identity or found.named
    if name is None:
        raise InvalidInputError(
            f"image {found.text} was given by ID, so it is not clear as what to sign it",
            hint="--sign-identity NAME says it",
        )
    store = found.home.store
    for digest in signed:
        made = [signer.sign(digest, str(name)).to_bytes() for signer in signers]
        store.add_signatures(digest, made)
    return signed


def verify_image(transports: Transports, reference: ImageReference, policy: TrustPolicy) -> Verdict:
    """Check that ``policy`` admits the image, and every image of an index.

    An image of the store is judged by the rule for the registry that its name is of, unless it was
    given by its ID.  Raises PolicyRejectedError saying why it does not; ImageNotFoundError and the
    like.
    """
    with reference.open_source() as source:
        found = source.reference
        if (
            isinstance(found, StorageReference)
            and isinstance(policy, FilePolicy)
            and found.named is not None
        ):
            policy = policy.rules.as_if_from(transports.docker.reference(found.named))
        selection = select(source, policy, CopyOptions(instances="all"))
    manifests = _manifests(selection)
    if not manifests:
        raise ImageNotFoundError(f"{reference.within_transport} holds no image")
    return Verdict(manifests)


def _manifests(selection: Selection) -> tuple[Digest, ...]:
    top = () if selection.index is None else (selection.index.raw.digest,)
    return (*top, *(image.raw.digest for image in selection.images))
