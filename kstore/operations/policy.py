"""Show and change which images are trusted."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from kstore.blobs import replace_file
from kstore.errors import ConflictError, InvalidInputError, NotFoundError, StorageError
from kstore.formats.spool import file_errors
from kstore.interfaces import ImageReference
from kstore.signing.policy import FilePolicy, read_policy_file
from kstore.signing.policyfile import ScopeCheck, load_policy, read_policy
from kstore.signing.requirements import Keys
from kstore.signing.rules import Rule
from kstore.values import dataclass

__all__ = [
    "NewRule",
    "PolicyChange",
    "RuleOf",
    "change_policy",
    "is_ours_alone",
    "parse_scope",
    "rule_of",
    "scope_text",
]

_DEFAULT = "default"
_FRESH = {"default": [{"type": "insecureAcceptAnything"}]}
_INDENT = re.compile(r"^\{\n?([ \t]+)\"", re.MULTILINE)

Verb = Literal["accept", "reject", "signed-by", "sigstore-signed-by", "remove"]


@dataclass(frozen=True, slots=True)
class RuleOf:
    """The rule of an image; ``passed`` are the more specific scopes that have none."""

    rule: Rule
    passed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewRule:
    """What is to hold for a scope; ``keys`` are files with public keys."""

    verb: Verb
    keys: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """The file that was written; ``created``: it was not there before."""

    file: Path
    created: bool


def rule_of(policy: FilePolicy, reference: ImageReference) -> RuleOf:
    """Which rule is the image's; InvalidInputError for a policy that is not in order."""
    rule = policy.rules.rule(reference)
    scopes = (reference.policy_identity, *reference.policy_namespaces, "")
    if rule.section == "transport" and rule.scope is not None:
        return RuleOf(rule, scopes[: scopes.index(rule.scope)])
    return RuleOf(rule, scopes if rule.file is not None else ())


def scope_text(rule: Rule) -> str:
    """What :func:`parse_scope` makes the rule's scope of."""
    return _DEFAULT if rule.scope is None else f"{rule.transport}:{rule.scope}"


def parse_scope(text: str, transports: Sequence[str]) -> tuple[str, str] | None:
    """Transport and scope of ``TRANSPORT:SCOPE``; a scope alone is docker's; None for ``default``.

    ``transports`` are the names that are known.
    """
    if text == _DEFAULT:
        return None
    name, colon, scope = text.partition(":")
    if colon and name in transports:
        return name, scope.removeprefix("//") if name == "docker" else scope
    return "docker", text


def is_ours_alone(scope: tuple[str, str]) -> bool:
    """Whether others refuse a whole file for such a scope, which kstore knows."""
    transport, name = scope
    return transport == "docker-archive" and name != ""


def change_policy(
    files: Sequence[Path],
    scope: tuple[str, str] | None,
    rule: NewRule,
    check_scope: ScopeCheck,
) -> PolicyChange:
    """Change one rule in the first of ``files`` that is there, or in a new file in its place.

    The result is checked before it takes the old one's place, in one step.  Raises
    InvalidInputError, NotFoundError for a rule to remove that is not there, ConflictError if the
    file changes meanwhile, StorageError.
    """
    file, data = _present(files)
    document = load_policy(data, str(file)) if data is not None else json.loads(json.dumps(_FRESH))
    read_policy(document, str(file))
    if scope is not None and scope[1]:
        check_scope(*scope)
    _apply(document, scope, rule)
    read_policy(document, str(file))
    text = json.dumps(document, indent=_indent(data), ensure_ascii=False) + "\n"
    if read_policy_file(file) != data:
        raise ConflictError(
            f"the trust policy {file} was changed by somebody else meanwhile, and was left alone",
            hint="run the command again",
        )
    target = file.resolve()
    try:
        with file_errors(f"write the trust policy {file}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            mode = target.stat().st_mode & 0o777 if data is not None else 0o644
            replace_file(target, text.encode(), mode=mode)
    except StorageError as exc:
        if file != files[0]:  # the machine's, of whose rules a new one would have none
            exc.hint = f"install -D {file} {files[0]} makes one of your own, which counts instead"
        raise
    return PolicyChange(file, created=data is None)


def _present(files: Sequence[Path]) -> tuple[Path, bytes | None]:
    for file in files:
        data = read_policy_file(file)
        if data is not None:
            return file, data
    return files[0], None


def _apply(document: dict[str, Any], scope: tuple[str, str] | None, rule: NewRule) -> None:
    if scope is None:
        if rule.verb == "remove":
            raise InvalidInputError("every policy has a default, which cannot be removed")
        document[_DEFAULT] = [_requirement(rule)]
        return
    transport, name = scope
    if rule.verb != "remove":
        transports = document.setdefault("transports", {})
        transports.setdefault(transport, {})[name] = [_requirement(rule)]
        return
    scopes = document.get("transports", {}).get(transport, {})
    if name not in scopes:
        raise NotFoundError(f"there is no rule for {transport}:{name}")
    del scopes[name]
    if not scopes:
        del document["transports"][transport]


def _requirement(rule: NewRule) -> dict[str, Any]:
    if rule.verb == "accept":
        return {"type": "insecureAcceptAnything"}
    if rule.verb == "reject":
        return {"type": "reject"}
    if not rule.keys:
        raise InvalidInputError("no file with public keys was given")
    paths = [str(path.absolute()) for path in rule.keys]
    keys = {"keyPath": paths[0]} if len(paths) == 1 else {"keyPaths": paths}
    if rule.verb == "sigstore-signed-by":
        Keys(tuple(paths)).read()
        return {"type": "sigstoreSigned", **keys}
    _check_gpg_keys(paths)
    return {"type": "signedBy", "keyType": "GPGKeys", **keys}


def _check_gpg_keys(paths: Sequence[str]) -> None:
    from kstore.signing.openpgp import MalformedError, binary_keys, primary_keys

    for path, data in zip(paths, Keys(tuple(paths)).read(), strict=True):
        try:
            found = primary_keys(binary_keys(data))
        except MalformedError as exc:
            raise InvalidInputError(f"{path} {exc}") from exc
        if not found:
            raise InvalidInputError(
                f"{path} holds no public key of GnuPG", hint=f"gpg --armor --export KEY > {path}"
            )


def _indent(data: bytes | None) -> int | str:
    """How the file is indented, so that a change stays small."""
    found = _INDENT.search(data.decode("utf-8", "replace")) if data is not None else None
    return found.group(1) if found else 4
