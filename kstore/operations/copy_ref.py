"""An image that does not exist yet, as a reference that can be copied from.

What it is made of is settled when the reference is made: the layers of an image of the store, the
files of a working container, settings.  Opening it finds out the rest, such as which digests new
layers have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from kstore.errors import InvalidReferenceError, UnsupportedError
from kstore.image import Image, TrustPolicy, open_image
from kstore.interfaces import ImageDestination, ImageReference, ImageSource
from kstore.operations.copy_source import CopySource, Recipe
from kstore.reference import Named
from kstore.signing.policy import AcceptAnything
from kstore.store import Store
from kstore.values import dataclass

__all__ = ["CopyRef"]


@dataclass(frozen=True, slots=True)
class CopyRef(ImageReference):
    """The image that a recipe makes; only to be read from.

    ``names`` are those it shall have, the first being the one it is known by.
    """

    store: Store = field(repr=False, compare=False)
    recipe: Recipe
    names: tuple[str, ...] = ()

    @property
    def transport(self) -> str:
        return "kstore"

    @property
    def within_transport(self) -> str:
        """The first name as it was given, ``""`` without any.  What the store has under it is
        another image, so this is no text that parses back."""
        return self.names[0] if self.names else ""

    @property
    def docker_reference(self) -> Named | None:
        """The first name, if it is given in its full form; else None."""
        try:
            named = Named.parse(self.within_transport)
        except InvalidReferenceError:
            return None
        return named if str(named) == self.within_transport else None

    @property
    def policy_identity(self) -> str:
        return ""

    @property
    def policy_namespaces(self) -> Sequence[str]:
        return ()

    def open_image(self, policy: TrustPolicy | None = None) -> Image:
        """The image, parsed; to be closed by the caller.  ``policy`` None: any is accepted, for it
        is made here.  Raises what :meth:`open_source` does."""
        return open_image(self, policy or AcceptAnything())

    def open_source(self) -> ImageSource:
        """Make the image.

        Raises UnsupportedError for a manifest type or compression that images cannot have,
        NotFoundError for a layer that the base does not have, ImageNotFoundError or NotFoundError
        if the base or the container is gone by now, DigestMismatchError, StorageError.
        """
        return CopySource(self, self.store, self.recipe)

    def open_destination(self) -> ImageDestination:
        """Refused: UnsupportedError."""
        raise UnsupportedError(
            "an image to be copied can only be read from",
            hint="kstore commit CONTAINER NAME makes an image of a container",
        )

    def delete(self) -> None:
        """Nothing to do: it was never there."""
