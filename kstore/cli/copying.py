"""What ``copy`` and ``sync`` have in common: how images are to be copied, between which places."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kstore.cli.options import CompressionType, PlatformType, remove_signatures_option
from kstore.cli.session import Session

if TYPE_CHECKING:
    from kstore.app import RegistryOptions
    from kstore.compression import Kind
    from kstore.copier import CopyOptions, Instances
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

_OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "everything": click.option(
        "-a", "--all", "everything", is_flag=True, help="An index with all its images"
    ),
    "index_only": click.option("--index-only", is_flag=True, help="An index without its images"),
    "platforms": click.option(
        "--platform",
        "platforms",
        type=PlatformType(),
        metavar="OS/ARCH[/VARIANT]",
        multiple=True,
        help="Which image of an index, if not this machine's; several: these, under a new index",
    ),
    "sparse": click.option(
        "--sparse", is_flag=True, help="With --platform: under the index as it is, gaps and all"
    ),
    "family": click.option(
        "--format",
        "family",
        type=click.Choice(("oci", "docker", "v2s2")),
        help="What manifests shall be (v2s2 is docker); without it they stay as they are, if the"
        " destination can",
    ),
    "compress": click.option(
        "--compress",
        type=CompressionType(),
        metavar="KIND[:LEVEL]",
        help="Compress plain layers: gzip (1 to 9) or zstd (1 to 22); none unpacks all layers",
    ),
    "force_compress": click.option(
        "--force-compress", is_flag=True, help="With --compress: also what is compressed otherwise"
    ),
    "preserve_digests": click.option(
        "--preserve-digests", is_flag=True, help="Fail if a manifest had to change"
    ),
    "remove_signatures": remove_signatures_option,
}


def copy_options(*, without: Collection[str] = ()) -> Callable[[F], F]:
    """How an image is to be copied: gives the command ``options``, a CopyOptions.

    ``without``: parameters of it that the command does not offer.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def with_options(*args: Any, **kwargs: Any) -> Any:
            said = {name: kwargs.pop(name) for name in _OPTIONS if name not in without}
            return function(*args, options=_options(**said), **kwargs)

        decorated: Any = with_options
        for name, option in reversed(list(_OPTIONS.items())):
            if name not in without:
                decorated = option(decorated)
        result: F = decorated
        return result

    return decorate


def _options(
    *,
    everything: bool = False,
    index_only: bool = False,
    platforms: tuple[Platform, ...] = (),
    sparse: bool = False,
    family: str | None = None,
    compress: tuple[Kind, int | None] | None = None,
    force_compress: bool = False,
    preserve_digests: bool = False,
    remove_signatures: bool = False,
) -> CopyOptions:
    from kstore.copier import CopyOptions

    if everything + index_only + bool(platforms) > 1:
        raise click.UsageError("only one of --all, --index-only and --platform can be meant")
    if sparse and not platforms:
        raise click.UsageError("--sparse says how --platform is meant, which is missing")
    if force_compress and compress is None:
        raise click.UsageError("--force-compress says how --compress is meant, which is missing")
    kind, level = compress or (None, None)
    several = len(platforms) > 1 or sparse
    return CopyOptions(
        instances=_instances(everything, index_only, several),
        platform=platforms[0] if platforms and not several else None,
        platforms=platforms if several else (),
        sparse=sparse,
        manifest_type=_manifest_type(family),
        compression=kind,
        compression_level=level,
        force_compression=force_compress,
        preserve_digests=preserve_digests,
        remove_signatures=remove_signatures,
    )


def _manifest_type(family: str | None) -> str | None:
    from kstore import mediatypes as mt

    if family is None:
        return None
    return mt.OCI_MANIFEST if family == "oci" else mt.DOCKER_MANIFEST


def _instances(everything: bool, index_only: bool, several: bool) -> Instances:
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
    create: bool = True,
) -> Iterator[tuple[Transports, Transports]]:
    """The transports of the source and of the destination of ``command``.

    They are the same where ``registries`` makes no difference between the two sides.
    """
    source, destination = registries

    def opened(registry: RegistryOptions) -> Transports:
        return stack.enter_context(
            session.transports(command, registry, read_only=read_only, create=create)
        )

    with ExitStack() as stack:
        first = opened(source)
        second = first if destination is source else opened(destination)
        yield first, second
