"""``docker-daemon:``: images of a running Docker (or podman) service.

The service knows only whole archives, so every copy moves the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

from kstore.digest import Digest
from kstore.errors import (
    InvalidDigestError,
    InvalidInputError,
    InvalidReferenceError,
    UnsupportedError,
)
from kstore.formats.archive import open_archive
from kstore.formats.docker_tar import choose_image
from kstore.interfaces import ImageDestination, ImageReference, ImageSource, ImageTransport
from kstore.reference import Named
from kstore.streams import Cancel
from kstore.transports.base import name_scopes
from kstore.transports.docker_api import DockerApi
from kstore.transports.docker_archive import DockerArchiveReader, DockerArchiveSource
from kstore.transports.docker_archive_writer import DockerArchiveWriter
from kstore.transports.docker_endpoint import DockerDaemonSettings
from kstore.values import dataclass

__all__ = ["NAME", "DockerDaemonReference", "DockerDaemonTransport"]

NAME = "docker-daemon"


class DockerDaemonTransport(ImageTransport):
    """Reaches one daemon; images on their way from it are spooled in ``spool_dir``."""

    def __init__(
        self,
        settings: DockerDaemonSettings | None = None,
        *,
        spool_dir: Path,
        cancel: Cancel | None = None,
    ) -> None:
        self.settings = settings or DockerDaemonSettings()
        self.spool_dir = spool_dir
        self.cancel = cancel or Cancel()

    @property
    def name(self) -> str:
        return NAME

    def parse_reference(self, text: str) -> DockerDaemonReference:
        """Parse ``name:tag``, or an image ID (``sha256:`` and 64 digits, or the digits alone)."""
        image_id = _image_id(text)
        if image_id is not None:
            return DockerDaemonReference(None, image_id, self)
        named = Named.parse(text)
        if named.digest is not None:
            raise InvalidReferenceError(
                f"{NAME} reference {text!r:.200} has a digest; the daemon is asked by tag or ID"
            )
        if named.tag is None:
            raise InvalidReferenceError(
                f"{NAME} reference {text!r:.200} has no tag", hint=f"{NAME}:{named.familiar}:latest"
            )
        return DockerDaemonReference(named, None, self)

    def validate_policy_scope(self, scope: str) -> None:
        if not scope or scope.startswith("/") or "://" in scope:
            raise InvalidInputError(f"policy scope {scope!r:.200} cannot match an image name")

    def api(self) -> DockerApi:
        """The daemon; nothing is sent yet."""
        return DockerApi(self.settings, self.cancel)

    def open_writer(self) -> DockerArchiveWriter:
        """Begin to give images to the daemon, several in one go.  Raises RemoteError if there is
        none."""
        api = self.api()
        return DockerArchiveWriter(api.load(), NAME, api.endpoint.text)


def _image_id(text: str) -> Digest | None:
    if text.startswith("sha256:") or (len(text) == _ID_LENGTH and ":" not in text):
        try:
            return Digest("sha256", text.removeprefix("sha256:"))
        except InvalidDigestError as exc:
            if text.startswith("sha256:"):
                raise InvalidReferenceError(f"{text!r:.200} is not an image ID: {exc}") from exc
    return None


_ID_LENGTH = 64


@dataclass(frozen=True, slots=True)
class DockerDaemonReference(ImageReference):
    """An image of the daemon, by name and tag or by ID."""

    named: Named | None
    image_id: Digest | None
    home: DockerDaemonTransport = field(repr=False, compare=False)

    @property
    def transport(self) -> str:
        return NAME

    @property
    def within_transport(self) -> str:
        return str(self.named or self.image_id)

    @property
    def docker_reference(self) -> Named | None:
        return self.named

    @property
    def policy_identity(self) -> str:
        return self.within_transport

    @property
    def policy_namespaces(self) -> Sequence[str]:
        return name_scopes(self.named) if self.named else ()

    def open_source(self) -> ImageSource:
        api, home = self.home.api(), self.home
        what = f"what {api.what} sent"
        with api.save(self.within_transport) as stream:
            archive = open_archive(stream, spool_dir=home.spool_dir, what=what, cancel=home.cancel)
        reader = DockerArchiveReader(archive, home.cancel)
        try:
            image = choose_image(reader.images, what, None, None)
            return DockerArchiveSource(self, reader, image, owned=True)
        except BaseException:
            reader.close()
            raise

    def open_destination(self) -> ImageDestination:
        if self.named is None:
            raise InvalidReferenceError(
                f"{self.within_transport} cannot be written to: give a name and a tag"
            )
        return self.home.open_writer().only_image(self, (self.named,))

    def delete(self) -> None:
        raise UnsupportedError(
            f"image {self.within_transport} is the docker daemon's own to delete",
            hint=f"docker rmi {self.within_transport}",
        )
