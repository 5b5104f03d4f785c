"""``kstore login``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kstore.cli.grammar import declare
from kstore.cli.options import login_options
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.errors import AuthError, InvalidInputError

if TYPE_CHECKING:
    from kstore.app import RegistryOptions
    from kstore.registry import AuthFiles

__all__ = ["command"]


@declare(
    "login",
    examples=(
        ("kstore login quay.io", "asks for user name and password"),
        ("pass show quay | kstore login -u me --password-stdin quay.io", "in a script"),
        ("kstore login --get-login quay.io", "who am I there?"),
    ),
)
@click.argument("registry_name", metavar="[REGISTRY]", required=False)
@click.option("-u", "--username", metavar="NAME", help="User name; asked for if not given")
@click.option("-p", "--password", metavar="PASSWORD", help="Better: --password-stdin")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input")
@click.option("--get-login", is_flag=True, help="Only print the user name that is remembered")
@login_options
@pass_session
def command(
    session: Session,
    registry_name: str | None,
    username: str | None,
    password: str | None,
    password_stdin: bool,
    get_login: bool,
    registry: RegistryOptions,
) -> None:
    """Remember credentials for a registry, after trying them.

    REGISTRY is HOST[:PORT], with /NAMESPACE for credentials of a part of it; without it, the first
    of the unqualified-search-registries of registries.conf.  They are kept where podman keeps them:
    in a file of mode 0600, or with the credential helper that it names.
    """
    from kstore.operations.login import default_registry, log_in, logged_in_as, registry_key
    from kstore.registry import parse_creds

    if registry_name is None:
        registry_name = default_registry(session.app.registries.search)
        session.show(f"the registry is {registry_name}")
    files = session.app.auth_files(registry)
    if get_login:
        write(logged_in_as(registry_name, files))
        return
    if password is not None and password_stdin:
        raise InvalidInputError("give --password or --password-stdin, not both")
    if password is not None and os.isatty(0):
        session.warn("other users can see a password on the command line; use --password-stdin")
    user, secret = _ask_missing(session, files, registry_name, username, password, password_stdin)
    if ":" in user:
        raise InvalidInputError("a user name cannot contain ':'")
    credentials = parse_creds(f"{user}:{secret}")
    settings = session.app.settings_at(registry_key(registry_name), registry)
    result = log_in(registry_name, credentials, files, settings, warn=session.warn)
    place = result.place if isinstance(result.place, Path) else f"docker-credential-{result.place}"
    session.show(f"credentials for {result.registry} are kept in {place}")
    write("Login Succeeded!")


def _ask_missing(
    session: Session,
    files: AuthFiles,
    registry: str,
    username: str | None,
    password: str | None,
    password_stdin: bool,
) -> tuple[str, str]:
    """User name and password; what the command line does not say is asked for."""
    from kstore.cli.prompts import ask, read_secret
    from kstore.operations.login import logged_in_as

    if username is None:
        if password_stdin:
            raise InvalidInputError("--password-stdin needs --username")
        try:
            known: str | None = logged_in_as(registry, files)
        except AuthError:
            known = None
        username = ask("Username", known)
    if not username:
        raise InvalidInputError("no user name was given")
    if password_stdin:
        password = read_secret()
    elif password is None:
        password = session.ask_secret("Password: ")
    if not password:
        raise InvalidInputError("no password was given")
    return username, password
