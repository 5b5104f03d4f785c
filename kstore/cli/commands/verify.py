"""``kstore verify``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kstore.cli.grammar import PathType, declare
from kstore.cli.options import image_argument, registry_options
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.signing import attachments_option

if TYPE_CHECKING:
    from kstore.app import RegistryOptions

__all__ = ["command"]


@declare(
    "verify",
    examples=(
        ("kstore verify docker://quay.io/me/app:1", "as this machine's trust policy wants it"),
        ("kstore verify --key me.gpg app:1", "an image of the store, by keys of one's own"),
    ),
)
@image_argument()
@click.option(
    "--key",
    "keys",
    metavar="FILE",
    type=PathType(path_type=Path, dir_okay=False),
    multiple=True,
    help="Accept a signature by a key of FILE, which are public keys of GnuPG or one of sigstore,"
    " whatever the policy says (implies --sigstore-attachments); may be repeated",
)
@click.option(
    "--policy",
    metavar="FILE",
    type=PathType(path_type=Path, dir_okay=False),
    help="Trust policy to go by, instead of this machine's policy.json",
)
@registry_options
@attachments_option
@pass_session
def command(
    session: Session,
    image: str,
    keys: tuple[Path, ...],
    policy: Path | None,
    registry: RegistryOptions,
) -> None:
    """Check that an image is signed as it must be.

    IMAGE is a name or an ID of the store, or transport:reference.  A name of the store is judged by
    the rule for its registry.  A rule of the policy that looks at no signature is not enough.
    Every image of an index is checked.  Prints the digests that are good; the exit code is 7 if
    one is not.
    """
    from kstore.app import TrustOptions
    from kstore.operations.sign import image_reference, verify_image
    from kstore.vouching import key_policy

    if keys and policy is not None:
        raise click.UsageError("--key takes the place of a policy, so --policy says nothing")
    if keys:
        trust = key_policy(keys)
        if registry.attachments is None:
            registry = replace(registry, attachments=True)
    else:
        trust = session.app.trust_policy(TrustOptions(policy=policy, require_signed=True))
    with session.transports("verify", registry, read_only=True) as transports:
        verdict = verify_image(transports, image_reference(transports, image), trust)
    for digest in verdict.manifests:
        write(str(digest))
