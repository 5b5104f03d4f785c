"""What ``copy`` and ``sync`` have in common: how images are to be copied, between which places."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kstore.cli.options import CompressionType, PlatformType
from kstore.cli.session import Session

if TYPE_CHECKING:
    from kstore.app import RegistryOptions
    from kstore.compression import Kind
    from kstore.platforms import Platform
    from kstore.transports import Transports

__all__ = ["both_transports", "copy_options", "retry_option"]

F = TypeVar("F", bound=Callable[..., Any])

retry_option = click.option(
    "--retry",
    "retries",
    type=click.IntRange(0, 100),
    default=0,
    metavar="N",
    help="Try N times more when the network fails, after pauses that grow",
)

_OPTIONS = (
    click.option("-a", "--all", "everything", is_flag=True, help="An index with all its images"),
    click.option("--index-only", is_flag=True, help="An index without its images"),
    click.option(
        "--platform",
        "platforms",
        type=PlatformType(),
        metavar="OS/ARCH[/VARIANT]",
        multiple=True,
        help="Which image of an index, if not this machine's; several: these, under a new index",
    ),
    click.option(
        "--sparse", is_flag=True, help="With --platform: under the index as it is, gaps and all"
    ),
    click.option(
        "--format",
        "family",
        type=click.Choice(("oci", "docker")),
        help="What manifests shall be; without it they stay as they are, if the destination can",
    ),
    click.option(
        "--compress",
        type=CompressionType(),
        metavar="KIND[:LEVEL]",
        help="Compress plain layers: gzip (1 to 9) or zstd (1 to 22); none unpacks all layers",
    ),
    click.option(
        "--force-compress", is_flag=True, help="With --compress: also what is compressed otherwise"
    ),
    click.option("--preserve-digests", is_flag=True, help="Fail if a manifest had to change"),
    click.option("--remove-signatures", is_flag=True, help="Leave the signatures behind"),
)


def copy_options(function: F) -> F:
    """How an image is to be copied: gives the command ``options``, a CopyOptions."""

    @functools.wraps(function)
    def with_options(
        *args: Any,
        everything: bool,
        index_only: bool,
        platforms: tuple[Platform, ...],
        sparse: bool,
        family: str | None,
        compress: tuple[Kind, int | None] | None,
        force_compress: bool,
        preserve_digests: bool,
        remove_signatures: bool,
        **kwargs: Any,
    ) -> Any:
        from kstore import mediatypes as mt
        from kstore.copier import CopyOptions

        if everything + index_only + bool(platforms) > 1:
            raise click.UsageError("--all, --index-only and --platform exclude each other")
        if sparse and not platforms:
            raise click.UsageError("--sparse says what --platform does, which is missing")
        if force_compress and compress is None:
            raise click.UsageError("--force-compress says what --compress does, which is missing")
        kind, level = compress or (None, None)
        several = len(platforms) > 1 or sparse
        said = CopyOptions(
            instances=_instances(everything, index_only, several),
            platform=platforms[0] if platforms and not several else None,
            platforms=platforms if several else (),
            sparse=sparse,
            manifest_type={"oci": mt.OCI_MANIFEST, "docker": mt.DOCKER_MANIFEST}.get(family or ""),
            compression=kind,
            compression_level=level,
            force_compression=force_compress,
            preserve_digests=preserve_digests,
            remove_signatures=remove_signatures,
        )
        return function(*args, options=said, **kwargs)

    decorated: Any = with_options
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    result: F = decorated
    return result


def _instances(everything: bool, index_only: bool, several: bool) -> Any:
    if everything:
        return "all"
    if index_only:
        return "index-only"
    return "platforms" if several else "system"


@contextmanager
def both_transports(
    session: Session,
    command: str,
    registries: tuple[RegistryOptions, RegistryOptions],
    *,
    read_only: bool = False,
) -> Iterator[tuple[Transports, Transports]]:
    """The transports of the source and of the destination of ``command``.

    They are the same where ``registries`` makes no difference between the two sides.
    """
    source, destination = registries
    with ExitStack() as stack:
        first = stack.enter_context(session.transports(command, source, read_only=read_only))
        second = first
        if destination is not source:
            second = stack.enter_context(
                session.transports(command, destination, read_only=read_only)
            )
        yield first, second
