"""The ``kstore`` program: the command table, the global options, and how a run begins and ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from kstore.cli.failures import exit_code_of
from kstore.cli.grammar import Entry, LazyGroup, PathType
from kstore.cli.interrupts import Interrupts
from kstore.cli.session import LOG_LEVELS, Session, pass_session

__all__ = ["COMMANDS", "COMPLETE_VARIABLE", "cli", "main"]

COMPLETE_VARIABLE = "_KSTORE_COMPLETE"


def _entry(module: str, section: str, summary: str) -> Entry:
    return Entry(f"kstore.cli.commands.{module}", section, summary)


#: Name -> where the command is, and its line in ``kstore --help``; in the help's order.
COMMANDS = {
    "images": _entry("images", "Images", "List the images in the store"),
    "inspect": _entry("inspect", "Images", "Show everything about an image, as JSON"),
    "history": _entry("history", "Images", "Show how an image was made, step by step"),
    "diff": _entry("diff", "Images", "Show which files an image adds, changes and removes"),
    "tree": _entry("tree", "Images", "Draw the layers of an image, and who shares them"),
    "tag": _entry("tag", "Images", "Give an image another name"),
    "untag": _entry("untag", "Images", "Take a name away, keep the image"),
    "log": _entry("log", "Images", "Show what a name pointed to over time"),
    "rmi": _entry("rmi", "Images", "Remove images"),
    "protect": _entry("protect", "Images", "Keep names from being removed"),
    "unprotect": Entry(
        "kstore.cli.commands.protect", "Images", "Let protected names be removed", "unprotect"
    ),
    "import": _entry("import_", "Images", "Make an image from a tar, a directory or a URL"),
    "save": _entry("save", "Images", "Write images of the store to a file or a directory"),
    "load": _entry("load", "Images", "Bring the images of a file or a directory into the store"),
    "pull": _entry("pull", "Registries", "Bring an image from a registry into the store"),
    "push": _entry("push", "Registries", "Send an image from the store to a registry"),
    "copy": _entry("copy", "Registries", "Copy an image from anywhere to anywhere"),
    "sync": _entry("sync", "Registries", "Copy many images, and only those that changed"),
    "search": _entry("search", "Registries", "Find repositories at a registry"),
    "referrers": _entry("referrers", "Registries", "List what is attached to an image"),
    "list-tags": _entry("list_tags", "Registries", "List the tags of a repository"),
    "delete": _entry("delete", "Registries", "Delete an image at a registry, or in a layout"),
    "manifest-digest": _entry(
        "manifest_digest", "Registries", "Print the digest a manifest goes by"
    ),
    "generate-key": _entry("generate_key", "Registries", "Make a pair of keys to sign images with"),
    "login": _entry("login", "Registries", "Remember credentials for a registry"),
    "logout": _entry("logout", "Registries", "Forget credentials for a registry"),
    "serve": _entry("serve", "Registries", "Offer the store's images as a registry"),
    "sign": _entry("sign", "Trust", "Sign an image where it is"),
    "verify": _entry("verify", "Trust", "Check that an image is signed as it must be"),
    "policy": _entry("policy", "Trust", "Show and change which images are trusted"),
    "standalone-sign": _entry("standalone_sign", "Trust", "Sign a manifest in a file"),
    "standalone-verify": _entry(
        "standalone_verify", "Trust", "Check a signature in a file against a manifest in a file"
    ),
    "from": _entry("from_", "Working containers", "Make a working container from an image"),
    "containers": _entry("containers", "Working containers", "List the working containers"),
    "config": _entry("config", "Working containers", "Change a container's settings"),
    "add": _entry("add", "Working containers", "Add files to a container"),
    "commit": _entry("commit", "Working containers", "Make an image of a container"),
    "rm": _entry("rm", "Working containers", "Remove containers"),
    "info": _entry("info", "Store", "Show this machine and the store"),
    "check": _entry("check", "Store", "Verify that the store is intact"),
    "ingest": _entry("ingest", "Store", "List and drop partial downloads"),
    "df": _entry("df", "Store", "Show what takes the space"),
    "prune": _entry("prune", "Store", "Remove what nothing needs any more"),
    "version": _entry("version", "Store", "Show the version of kstore"),
    "completion": _entry("completion", "Store", "Print a shell completion script"),
}


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    invoke_without_command=True,
    options_metavar="[OPTIONS]",
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="'kstore COMMAND --help' explains a command, with examples.",
)
@click.option(
    "--root",
    metavar="DIR",
    type=PathType(path_type=Path, readable=False),  # the store says it better
    help="Where the store is  [env: KSTORE_ROOT]",
)
@click.option(
    "--additional-store",
    "additional_stores",
    metavar="DIR",
    multiple=True,
    type=PathType(path_type=Path, readable=False),  # one that cannot be read is a warning
    help="A read-only store or OCI layout to find images in as well; may be given several times"
    "  [env: KSTORE_ADDITIONAL_STORES]",
)
@click.option(
    "--unsafe-network-fs",
    is_flag=True,
    help="Use a store on a network file system, which one machine at a time may write to",
)
@click.option(
    "--log-level",
    type=click.Choice(LOG_LEVELS),
    default="warn",
    show_default=True,
    help="How much to tell on standard error",
)
@click.option(
    "--offline",
    is_flag=True,
    help="Use no network; fail where it is needed  [env: KSTORE_OFFLINE]",
)
@click.option("--version", is_flag=True, help="Show the version and exit")
@pass_session
def cli(
    session: Session,
    root: Path | None,
    additional_stores: tuple[Path, ...],
    unsafe_network_fs: bool,
    log_level: str,
    offline: bool,
    version: bool,
) -> None:
    """Keep container images on this machine: pull, find, tag, push.  No daemon, no root."""
    session.root = root
    session.additional_stores = additional_stores
    session.network_ok = unsafe_network_fs
    session.log_level = log_level
    session.offline = offline
    context = click.get_current_context()
    if version:
        from kstore import __version__

        click.echo(f"kstore {__version__}")
        context.exit()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line ``args`` (default: the process's own); return the exit code."""
    _prepare_streams()
    if COMPLETE_VARIABLE in os.environ:
        return _complete(os.environ[COMPLETE_VARIABLE])
    session = Session()
    interrupts = Interrupts(lambda: session.cancel.cancel())
    with interrupts.installed():
        try:
            _run(list(sys.argv[1:] if args is None else args), session)
            code = 0
        except BaseException as error:  # noqa: BLE001 - every way a run can end ends here
            code = exit_code_of(error, session, interrupts)
        return _flushed(code, session, interrupts)


def _run(args: list[str], session: Session) -> None:
    # Not cli.main(): it has its own words for interrupts and broken pipes.
    with cli.make_context("kstore", args, obj=session) as context:
        cli.invoke(context)
    sys.stdout.flush()


def _prepare_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed by the parent, as in "kstore ... >&-"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            # A label in a script that the locale cannot write must not end in a traceback.
            stream.reconfigure(errors="backslashreplace")


def _flushed(code: int, session: Session, interrupts: Interrupts) -> int:
    """``code``, after whatever the command printed before it failed has gone out."""
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or exit_code_of(error, session, interrupts)
        # The interpreter flushes once more on its way out; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _complete(instruction: str) -> int:
    from click.shell_completion import shell_complete

    from kstore.cli import shells  # noqa: F401 - registers what differs from click

    return shell_complete(cli, {"obj": Session()}, "kstore", COMPLETE_VARIABLE, instruction)
