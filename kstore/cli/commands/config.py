"""``kstore config``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from kstore.cli.grammar import declare
from kstore.cli.options import container_argument
from kstore.cli.session import Session, pass_session

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])


def _texts(flag: str, name: str, metavar: str, text: str, *short: str) -> Callable[[F], F]:
    return click.option(*short, flag, name, metavar=metavar, multiple=True, help=text)


@declare(
    "config",
    examples=(
        ("kstore config --env LANG=C --cmd 'httpd -f' box", "an environment variable, a command"),
        ("""kstore config --entrypoint '["/init"]' box""", "exactly these words"),
        ("kstore config --label keep- --env LANG- --user '' box", "away with them"),
        ("kstore config --port 80 --port 53/udp --volume /data box", "ports and volumes"),
    ),
)
@container_argument()
@click.option("--author", metavar="TEXT", help="Who made it")
@click.option("--cmd", metavar="COMMAND", help="What runs: words, or a JSON array")
@click.option(
    "--entrypoint",
    metavar="COMMAND",
    help="What always runs: a JSON array, or a shell command; unsets --cmd",
)
@_texts("--env", "env", "NAME=VALUE", "Environment variable; NAME- unsets it", "-e")
@_texts("--label", "labels", "NAME=VALUE", "Label; NAME- unsets it", "-l")
@_texts("--annotation", "annotations", "NAME=VALUE", "Annotation; NAME- unsets it", "-a")
@_texts("--port", "ports", "PORT[/PROTOCOL]", "Exposed port; PORT- unsets it", "-p")
@_texts("--volume", "volumes", "PATH", "Volume; PATH- unsets it", "-v")
@_texts("--unset-env", "unset_env", "NAME", "The same as --env NAME-")
@_texts("--unset-label", "unset_label", "NAME", "The same as --label NAME-")
@_texts("--unset-annotation", "unset_annotation", "NAME", "The same as --annotation NAME-")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Who runs it")
@click.option("--workingdir", "work_dir", metavar="PATH", help="Where it runs")
@click.option("--os", metavar="OS", help="Operating system, such as linux")
@click.option("--arch", metavar="ARCH", help="Architecture, such as amd64")
@click.option("--stop-signal", metavar="SIGNAL", help="What asks it to stop")
@click.option("--created-by", metavar="TEXT", help="For the history: what made the new layer")
@click.option("--history-comment", "comment", metavar="TEXT", help="For the history: a comment")
@pass_session
def command(
    session: Session,
    /,
    container: str,
    unset_env: tuple[str, ...],
    unset_label: tuple[str, ...],
    unset_annotation: tuple[str, ...],
    **settings: Any,
) -> None:
    """Change the settings that CONTAINER, a name or an ID, will have as an image.

    Options that stand for lists may be repeated, and a lone - takes everything away; an empty text
    takes any other setting away.
    """
    from kstore.operations.configure import ConfigEdits, configure_container

    for name, unset in (
        ("env", unset_env),
        ("labels", unset_label),
        ("annotations", unset_annotation),
    ):
        settings[name] = (*(f"{text}-" for text in unset), *settings[name])
    edits = ConfigEdits(**settings)
    if edits == ConfigEdits():
        raise click.UsageError("say what to change", click.get_current_context())
    with session.open_store("config", create=False) as store:
        configure_container(store, container, edits)
