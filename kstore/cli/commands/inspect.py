"""``kstore inspect``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from kstore import strictjson
from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import image_argument, platform_option, registry_options
from kstore.cli.output import write_json
from kstore.cli.session import Session, pass_session
from kstore.errors import InvalidInputError, KstoreError
from kstore.manifest import MAX_CONFIG_SIZE

if TYPE_CHECKING:
    from kstore.app import RegistryOptions
    from kstore.platforms import Platform
    from kstore.store import Store
    from kstore.transports import Transports

__all__ = ["command"]

_KPOD = "kpod-json"
_KINDS = ("all", "container", "image")


@declare(
    "inspect",
    examples=(
        ("kstore inspect busybox", "everything, as a JSON array"),
        ("kstore inspect --format '{{.Id}}' busybox", "the ID alone"),
        ("kstore inspect --format '{{json .Config.Env}}' busybox", "a part, as JSON"),
        ("kstore inspect --size --format '{{.UnpackedSize}}' busybox", "bytes when unpacked"),
        ("kstore inspect --format kpod-json busybox", "the object kpod printed"),
        ("kstore inspect --no-tags docker://busybox", "at the registry, without pulling it"),
        ("kstore inspect --raw oci:layout:v1", "the manifest, byte for byte"),
    ),
)
@image_argument("images", metavar="IMAGE...", nargs=-1, required=True)
@format_option(example="Id", short=("-f",))
@click.option(
    "-t",
    "--type",
    "kind",
    type=click.Choice(_KINDS),
    default="all",
    show_default=True,
    help="What a name means; with all, a container comes before an image",
)
@click.option(
    "-s",
    "--size",
    is_flag=True,
    help="Unpack the layers to tell UnpackedSize; of containers, tell SizeRw",
)
@click.option("--raw", is_flag=True, help="The manifest as it is (an index, if it is one)")
@click.option("--config", is_flag=True, help="The config; as it is, with --raw")
@click.option("-n", "--no-tags", is_flag=True, help="Do not ask for the repository's other tags")
@platform_option
@registry_options
@pass_session
def command(
    session: Session,
    images: tuple[str, ...],
    form: str | None,
    kind: str,
    size: bool,
    raw: bool,
    config: bool,
    no_tags: bool,
    platform: Platform | None,
    registry: RegistryOptions,
) -> None:
    """Show everything about images, and about working containers.

    IMAGE is a name or an ID in the store, also of a container, or TRANSPORT:REFERENCE for an image
    elsewhere, of which only the manifest and the config are fetched.  Prints a JSON array with an
    object for each.  Size is what the image's blobs take in the store, layers as they were
    received; UnpackedSize what its layers hold as tars, where that is known.
    """
    if form == _KPOD and not (raw or config):
        _write_kpod(session, images)
        return
    shape = Form(form)
    if raw or config:
        _require_one(images, form)
    with _Places(session, registry) as places:
        if raw or config:
            _write_document(places, images[0], platform, raw=raw, config=config)
            return
        found = []
        for image in images:
            try:
                found.append(
                    _container(places, image, kind, size=size)
                    or _inspect(session, places, image, platform, tags=not no_tags, size=size)
                )
            except KstoreError as error:
                session.report(error)
    shape.write_list(found)
    session.finish()


def _write_kpod(session: Session, images: tuple[str, ...]) -> None:
    from kstore.operations.inspect import inspect_image
    from kstore.operations.kpod_json import kpod_object

    image = _in_store(images[0])
    if len(images) > 1 or image is None:
        raise InvalidInputError(f"--format {_KPOD} takes one image, of the store")
    with session.open_store("inspect", read_only=True) as store:
        write_json(kpod_object(inspect_image(store, image)))


class _Places(ExitStack):
    """The store and the other places of images, each opened when an image there is asked for."""

    def __init__(self, session: Session, registry: RegistryOptions) -> None:
        super().__init__()
        self._session = session
        self._registry = registry

    @cached_property
    def store(self) -> Store:
        return self.enter_context(self._session.open_store("inspect", read_only=True))

    @cached_property
    def transports(self) -> Transports:
        app = self._session.app
        return self.enter_context(
            app.transports(lambda: self.store, self._registry, self._session.cancel)
        )


def _require_one(images: tuple[str, ...], form: str | None) -> None:
    if len(images) > 1:
        raise InvalidInputError("--raw and --config take one image")
    if form is not None:
        raise InvalidInputError("--raw and --config print a document as it is, without --format")


def _in_store(image: str) -> str | None:
    """The name or ID of an image in the store; None if it is elsewhere."""
    from kstore.transports import STORE_TRANSPORTS, split_transport

    split = split_transport(image)
    if split is None:
        return image
    return split[1] if split[0] in STORE_TRANSPORTS else None


def _container(places: _Places, text: str, kind: str, *, size: bool) -> dict[str, Any] | None:
    """A working container; None where ``text`` means none, or may not mean one."""
    if kind == "image" or _in_store(text) != text:
        return None
    from kstore.operations.inspect_container import find_container, inspect_container

    if kind == "all" and find_container(places.store, text) is None:
        return None
    return inspect_container(places.store, text, measure=size).to_json()


def _inspect(
    session: Session,
    places: _Places,
    image: str,
    platform: Platform | None,
    *,
    tags: bool,
    size: bool,
) -> dict[str, Any]:
    local = _in_store(image)
    if local is not None:
        from kstore.operations.inspect import inspect_image

        shown = inspect_image(
            places.store, local, platform=platform, measure=size, cancel=session.cancel
        ).to_json()
    elif size:
        raise InvalidInputError(f"--size is for what is in the store, and {image} is not")
    else:
        from kstore.operations.remote_inspect import inspect_remote

        shown = inspect_remote(
            places.transports, image, platform=platform, tags=tags, warn=session.warn
        ).to_json()
    _warn_of_platform(session, image, shown, platform)
    return shown


def _warn_of_platform(
    session: Session, image: str, shown: dict[str, Any], wanted: Platform | None
) -> None:
    """Say that there was no choice, where the image is not for the platform that was wanted."""
    if wanted is None:
        return
    has = type(wanted)(shown["Os"], shown["Architecture"], shown["Variant"] or None)
    if not has.suits(wanted):
        session.warn(f"{image} is an image for {has} only")


def _write_document(
    places: _Places, image: str, platform: Platform | None, *, raw: bool, config: bool
) -> None:
    data = (_read_config if config else _read_manifest)(places, image, platform)
    if raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    else:
        write_json(strictjson.loads(data, f"config of {image}", cap=MAX_CONFIG_SIZE))


def _read_manifest(places: _Places, image: str, platform: Platform | None) -> bytes:
    local = _in_store(image)
    if local is not None:
        from kstore.operations.inspect import inspect_image, read_top_manifest

        if platform is None:
            return read_top_manifest(places.store, local).data
        return inspect_image(places.store, local, platform=platform).raw.data
    from kstore.operations.remote_inspect import read_remote_manifest

    return read_remote_manifest(places.transports, image, platform=platform).data


def _read_config(places: _Places, image: str, platform: Platform | None) -> bytes:
    local = _in_store(image)
    if local is not None:
        from kstore.operations.inspect import inspect_image

        config = inspect_image(places.store, local, platform=platform).manifest.config
        return places.store.read_blob(config.digest, cap=MAX_CONFIG_SIZE)
    from kstore.operations.remote_inspect import read_remote_config

    return read_remote_config(places.transports, image, platform=platform)
