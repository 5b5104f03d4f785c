"""``kstore policy``: which images are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import Entry, LazyGroup, PathType, declare
from kstore.cli.output import write, write_table
from kstore.cli.session import Session, pass_session
from kstore.cli.text import printable

if TYPE_CHECKING:
    from kstore.operations.policy import NewRule, RuleOf
    from kstore.signing.policy import FilePolicy
    from kstore.signing.rules import Rule

__all__ = ["change", "command", "show"]

_FIELDS = ("Image", "File", "Section", "Transport", "Scope", "Passed", "Requirements")
_policy_option = click.option(
    "--policy",
    metavar="FILE",
    type=PathType(path_type=Path, dir_okay=False),
    help="The trust policy, if not this machine's policy.json",
)


@click.group(
    "policy",
    cls=LazyGroup,
    table={
        "show": Entry(__name__, "Commands", "Show the rules, or the one of an image", "show"),
        "set": Entry(__name__, "Commands", "Change a rule", "change"),
    },
    examples=(
        ("kstore policy show quay.io/me/app:1", "who may have signed it?"),
        ("kstore policy set --reject default", "nothing, but what other rules allow"),
    ),
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
def command() -> None:
    """Show and change which images are trusted.

    The rules are in ~/.config/containers/policy.json or /etc/containers/policy.json, which podman,
    skopeo and buildah go by, too.  Without such a file, every image is trusted.
    """
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@declare(
    "show",
    examples=(
        ("kstore policy show", "all rules"),
        ("kstore policy show quay.io/me/app:1", "the one of an image at a registry"),
        ("kstore policy show dir:/media/usb/app", "one that is elsewhere"),
        ("kstore policy show --format json docker://quay.io/me/app", "for a program"),
    ),
)
@click.argument("name", metavar="[NAME]", required=False)
@_policy_option
@format_option(_FIELDS)
@pass_session
def show(session: Session, name: str | None, policy: Path | None, form: str | None) -> None:
    """Show the rules of the trust policy, or which of them an image falls under, and why.

    NAME is a name at a registry, or transport:reference.  The rule of the most specific scope is
    the only one that counts; an image has to meet all its requirements.  Without NAME, all rules
    are listed, by the scopes that 'kstore policy set' takes.
    """
    from kstore.app import TrustOptions
    from kstore.signing.policy import FilePolicy

    shape = Form(form, _FIELDS)
    trust = session.app.trust_policy(TrustOptions(policy=policy))
    assert isinstance(trust, FilePolicy), "only --insecure-policy gives another"
    if name is None:
        _show_all(session, trust, shape)
    else:
        _show_one(session, trust, name, shape)


def _show_all(session: Session, trust: FilePolicy, shape: Form) -> None:
    from kstore.operations.policy import scope_text

    rules = trust.rules.every_rule()
    if shape.given:
        shape.write_list([_record(None, rule, ()) for rule in rules])
        return
    file = rules[0].file
    session.show("there is no trust policy" if file is None else f"the trust policy is {file}")
    write_table(
        ("SCOPE", "REQUIREMENTS"),
        [(scope_text(rule), "; ".join(map(str, rule.requirements))) for rule in rules],
    )


def _show_one(session: Session, trust: FilePolicy, name: str, shape: Form) -> None:
    from kstore.operations.policy import rule_of
    from kstore.transports import split_transport

    text = name if split_transport(name) is not None else f"docker://{name}"
    with session.transports("policy show", read_only=True) as transports:
        reference = transports.parse(text)
        found = rule_of(trust, reference)
        image = f"{reference.transport}:{reference.within_transport}"
    if shape.given:
        shape.write_one(_record(image, found.rule, found.passed))
    else:
        write("".join(f"{printable(line)}\n" for line in _lines(image, found)))


@declare(
    "set",
    examples=(
        ("kstore policy set --reject default", "nothing, but what other rules allow"),
        ("kstore policy set --signed-by me.gpg quay.io/me", "what I signed below quay.io/me"),
        ("kstore policy set --accept dir:/media/usb", "a directory, whatever is in it"),
        ("kstore policy set --remove quay.io/me", "the next broader rule counts again"),
    ),
)
@click.argument("scope", metavar="SCOPE")
@click.option("--accept", is_flag=True, help="Trust all images")
@click.option("--reject", is_flag=True, help="Trust no image")
@click.option(
    "--signed-by",
    "gpg_keys",
    metavar="FILE",
    type=PathType(path_type=Path, dir_okay=False),
    multiple=True,
    help="Trust what a GPG key of FILE signed under its own name; may be repeated",
)
@click.option(
    "--sigstore-signed-by",
    "sigstore_keys",
    metavar="FILE",
    type=PathType(path_type=Path, dir_okay=False),
    multiple=True,
    help="The same with a sigstore public key",
)
@click.option("--remove", is_flag=True, help="Have no rule for SCOPE")
@_policy_option
@pass_session
def change(
    session: Session,
    scope: str,
    accept: bool,
    reject: bool,
    gpg_keys: tuple[Path, ...],
    sigstore_keys: tuple[Path, ...],
    remove: bool,
    policy: Path | None,
) -> None:
    """Change the rule for one scope in the trust policy.

    SCOPE is 'default', a registry, a name or the beginning of names there (quay.io/me), or
    TRANSPORT:SCOPE.  The file that is in effect is changed, or made; it is checked before, and the
    other rules stay as they are.
    """
    from kstore.app import TrustOptions
    from kstore.operations.policy import change_policy, is_ours_alone, parse_scope
    from kstore.transports import FACTORIES, validate_policy_scope

    rule = _new_rule(accept, reject, gpg_keys, sigstore_keys, remove)
    files = session.app.policy_files(TrustOptions(policy=policy))
    where = parse_scope(scope, tuple(FACTORIES))
    result = change_policy(files, where, rule, validate_policy_scope)
    what = "made" if result.created else "changed"
    session.show(f"{what} {result.file}")
    if where is not None and is_ours_alone(where) and not remove:
        session.warn(
            f"podman and skopeo refuse a policy with a scope of {where[0]}; they know only"
            f" {where[0]}:, the whole transport"
        )


def _new_rule(
    accept: bool,
    reject: bool,
    gpg_keys: tuple[Path, ...],
    sigstore_keys: tuple[Path, ...],
    remove: bool,
) -> NewRule:
    from kstore.operations.policy import NewRule

    said = [accept, reject, bool(gpg_keys), bool(sigstore_keys), remove]
    if sum(said) != 1:
        raise click.UsageError(
            "just one of --accept, --reject, --signed-by, --sigstore-signed-by and --remove is"
            " needed"
        )
    if accept:
        return NewRule("accept")
    if reject:
        return NewRule("reject")
    if remove:
        return NewRule("remove")
    if gpg_keys:
        return NewRule("signed-by", gpg_keys)
    return NewRule("sigstore-signed-by", sigstore_keys)


def _lines(image: str, found: RuleOf) -> list[str]:
    lines = [f"image  {image}", f"rule   {found.rule}"]
    if found.passed:
        shown = ", ".join(scope or "the whole transport" for scope in found.passed)
        lines.append(f"why    there is none for {shown}")
    return [*lines, *(f"it     {requirement}" for requirement in found.rule.requirements)]


def _record(image: str | None, rule: Rule, passed: Sequence[str]) -> dict[str, Any]:
    return {
        "Image": image,
        "File": None if rule.file is None else str(rule.file),
        "Section": rule.section,
        "Transport": rule.transport,
        "Scope": rule.scope,
        "Passed": list(passed),
        "Requirements": [
            {"Type": requirement.type_name, "Meaning": str(requirement)}
            for requirement in rule.requirements
        ],
    }
