"""``kstore logout``."""

from __future__ import annotations

from pathlib import Path

import click

from kstore.cli.grammar import declare
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session

__all__ = ["command"]


@declare(
    "logout",
    examples=(
        ("kstore logout quay.io", "forget one registry"),
        ("kstore logout --all", "forget every registry"),
    ),
)
@click.argument("registry", required=False)
@click.option("-a", "--all", "everywhere", is_flag=True, help="Every registry")
@click.option(
    "--authfile",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Credentials file  [env: REGISTRY_AUTH_FILE]",
)
@pass_session
def command(
    session: Session, registry: str | None, everywhere: bool, authfile: Path | None
) -> None:
    """Forget the credentials for a registry.

    REGISTRY is what was given to login: HOST[:PORT][/NAMESPACE]; without it, the first of the
    unqualified-search-registries of registries.conf.
    """
    from kstore.app import RegistryOptions
    from kstore.operations.login import default_registry, log_out

    if registry is None and not everywhere:
        registry = default_registry(session.app.registries.search)
    files = session.app.auth_files(RegistryOptions(authfile=authfile))
    log_out(registry, files, everywhere=everywhere)
    write(f"Removed login credentials for {registry or 'all registries'}")
