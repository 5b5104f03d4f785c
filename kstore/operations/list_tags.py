"""The tags of a repository, or of the images in a layout or archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kstore.errors import InvalidInputError, UnsupportedError
from kstore.interfaces import ImageReference
from kstore.reference import Named
from kstore.transports import STORE_TRANSPORTS, Transports, split_transport
from kstore.values import dataclass

__all__ = ["TagList", "list_tags"]


@dataclass(frozen=True, slots=True)
class TagList:
    """Tags in the order they are kept in; ``repository`` is None where images have no common one.

    An image without a tag, in a layout or archive, is listed as ``@N``, its place from 0.
    """

    repository: str | None
    tags: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The list with the keys skopeo uses."""
        known = {} if self.repository is None else {"Repository": self.repository}
        return {**known, "Tags": list(self.tags)}


def list_tags(transports: Transports, text: str) -> TagList:
    """The tags at ``text``: ``[docker://]repository``, or ``transport:place`` of a layout or
    archive.

    Raises InvalidInputError if it names one image, UnsupportedError for a transport whose images
    have no tags, and what the transport raises.
    """
    split = split_transport(text)
    if split is None:
        return _of_repository(transports, Named.parse(text))
    if split[0] == "docker":
        transports.parse(text)
        return _of_repository(transports, Named.parse(split[1].removeprefix("//")))
    reference = transports.parse(text)
    lister = _LISTERS.get(reference.transport)
    if lister is None:
        known = ", ".join(("docker", *_LISTERS))
        raise UnsupportedError(
            f"images of transport {reference.transport} have no tags to list (those of {known} do)",
            hint=f"kstore images {split[1][:200]}" if split[0] in STORE_TRANSPORTS else None,
        )
    return TagList(None, tuple(lister(reference)))


def _of_repository(transports: Transports, named: Named) -> TagList:
    if not named.is_bare:
        raise InvalidInputError(
            f"{named} is one image, not a repository",
            hint=f"kstore list-tags docker://{named.repository}",
        )
    client = transports.docker.client(named.domain, named.path)
    return TagList(named.repository, tuple(client.tags(named.path)))


def _of_layout(reference: ImageReference) -> Iterable[str]:
    from kstore.transports.oci import OciReference

    assert isinstance(reference, OciReference)
    _require_whole(reference, reference.path)
    return _placed(ref for _, ref in reference.images())


def _of_oci_archive(reference: ImageReference) -> Iterable[str]:
    from kstore.transports.oci_archive import OciArchiveReference

    assert isinstance(reference, OciArchiveReference)
    _require_whole(reference, reference.path)
    with reference.home.reader(reference.path) as reader:
        return _placed(ref for _, ref in reader.images())


def _of_docker_archive(reference: ImageReference) -> Iterable[str]:
    from kstore.transports.docker_archive import DockerArchiveReference

    assert isinstance(reference, DockerArchiveReference)
    _require_whole(reference, reference.path)
    with reference.home.open_reader(reference.path) as reader:
        return [
            tag
            for image in reader.images
            for tag in map(str, image.names or (f"@{image.position}",))
        ]


def _require_whole(reference: ImageReference, path: str) -> None:
    if reference.within_transport != path:
        raise InvalidInputError(
            f"{reference.transport}:{reference.within_transport} is one image of several",
            hint=f"kstore list-tags {reference.transport}:{path}",
        )


def _placed(refs: Iterable[str | None]) -> list[str]:
    return [f"@{place}" if ref is None else ref for place, ref in enumerate(refs)]


_LISTERS: Mapping[str, Callable[[ImageReference], Iterable[str]]] = {
    "oci": _of_layout,
    "oci-archive": _of_oci_archive,
    "docker-archive": _of_docker_archive,
}
