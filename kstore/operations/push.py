"""Send an image of the store to a registry."""

from __future__ import annotations

from kstore.compression import Kind
from kstore.copier import CopyOptions
from kstore.copier.progress import ProgressSink, ignore
from kstore.digest import Digest
from kstore.errors import InvalidInputError
from kstore.image import TrustPolicy
from kstore.interfaces import ImageReference
from kstore.operations.carry import carry
from kstore.reference import LOCAL_DOMAIN, Named
from kstore.signing.policy import ACCEPT_ANYTHING
from kstore.signing.signer import Signer
from kstore.store import Store
from kstore.streams import Cancel
from kstore.transports import STORE_TRANSPORTS, Transports, split_transport
from kstore.values import dataclass

__all__ = ["PushOptions", "PushResult", "push_image"]


@dataclass(frozen=True, slots=True)
class PushOptions:
    """``parallel``: blobs moved at once.  ``compression``: of all layers, None for what each one
    has.  ``signers`` sign what is pushed, as ``sign_identity`` (None: as the destination);
    ``with_referrers``: also what is attached to the image, whose digest must not change then;
    ``remove_signatures``: it leaves without those it has; ``policy``: which images are trusted."""

    parallel: int = 6
    compression: Kind | None = None
    signers: tuple[Signer, ...] = ()
    sign_identity: Named | None = None
    with_referrers: bool = False
    remove_signatures: bool = False
    policy: TrustPolicy = ACCEPT_ANYTHING


@dataclass(frozen=True, slots=True)
class PushResult:
    """The manifest's digest, which is the one that was pulled, and where it went."""

    digest: Digest
    destination: str


def push_image(
    store: Store,
    transports: Transports,
    image: str,
    destination: str | None = None,
    options: PushOptions | None = None,
    *,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> PushResult:
    """Push ``image`` (name or ID) to ``destination``, or under its own name.

    Manifest and blobs leave byte for byte as they came, unless another compression is asked for;
    blobs the registry has are not sent.  A name that stands for an index, all of which is in the
    store, is pushed with all its members.
    Raises ImageNotFoundError, InvalidInputError, and what the registry answers.
    """
    options = options or PushOptions()
    source = transports.storage.parse_reference(_in_store(image))
    target = _target(store, transports, source.text, destination)
    how = CopyOptions(
        parallel=options.parallel,
        instances="all",
        compression=options.compression,
        force_compression=options.compression is not None,
        signers=options.signers,
        sign_identity=options.sign_identity,
        remove_signatures=options.remove_signatures,
    )
    result = carry(
        source,
        target,
        options.policy,
        how,
        with_referrers=options.with_referrers,
        progress=progress,
        cancel=cancel,
    )
    where = f"{target.transport}:{target.within_transport}"
    if target.transport == "docker":
        where = str(target.docker_reference)
    return PushResult(result.raw.digest, where)


def _in_store(text: str) -> str:
    split = split_transport(text)
    if split is None:
        return text
    transport, rest = split
    if transport not in STORE_TRANSPORTS:
        raise InvalidInputError(f"{text[:200]!r} is not an image of the store")
    return rest


def _target(
    store: Store, transports: Transports, image: str, destination: str | None
) -> ImageReference:
    if destination is None:
        return transports.docker.reference(_own_name(store, image))
    split = split_transport(destination)
    if split is None:
        return transports.docker.reference(Named.parse(destination))
    if split[0] in STORE_TRANSPORTS:
        raise InvalidInputError(
            f"{destination[:200]!r} is in the store already", hint="kstore tag IMAGE NAME"
        )
    return transports.parse(destination)


def _own_name(store: Store, image: str) -> Named:
    found = store.find_image(image)
    if found.name is None:
        raise InvalidInputError(
            f"image {image!r} was given by ID, so it is not clear where to push it",
            hint="kstore push IMAGE DESTINATION",
        )
    if found.name.domain == LOCAL_DOMAIN:
        raise InvalidInputError(
            f"{found.name} is a local name that belongs to no registry",
            hint=f"kstore push {image} REGISTRY/{str(found.name).removeprefix(LOCAL_DOMAIN + '/')}",
        )
    return found.name
