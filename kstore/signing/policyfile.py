"""policy.json, read strictly: what is not understood makes the whole file invalid.

Source: containers-policy.json(5).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

from kstore import strictjson
from kstore.errors import InvalidInputError, InvalidManifestError, InvalidReferenceError
from kstore.reference import Named
from kstore.signing.identities import (
    ExactReference,
    ExactRepository,
    Identity,
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    RemapIdentity,
)
from kstore.signing.policy import MAX_POLICY
from kstore.signing.requirements import (
    InsecureAcceptAnything,
    Keys,
    Reject,
    Requirement,
    SignedBaseLayer,
    SignedBy,
    SigstoreSigned,
)
from kstore.values import dataclass

__all__ = ["PolicyDocument", "ScopeCheck", "load_policy", "parse_policy", "read_policy"]

_HOST = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*(:[0-9]+)?"
)
_KEY_TYPES = ("GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs")

#: Raises InvalidInputError if a scope can never match in a transport.
ScopeCheck = Callable[[str, str], None]

Requirements = tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """A policy: by transport and scope, with ``default`` for the rest."""

    default: Requirements
    transports: Mapping[str, Mapping[str, Requirements]]


class _Invalid(Exception):
    """Where in the document something is wrong, and what."""


def parse_policy(data: bytes, what: str, check_scope: ScopeCheck | None = None) -> PolicyDocument:
    """Parse a policy file; ``what`` names it.  Raises InvalidInputError saying what is wrong where.

    ``check_scope`` is asked about every scope.  Transports nobody knows are allowed.
    """
    return read_policy(load_policy(data, what), what, check_scope)


def load_policy(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object of a policy file; InvalidInputError."""
    try:
        value = strictjson.loads(data, what, cap=MAX_POLICY, exact_keys=True)
        return strictjson.as_object(value, what)
    except InvalidManifestError as exc:
        raise InvalidInputError(exc.message) from exc


def read_policy(
    value: dict[str, Any], what: str, check_scope: ScopeCheck | None = None
) -> PolicyDocument:
    """What the JSON object means; InvalidInputError."""
    try:
        top = _object(value, "it", {"default"}, {"transports"})
        transports: dict[str, Mapping[str, Requirements]] = {}
        for name, scopes in _map(top.get("transports", {}), "transports").items():
            transports[name] = _scopes(name, scopes, check_scope)
        return PolicyDocument(_requirements(top["default"], "default"), transports)
    except _Invalid as exc:
        raise InvalidInputError(f"{what} is not a valid trust policy: {exc}") from exc


def _scopes(name: str, value: Any, check_scope: ScopeCheck | None) -> Mapping[str, Requirements]:
    scopes = _map(value, f"transports.{name}")
    valid = set()  # large policies say the same of many scopes
    for scope, requirements in scopes.items():
        if scope and check_scope is not None:
            try:
                check_scope(name, scope)
            except InvalidInputError as exc:
                raise _Invalid(f"in transports.{name}, {exc.message}") from exc
        if not _is_usual(requirements) and (same := repr(requirements)) not in valid:
            _requirements(requirements, f"transports.{name}.{scope!r}")
            valid.add(same)
    return _Scopes(scopes)


class _Scopes(Mapping[str, Requirements]):
    """What is required in the scopes of a valid policy, made for those that are asked for."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def __getitem__(self, scope: str) -> Requirements:
        return _requirements(self._given[scope], "")

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)


def _is_usual(value: Any) -> bool:
    """Whether it is what a policy of many scopes mostly says, which is valid at a glance."""
    match value:
        case [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(path)} as one]:
            return path != "" and len(one) == 3
        case [{"type": "insecureAcceptAnything" | "reject"} as one]:
            return len(one) == 1
    return False


def _requirements(value: Any, where: str) -> Requirements:
    if not isinstance(value, list) or not value:
        raise _Invalid(f"{where} is not a list with at least one requirement")
    return tuple(_requirement(item, f"{where}[{i}]") for i, item in enumerate(value))


def _requirement(value: Any, where: str) -> Requirement:
    kind = _map(value, where).get("type")
    if kind == "insecureAcceptAnything":
        _object(value, where, {"type"})
        return InsecureAcceptAnything()
    if kind == "reject":
        _object(value, where, {"type"})
        return Reject()
    if kind == "signedBy":
        return _signed_by(value, where)
    if kind == "sigstoreSigned":
        return _sigstore_signed(value, where)
    if kind == "signedBaseLayer":
        _object(value, where, {"type", "baseLayerIdentity"})
        return SignedBaseLayer(_identity(value["baseLayerIdentity"], f"{where}.baseLayerIdentity"))
    raise _Invalid(f"{where} has the type {kind!r:.100}, which is unknown")


# Policies of a thousand scopes are read within milliseconds: what is the same for all is made once.
_SIGNED_BY = frozenset({"type", "keyType"})
_GPG_KEYS = ("keyPath", "keyPaths", "keyData")
_SIGNED_BY_TOO = frozenset({*_GPG_KEYS, "signedIdentity"})


def _signed_by(value: Any, where: str) -> SignedBy:
    _object(value, where, _SIGNED_BY, _SIGNED_BY_TOO)
    if value["keyType"] not in _KEY_TYPES:
        raise _Invalid(f"{where} has the keyType {value['keyType']!r:.100}, which is unknown")
    keys = _keys(value, where, _GPG_KEYS)
    return SignedBy(keys, _signed_identity(value, where), value["keyType"])


_AUTHORITY = {"caPath", "caData", "oidcIssuer", "subjectEmail"}
_PKI = {
    "caRootsPath",
    "caRootsData",
    "caIntermediatesPath",
    "caIntermediatesData",
    "subjectHostname",
    "subjectEmail",
}
_REKOR = (
    "rekorPublicKeyPath",
    "rekorPublicKeyPaths",
    "rekorPublicKeyData",
    "rekorPublicKeyDatas",
)
_SIGSTORE_KEYS = ("keyPath", "keyPaths", "keyData", "keyDatas")


def _sigstore_signed(value: Any, where: str) -> SigstoreSigned:
    optional = {*_SIGSTORE_KEYS, *_REKOR, "fulcio", "pki", "signedIdentity"}
    _object(value, where, {"type"}, optional)
    identity = _signed_identity(value, where)
    log = any(name in value for name in _REKOR)
    if log:
        _keys(value, where, _REKOR)
    sources = [name for name in (*_SIGSTORE_KEYS, "fulcio", "pki") if name in value]
    if len(sources) != 1:
        raise _Invalid(
            f"{where} needs exactly one of {', '.join((*_SIGSTORE_KEYS, 'fulcio, pki'))}"
        )
    if "fulcio" in value:
        _texts(value["fulcio"], f"{where}.fulcio", {"oidcIssuer", "subjectEmail"}, _AUTHORITY)
        if ("caPath" in value["fulcio"]) == ("caData" in value["fulcio"]):
            raise _Invalid(f"{where}.fulcio needs exactly one of caPath, caData")
        if not log:
            raise _Invalid(f"{where} has fulcio, which needs a key of rekor")
        return SigstoreSigned(Keys(), identity, "a certificate by Fulcio")
    if "pki" in value:
        _texts(value["pki"], f"{where}.pki", set(), _PKI)
        if ("caRootsPath" in value["pki"]) == ("caRootsData" in value["pki"]):
            raise _Invalid(f"{where}.pki needs exactly one of caRootsPath, caRootsData")
        if log:
            raise _Invalid(f"{where} has pki, which cannot have a key of rekor")
        return SigstoreSigned(Keys(), identity, "a certificate by its own authority")
    keys = _keys(value, where, _SIGSTORE_KEYS)
    return SigstoreSigned(keys, identity, "an entry in a log of rekor" if log else None)


def _keys(value: dict[str, Any], where: str, names: tuple[str, ...]) -> Keys:
    """The keys of the one of ``names`` that is there: paths, or base64."""
    given = [name for name in names if name in value]
    if len(given) != 1:
        raise _Invalid(f"{where} needs exactly one of {', '.join(names)}")
    (name,) = given
    found, several = value[name], name.endswith("s")
    texts = found if several else [found]
    if not isinstance(texts, list) or not texts or not all(map(_is_text, texts)):
        raise _Invalid(f"{where}.{name} is not {'a list of texts' if several else 'a text'}")
    if "Path" in name:
        return Keys(paths=tuple(texts))
    try:
        return Keys(data=tuple(map(_from_base64, texts)))
    except (binascii.Error, ValueError) as exc:
        raise _Invalid(f"{where}.{name} is not base64") from exc


def _from_base64(text: str) -> bytes:
    """As others read it: what ``base64`` prints has line ends in it."""
    return base64.b64decode(text.translate({10: None, 13: None}), validate=True)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


_USUAL_IDENTITY = MatchRepoDigestOrExact()


def _signed_identity(value: dict[str, Any], where: str) -> Identity:
    if "signedIdentity" not in value:
        return _USUAL_IDENTITY
    return _identity(value["signedIdentity"], f"{where}.signedIdentity")


_PLAIN: Mapping[str, Callable[[], Identity]] = {
    "matchExact": MatchExact,
    "matchRepoDigestOrExact": MatchRepoDigestOrExact,
    "matchRepository": MatchRepository,
}


def _identity(value: Any, where: str) -> Identity:
    kind = _map(value, where).get("type")
    if isinstance(kind, str) and kind in _PLAIN:
        _object(value, where, {"type"})
        return _PLAIN[kind]()
    if kind == "exactReference":
        _texts(value, where, {"type", "dockerReference"})
        named = _named(value["dockerReference"], f"{where}.dockerReference")
        if named.is_bare:
            raise _Invalid(f"{where}.dockerReference has neither a tag nor a digest")
        return ExactReference(named)
    if kind == "exactRepository":
        _texts(value, where, {"type", "dockerRepository"})
        return ExactRepository(_named(value["dockerRepository"], f"{where}.dockerRepository"))
    if kind == "remapIdentity":
        _texts(value, where, {"type", "prefix", "signedPrefix"})
        for name in ("prefix", "signedPrefix"):
            _check_prefix(value[name], f"{where}.{name}")
        return RemapIdentity(value["prefix"], value["signedPrefix"])
    raise _Invalid(f"{where} has the type {kind!r:.100}, which is unknown")


def _check_prefix(prefix: str, where: str) -> None:
    if _HOST.fullmatch(prefix):
        return
    named = _named(prefix, where)
    if str(named) != prefix or not named.is_bare:
        raise _Invalid(f"{where} is neither HOST[:PORT] nor a full repository name")


def _named(text: str, where: str) -> Named:
    try:
        return Named.parse(text)
    except InvalidReferenceError as exc:
        raise _Invalid(f"{where}: {exc.message}") from exc


def _map(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Invalid(f"{where} is not an object")
    return value


def _object(
    value: Any, where: str, required: Set[str], optional: Set[str] = frozenset()
) -> dict[str, Any]:
    """``value`` if it is an object with all the ``required`` keys and none that is unknown."""
    found = _map(value, where)
    names = found.keys()
    if not required <= names:
        raise _Invalid(f"{where} has no {min(required - names)!r}")
    if len(names) > len(required) and (unknown := names - required - optional):
        raise _Invalid(f"{where} has a key {min(unknown)!r:.100}, which is unknown")
    return found


def _texts(value: Any, where: str, required: Set[str], optional: Set[str] = frozenset()) -> None:
    """As :func:`_object`, and every value is a text."""
    for name, text in _object(value, where, required, optional).items():
        if not isinstance(text, str):
            raise _Invalid(f"{where}.{name} is not a text")
