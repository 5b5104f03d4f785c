"""Delete an image where it is: at a registry, in a layout, a directory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from kstore.digest import Digest
from kstore.errors import (
    ConflictError,
    InvalidInputError,
    ManifestNotFoundError,
    NotFoundError,
    UnsupportedError,
)
from kstore.reference import Named
from kstore.registry import RegistryClient
from kstore.transports import Transports, split_transport
from kstore.values import dataclass

__all__ = ["DeleteOptions", "Deleted", "delete_image"]

#: Most tags that are asked what they mean; each costs a request.
MAX_TAGS = 5000
_AT_ONCE = 8
_SHOWN = 10
_SWITCH = (
    "docker-registry deletes when REGISTRY_STORAGE_DELETE_ENABLED=true is in its environment;"
    " other registries have a setting of their own"
)


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """``digest``: the manifest itself goes, not a tag alone; ``force``: although other tags go with
    it."""

    digest: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Deleted:
    """What is gone: the names of one image, and its manifest's ``digest`` if that is gone too."""

    names: tuple[str, ...]
    digest: Digest | None = None


def delete_image(
    transports: Transports, text: str, options: DeleteOptions | None = None
) -> Deleted:
    """Delete the image ``text``, a ``transport:reference``.

    At a registry a tag is taken away and the manifest stays; where it cannot do that, or with
    ``options.digest``, the manifest is deleted with every tag on it: more than the one that was
    named are a ConflictError unless ``options.force``.  Raises InvalidInputError without a
    transport, NotFoundError, UnsupportedError where nothing can be deleted.
    """
    options = options or DeleteOptions()
    if not text:
        raise InvalidInputError("the image name is empty")
    split = split_transport(text)
    if split is None:
        raise InvalidInputError(
            f"{text[:200]!r} does not say where to delete",
            hint=f"kstore delete docker://{text[:200]}, or for the store: kstore rmi {text[:200]}",
        )
    reference = transports.parse(text)
    if reference.transport == "docker":
        named = Named.parse(split[1].removeprefix("//"))
        client = transports.docker.client(named.domain, named.path)
        return _AtRegistry(client, named).delete(options)
    reference.delete()
    return Deleted((text,))


class _AtRegistry:
    """One image of a registry, about to be deleted."""

    def __init__(self, client: RegistryClient, named: Named) -> None:
        self._client = client
        self._named = named
        self._path = named.path

    def delete(self, options: DeleteOptions) -> Deleted:
        named = self._named
        if named.digest is not None:
            return self._delete_manifest(named.digest, options)
        if named.tag is None:
            raise InvalidInputError(
                f"{named} is a repository, and images are deleted one by one",
                hint=f"kstore list-tags docker://{named}",
            )
        digest = self._meaning(named.tag)
        if digest is None:
            raise ManifestNotFoundError(f"{named.domain} has no manifest {self._path}:{named.tag}")
        if not options.digest and self._client.delete_tag(self._path, named.tag):
            return Deleted((str(named),))
        return self._delete_manifest(digest, options)

    def _delete_manifest(self, digest: Digest, options: DeleteOptions) -> Deleted:
        tags = self._tags_of(digest)
        others = [tag for tag in tags if tag != self._named.tag]
        if others and not options.force:
            raise ConflictError(
                f"deleting manifest {digest} of {self._named.repository} would also delete"
                f" {_listed(others)}",
                hint="--force deletes all of them",
            )
        try:
            self._client.delete_manifest(self._path, digest)
        except UnsupportedError as exc:
            raise UnsupportedError(exc.message, hint=_SWITCH) from exc
        return Deleted(tuple(str(self._named.with_tag(tag)) for tag in tags), digest)

    def _tags_of(self, digest: Digest) -> Sequence[str]:
        """The tags of the repository that mean ``digest``."""
        tags = []
        try:
            for tag in self._client.tags(self._path):
                tags.append(tag)
                if len(tags) > MAX_TAGS:
                    raise UnsupportedError(
                        f"{self._named.repository} has more than {MAX_TAGS} tags, too many to ask"
                        f" which of them mean {digest}"
                    )
        except NotFoundError as exc:
            if self._named.tag is None:
                return ()
            raise NotFoundError(  # there is one tag at least
                f"{self._named.domain} does not tell the tags of {self._path}, so which others of"
                f" them mean {digest} is unknown"
            ) from exc
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            meanings = list(pool.map(self._meaning, tags))
        return [tag for tag, meaning in zip(tags, meanings, strict=True) if meaning == digest]

    def _meaning(self, tag: str) -> Digest | None:
        found = self._client.head_manifest(self._path, tag)
        return None if found is None else found.digest


def _listed(tags: Sequence[str]) -> str:
    rest = f" and {len(tags) - _SHOWN} more" if len(tags) > _SHOWN else ""
    noun = "the tag" if len(tags) == 1 else "the tags"
    return f"{noun} {', '.join(tags[:_SHOWN])}{rest}"
