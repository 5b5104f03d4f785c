"""The API of kpod's ``images`` package, by its own names, over this project's operations.

Where kpod took a store or a system context, the first parameter is an open
:class:`~kstore.store.Store`, and the second, where the network may be needed, an
:class:`~kstore.app.App`::

    from kstore import images

    with app.open_store("example") as store:
        image = images.find_image(store, "busybox")
        rows = images.get_images_matching_filter(store, images.parse_filter(store, "label=a=b"))

Everything raises :class:`kstore.errors.KstoreError` and nothing else.  What was wrong in the
original is right here; ``contrib/docs/seeds.md`` tells where each of its names went, and how what
it does differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final

from kstore.errors import InvalidInputError
from kstore.mediatypes import OCI_MANIFEST
from kstore.operations.kpod_texts import (
    NO_NAME,
    formatted_size,
    matches_id,
    matches_reference,
    parse_image_names,
)
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.app import App, RegistryOptions, SigningOptions, TrustOptions
    from kstore.compression import Kind
    from kstore.copier.progress import ProgressSink
    from kstore.digest import Digest
    from kstore.image import Image, ImageInspectInfo, TrustPolicy
    from kstore.operations.copy_data import CopyData
    from kstore.operations.copy_ref import CopyRef
    from kstore.operations.filters import ImageFilter
    from kstore.operations.images import ImageSummary
    from kstore.operations.kpod_json import Data
    from kstore.operations.push import PushResult
    from kstore.store import ImageRecord, Store

__all__ = [
    "DEFAULT_REGISTRY",
    "DOCKER_ARCHIVE",
    "NO_NAME",
    "OCI_ARCHIVE",
    "OCI_V1_IMAGE_MANIFEST",
    "PACKAGE",
    "CopyData",
    "CopyOptions",
    "CopyRef",
    "Data",
    "FilterParams",
    "find_image",
    "find_image_ref",
    "formatted_size",
    "get_container_copy_data",
    "get_data",
    "get_image_copy_data",
    "get_images_matching_filter",
    "import_copy_data_from_image",
    "info_and_digest_and_size",
    "matches_id",
    "matches_reference",
    "parse_filter",
    "parse_image_names",
    "pull_image",
    "push_image",
    "remove_image",
    "untag_image",
]

#: The name of the program that makes the descriptions of containers.
PACKAGE: Final = "kstore"
#: The media type of manifests that :meth:`CopyData.make_image_ref` makes unless told otherwise.
OCI_V1_IMAGE_MANIFEST: Final = OCI_MANIFEST
#: The transport of image names that do not say any.
DEFAULT_REGISTRY: Final = "docker://"
#: The transport of files as ``docker save`` writes them.
DOCKER_ARCHIVE: Final = "docker-archive"
#: The transport of files that hold an OCI image layout.
OCI_ARCHIVE: Final = "oci-archive"


#: Classes whose modules are imported when they are first used: importing this one stays cheap.
_HOMES: Final = {
    "CopyData": "kstore.operations.copy_data",
    "CopyRef": "kstore.operations.copy_ref",
    "Data": "kstore.operations.kpod_json",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What there is to use, whether it was loaded already or not."""
    return list(__all__)


# ---- finding


def find_image(store: Store, text: str) -> ImageRecord:
    """The image that a name or an ID means; see :meth:`kstore.store.Store.find_image`.

    Raises ImageNotFoundError, AmbiguousNameError, InvalidReferenceError.
    """
    return store.find_image(text).image


def find_image_ref(store: Store, text: str, policy: TrustPolicy | None = None) -> Image:
    """The image that a name or an ID means, opened; to be closed by the caller.

    ``policy`` None: whatever is in the store is accepted.  Raises what :func:`find_image` does,
    PolicyRejectedError, StoreDamagedError.
    """
    return _open(store, find_image(store, text), policy)


def _open(store: Store, image: ImageRecord, policy: TrustPolicy | None = None) -> Image:
    from kstore.image import open_image
    from kstore.signing.policy import AcceptAnything
    from kstore.transports.storage import StorageTransport

    reference = StorageTransport(store).parse_reference(f"@{image.id}")
    return open_image(reference, policy or AcceptAnything())


@dataclass(frozen=True, slots=True)
class FilterParams:
    """Filters for :func:`get_images_matching_filter`, made by :func:`parse_filter`.

    ``texts`` are those it was made of; images that they name were looked up then.
    """

    texts: tuple[str, ...]
    filters: tuple[ImageFilter, ...] = field(repr=False, compare=False)


def parse_filter(store: Store, text: str | Sequence[str]) -> FilterParams:
    """Parse ``key=value`` or ``key!=value`` texts, all of which must hold.

    One text may hold several, separated by commas.  The keys are those of
    :mod:`kstore.operations.filters`.  Raises InvalidInputError naming what is wrong;
    ImageNotFoundError and AmbiguousNameError for the image of ``before`` and ``since``.
    """
    from kstore.operations.filters import parse_filters

    texts = (text,) if isinstance(text, str) else tuple(text)
    return FilterParams(texts, parse_filters(store, texts))


def get_images_matching_filter(
    store: Store, params: FilterParams | None = None, argument: str = ""
) -> list[ImageSummary]:
    """One row for each image and name that the filters and ``argument`` choose, newest image first.

    Both must hold; ``argument`` is one as :func:`matches_reference` takes it, empty for any name.
    An image without a name is a row whose ``name`` is None.  Raises InvalidInputError for an
    argument that can mean no name.
    """
    from kstore.operations.filters import reference_filter
    from kstore.operations.images import list_chosen

    chosen = () if params is None else params.filters
    return list_chosen(store, (*chosen, reference_filter(argument)) if argument else chosen)


def info_and_digest_and_size(
    store: Store, image: ImageRecord
) -> tuple[ImageInspectInfo, Digest, int]:
    """A few facts about an image; the digest of its manifest; the bytes its blobs take.

    Raises StoreDamagedError, InvalidManifestError.
    """
    with _open(store, image) as opened:
        return opened.inspect(), opened.raw.digest, image.size


def get_data(store: Store, name: str) -> Data:
    """Everything kpod told about the image that a name or an ID means.

    Raises what :func:`find_image` does, StoreDamagedError, InvalidManifestError.
    """
    from kstore.operations.inspect import inspect_image
    from kstore.operations.kpod_json import kpod_data

    return kpod_data(inspect_image(store, name))


# ---- removing


def untag_image(store: Store, image: ImageRecord, argument: str) -> str:
    """Take one name of an image away, the one ``argument`` means; that name.

    See :func:`kstore.operations.untag.untag_name_of`.
    """
    from kstore.operations.untag import untag_name_of

    return str(untag_name_of(store, image, argument))


def remove_image(store: Store, image: ImageRecord) -> str:
    """Remove an image with all its names, and what only it needed; its ID.

    Raises InUseError if containers were made from it, ImageNotFoundError if it is gone already.
    """
    store.remove_image(image.id, all_names=True)
    return image.id


# ---- moving


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """How images are pulled and pushed; the defaults change nothing about them.

    ``compression``: of all layers that are pushed; None for what each one has.
    ``report``: called with every event of the transfer, unless ``quiet``.
    ``registry``: how registries are reached, with which credentials.
    ``trust``: another policy than this machine's, which is what counts otherwise.
    ``signing``: with which keys to sign what is pushed.
    ``remove_signatures``: push without the signatures it has.
    """

    compression: Kind | None = None
    report: ProgressSink | None = None
    registry: RegistryOptions | None = None
    trust: TrustOptions | None = None
    signing: SigningOptions | None = None
    remove_signatures: bool = False
    quiet: bool = False

    @property
    def sink(self) -> ProgressSink:
        """What events go to."""
        from kstore.copier.progress import ignore

        return ignore if self.quiet or self.report is None else self.report


def pull_image(
    store: Store,
    app: App,
    name: str,
    all_tags: bool = False,
    options: CopyOptions | None = None,
) -> tuple[ImageRecord, ...]:
    """Bring ``name`` into the store; the images that were brought.

    A name is pulled from its registry (:data:`DEFAULT_REGISTRY` may stand before it), with
    ``all_tags`` every tag of the repository; ``TRANSPORT:REFERENCE`` says where else an image is.
    See :func:`kstore.operations.bring.bring_images` for what comes from where, under which names,
    and for what is raised.
    """
    from kstore.app import TrustOptions
    from kstore.operations.bring import bring_images

    options = options or CopyOptions()
    policy = app.trust_policy(options.trust or TrustOptions())
    with app.transports(store, options.registry) as transports:
        return bring_images(
            store, transports, name, all_tags=all_tags, policy=policy, progress=options.sink
        )


def push_image(
    store: Store, app: App, source: str, destination: str, options: CopyOptions | None = None
) -> PushResult:
    """Push an image of the store, by name or ID, to ``destination``: ``TRANSPORT:REFERENCE``, or
    a name at a registry.

    See :func:`kstore.operations.push.push_image`; what nobody asked to change arrives byte for
    byte.  Raises InvalidInputError if either text is empty.
    """
    from kstore.app import SigningOptions, TrustOptions
    from kstore.operations.push import PushOptions
    from kstore.operations.push import push_image as push

    if not source or not destination:
        raise InvalidInputError("say which image to push, and where to")
    options = options or CopyOptions()
    signing = options.signing or SigningOptions()
    wanted = PushOptions(
        compression=options.compression,
        signers=app.signers(signing),
        sign_identity=signing.image_name,
        remove_signatures=options.remove_signatures,
        policy=app.trust_policy(options.trust or TrustOptions()),
    )
    with app.transports(store, options.registry) as transports:
        return push(store, transports, source, destination, wanted, progress=options.sink)


# ---- images to come


def get_container_copy_data(store: Store, name: str) -> CopyData:
    """The settings of a working container, by name or ID.

    Raises InvalidInputError without a name, NotFoundError, AmbiguousNameError, StoreDamagedError if
    its description is gone, IntegrityError if it makes no sense.
    """
    from kstore.operations.copy_data import CopyData

    if not name:
        raise InvalidInputError("say which container is meant", hint="kstore containers")
    return CopyData.of_container(store, store.containers.find(name))


def get_image_copy_data(store: Store, image: str) -> CopyData:
    """The settings of an image, by name or ID; they cannot be saved.

    Raises InvalidInputError without a name, what :func:`find_image` does, StoreDamagedError.
    """
    from kstore.operations.copy_data import CopyData

    if not image:
        raise InvalidInputError("say which image is meant", hint="kstore images")
    return CopyData.of_image(store, store.find_image(image))


def import_copy_data_from_image(
    store: Store, image_id: str, container: str | None = None
) -> CopyData:
    """The settings of the image with exactly this ID, empty for one without anything.

    ``container``: a working container, by name or ID, that they shall be saved in, and whose files
    the image to come has.  Raises ImageNotFoundError, NotFoundError, StoreDamagedError.
    """
    from kstore.operations.copy_data import CopyData
    from kstore.store import Found

    home = store.containers.find(container) if container else None
    if not image_id:
        return CopyData.of_scratch(store, home)
    image = store.image(image_id.removeprefix("sha256:"))
    return CopyData.of_image(store, Found(image, None, image.manifests[0]), home)
