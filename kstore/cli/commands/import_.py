"""``kstore import``."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kstore.cli.grammar import PathType, declare
from kstore.cli.options import SizeType, platform_option, quiet_option
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.text import human_size
from kstore.errors import InvalidInputError

if TYPE_CHECKING:
    from kstore.platforms import Platform
    from kstore.registry import RegistrySettings

__all__ = ["command"]


@declare(
    "import",
    examples=(
        ("kstore import rootfs.tar base:1", "a tar file as an image"),
        ("kstore import rootfs base", "a directory; its files become root's"),
        ("docker export box | kstore import - box", "through a pipe"),
        ("kstore import https://example.com/rootfs.tar.xz base", "from the web"),
        ("""kstore import -c 'CMD=["/bin/sh"]' -c ENV=LANG=C rootfs.tar base""", "with settings"),
    ),
)
@click.argument("source", metavar="FILE|DIR|URL|-", type=PathType(allow_dash=True))
@click.argument("name", required=False)
@click.option(
    "-c",
    "--change",
    "changes",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR;"
    " may be repeated",
)
@click.option("-m", "--message", metavar="TEXT", help="Comment for the image's history")
@click.option("--preserve-owner", is_flag=True, help="Files of DIR keep their numeric owners")
@click.option(
    "--max-size",
    metavar="SIZE",
    type=SizeType(),
    help="Give up beyond this size of the tar, unpacked (such as 500MB or 2GiB);"
    " 16GiB from a URL if not said otherwise",
)
@click.option(
    "--cert-dir",
    metavar="DIR",
    type=PathType(path_type=Path, file_okay=False, exists=True),
    help="Directory with authorities (*.crt) to trust for a URL as well",
)
@platform_option
@quiet_option("Only the image ID")
@pass_session
def command(
    session: Session,
    source: str,
    name: str | None,
    changes: tuple[str, ...],
    message: str | None,
    preserve_owner: bool,
    max_size: int | None,
    cert_dir: Path | None,
    platform: Platform | None,
    quiet: bool,
) -> None:
    """Make an image of one layer from a tar or a directory.

    The tar is a file, standard input (-), or at an http or https URL; it may be compressed with
    gzip, zstd, xz or bzip2.  No credentials are sent to a URL.  Prints the image ID.  Without
    NAME, the ID is all the image is known by.
    """
    from kstore.cli.meter import metered
    from kstore.operations.import_ import ImportOptions, import_tar, is_url

    if source == "-" and sys.stdin.isatty():
        raise InvalidInputError(
            "standard input is a terminal, not a tar", hint="tar -c . | kstore import - NAME"
        )
    options = ImportOptions(
        changes=changes,
        message=message,
        platform=platform,
        max_size=max_size,
        preserve_owner=preserve_owner,
    )
    session.on_interrupt = "nothing was imported"
    shown = _shown(source)
    with (
        session.open_store("import") as store,
        metered(session, f"importing {shown}", _size(source)) as progress,
    ):
        result = import_tar(
            store,
            source,
            name,
            options,
            stdin=sys.stdin.buffer if source == "-" else None,
            web=_web(session, cert_dir) if is_url(source) else None,
            progress=None if quiet else progress,
            warn=session.warn,
            cancel=session.cancel,
        )
    if not quiet:
        session.show(f"imported {result.name or shown}: {human_size(result.size)}")
    write(result.image_id)


def _shown(source: str) -> str:
    """The source in messages; what follows the path of a URL may be secret."""
    if source == "-":
        return "standard input"
    return source.partition("?")[0] if "://" in source else source


def _web(session: Session, cert_dir: Path | None) -> RegistrySettings:
    from kstore.app import RegistryOptions

    return session.app.registry_settings(RegistryOptions(cert_dir=cert_dir))


def _size(source: str) -> int | None:
    """Bytes of a regular file; None for what has no size, or is not there (which shows later)."""
    try:
        info = Path(source).stat()
    except OSError:
        return None
    return info.st_size or None if stat.S_ISREG(info.st_mode) else None
