"""The docker reference grammar, and its normal form.

``[domain/]path[:tag][@digest]``.  Everything here is pure text work; no network, no store.

Source: the grammar comment of the distribution project's reference package, as implemented by
docker and podman; ASCII only, anchored at both ends.
"""

from __future__ import annotations

import re
from dataclasses import replace

from kstore.digest import Digest
from kstore.errors import InvalidDigestError, InvalidReferenceError
from kstore.values import dataclass

__all__ = [
    "DEFAULT_DOMAIN",
    "DEFAULT_TAG",
    "LOCAL_DOMAIN",
    "MAX_NAME_LENGTH",
    "Named",
    "has_domain",
    "is_tag",
]

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
#: The domain of names that were made here and belong to no registry.
LOCAL_DOMAIN = "localhost"
MAX_NAME_LENGTH = 255

_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?", re.ASCII)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_HEX_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SHOWN = 120
_MAX_TEXT = 1024  # name, tag and digest together stay below 600


@dataclass(frozen=True, slots=True)
class Named:
    """A normalised image name: ``domain/path``, perhaps with a tag, a digest, or both.

    The domain is always explicit (``docker.io`` included), so equal names are equal objects; names
    sort as their texts do.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        if _DOMAIN.fullmatch(self.domain) is None:
            raise InvalidReferenceError(f"{_show(self.domain)} is not a registry host[:port]")
        if _PATH.fullmatch(self.path) is None:
            raise _bad_path(self.path, self.path)
        if _split_domain(self.repository, DEFAULT_DOMAIN) != (self.domain, self.path):
            raise InvalidReferenceError(
                f"{_show(self.repository)} is not a full repository name: it would be read as"
                f" {_show('/'.join(_split_domain(self.repository, DEFAULT_DOMAIN)))}"
            )
        if len(self.repository) > MAX_NAME_LENGTH:
            raise InvalidReferenceError(
                f"repository name {_show(self.repository)} is longer than {MAX_NAME_LENGTH}"
            )
        if self.tag is not None and _TAG.fullmatch(self.tag) is None:
            raise InvalidReferenceError(
                f"{_show(self.tag)} is not a tag (a letter, digit or '_', then up to 127 of"
                " letters, digits, '_', '.', '-')"
            )

    @classmethod
    def parse(cls, text: str, *, default_domain: str = DEFAULT_DOMAIN) -> Named:
        """Parse what a user writes; a name without a domain gets ``default_domain``.

        ``busybox`` becomes ``docker.io/library/busybox``.  No tag is added: see
        :meth:`with_default_tag`.  Raises InvalidReferenceError saying what is wrong.
        """
        if not text:
            raise InvalidReferenceError("the image name is empty")
        if len(text) > _MAX_TEXT:
            raise InvalidReferenceError(f"image name {_show(text)} is {len(text)} characters long")
        if "://" in text:
            raise InvalidReferenceError(
                f"{_show(text)} is not an image name: it has a transport prefix"
            )
        rest, digest = _cut_digest(text)
        rest, tag = _cut_tag(rest)
        if not rest:
            raise InvalidReferenceError(f"{_show(text)} has no repository name")
        if tag is None and digest is None and _HEX_ID.fullmatch(rest):
            raise InvalidReferenceError(
                f"{_show(text)} is 64 hex digits, which is an image ID and cannot be a name"
            )
        domain, path = _split_domain(rest, default_domain)
        if _PATH.fullmatch(path) is None:
            raise _bad_path(path, rest)
        return cls(domain, path, tag, digest)

    @property
    def repository(self) -> str:
        """``domain/path``, without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def is_bare(self) -> bool:
        """Whether there is neither a tag nor a digest."""
        return self.tag is None and self.digest is None

    def with_default_tag(self) -> Named:
        """This name, with ``:latest`` if it has neither tag nor digest."""
        return replace(self, tag=DEFAULT_TAG) if self.is_bare else self

    def with_tag(self, tag: str) -> Named:
        """The same repository under ``tag``, without digest."""
        return Named(self.domain, self.path, tag)

    def with_digest(self, digest: Digest) -> Named:
        """The same repository under ``digest``, without tag."""
        return Named(self.domain, self.path, None, digest)

    def without_tag_and_digest(self) -> Named:
        """The repository alone."""
        return Named(self.domain, self.path)

    @property
    def familiar(self) -> str:
        """The shortest form that parses back to this name (docker.io and library/ dropped)."""
        text = str(self)
        if self.domain == DEFAULT_DOMAIN:
            text = text.removeprefix(f"{DEFAULT_DOMAIN}/")
            short = text.removeprefix(_OFFICIAL)
            if "/" not in short:
                text = short
        try:
            return text if Named.parse(text) == self else str(self)
        except InvalidReferenceError:
            return str(self)  # e.g. 64 hex digits, which need their domain to be a name

    def __lt__(self, other: Named) -> bool:
        return str(self) < str(other)

    def __str__(self) -> str:
        text = self.repository
        if self.tag is not None:
            text += f":{self.tag}"
        if self.digest is not None:
            text += f"@{self.digest}"
        return text


def has_domain(text: str) -> bool:
    """Whether a name as the user wrote it says which registry it means.

    The part before the first ``/`` is a domain only if it contains ``.`` or ``:`` or is
    ``localhost``; a name without it is a *short name*.
    """
    first, slash, _ = text.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == LOCAL_DOMAIN)


def is_tag(text: str) -> bool:
    """Whether ``text`` follows the tag grammar."""
    return _TAG.fullmatch(text) is not None


def _cut_digest(text: str) -> tuple[str, Digest | None]:
    rest, at, digest_text = text.partition("@")
    if not at:
        return rest, None
    try:
        return rest, Digest.parse(digest_text)
    except InvalidDigestError as exc:
        raise InvalidReferenceError(f"{_show(text)} has a bad digest: {exc}") from exc


def _cut_tag(text: str) -> tuple[str, str | None]:
    head, slash, last = text.rpartition("/")
    name, colon, tag = last.partition(":")
    if not colon:
        return text, None
    if _TAG.fullmatch(tag) is None:
        raise InvalidReferenceError(
            f"{_show(text)} has a bad tag {_show(tag)} (a letter, digit or '_', then up to 127 of"
            " letters, digits, '_', '.', '-')"
        )
    return head + slash + name, tag


def _split_domain(rest: str, default_domain: str) -> tuple[str, str]:
    if has_domain(rest):
        domain, _, path = rest.partition("/")
    else:
        domain, path = default_domain, rest
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path


def _bad_path(path: str, shown: str) -> InvalidReferenceError:
    if path.lower() != path and _PATH.fullmatch(path.lower()):
        return InvalidReferenceError(f"repository name {_show(shown)} must be lower case")
    return InvalidReferenceError(
        f"{_show(shown)} is not a repository name (lower-case letters and digits, joined by '.',"
        " '_', '__' or '-', in components separated by '/')"
    )


def _show(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
