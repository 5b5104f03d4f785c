"""``kstore logout``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kstore.cli.grammar import declare
from kstore.cli.options import authfile_options
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.errors import AuthError, StorageError

if TYPE_CHECKING:
    from kstore.app import RegistryOptions

__all__ = ["command"]


@declare(
    "logout",
    examples=(
        ("kstore logout quay.io", "forget one registry"),
        ("kstore logout --all", "forget every registry"),
    ),
)
@click.argument("registry_name", metavar="[REGISTRY]", required=False)
@click.option("-a", "--all", "everywhere", is_flag=True, help="Every registry")
@authfile_options
@pass_session
def command(
    session: Session, registry_name: str | None, everywhere: bool, registry: RegistryOptions
) -> None:
    """Forget the credentials for a registry.

    REGISTRY is what was given to login: HOST[:PORT][/NAMESPACE]; without it, the first of the
    unqualified-search-registries of registries.conf.
    """
    from kstore.operations.login import default_registry, log_out, logged_in_as

    if registry_name is None and not everywhere:
        registry_name = default_registry(session.app.registries.search)
    files = session.app.auth_files(registry)
    log_out(registry_name, files, everywhere=everywhere)
    write(f"Removed login credentials for {registry_name or 'all registries'}")
    if registry_name is None:
        return
    try:
        user = logged_in_as(registry_name, files)
    except AuthError:
        return
    except StorageError as error:  # of a file that was not changed
        session.warn(f"it is not known whether there are more: {error}")
    else:
        session.warn(f"{registry_name} still has credentials, of {user}, in another place")
