"""Something attached to an image, and what is asked of the places where images have such things."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Protocol

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.interfaces import ImageReference
from kstore.values import dataclass

__all__ = ["Attached", "Place"]


@dataclass(frozen=True, slots=True)
class Attached:
    """Something attached to a manifest: a referrer, which says so itself, or what cosign attached
    by nothing but its ``tag``."""

    subject: Digest
    descriptor: Descriptor
    tag: str | None = None

    @property
    def kind(self) -> str | None:
        """The artifact type; for an attachment without one, what cosign calls it."""
        if self.tag is not None:
            return f"cosign {self.tag.rpartition('.')[2]}"
        return self.descriptor.artifact_type

    @property
    def is_signature(self) -> bool:
        """Whether it holds cosign's signatures of its subject."""
        return self.tag is not None and self.tag.endswith(".sig")


class Place(Protocol):
    """An image somewhere, with what is attached to it.

    ``reference`` is the image, to be read or written while the place is open.
    """

    reference: ImageReference
    #: Whether signatures attached by cosign come with the image already.
    signatures_travel: bool = False
    #: Whether the index that an image was chosen from is remembered with it.
    remembers_index: bool = False

    @abstractmethod
    def subjects(self) -> tuple[Digest, ...]:
        """The manifests the image's name stands for, likeliest first."""

    @abstractmethod
    def attached(self, subject: Digest) -> Iterator[Attached]:
        """What is attached to a manifest; the same one may come twice."""

    @abstractmethod
    def holds(self, attached: Attached) -> bool:
        """Whether this referrer is here, and known as one of its subject."""

    @abstractmethod
    def tagged(self, tag: str) -> Digest | None:
        """What stands under a tag here, beside the image."""

    @abstractmethod
    def source(self, attached: Attached) -> ImageReference:
        """Where it is read."""

    @abstractmethod
    def target(self, attached: Attached) -> ImageReference:
        """Where it is written, beside the image."""
