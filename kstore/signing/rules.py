"""Which rule of a trust policy is an image's, and whether the image meets it.

Source: containers-policy.json(5), "Policy" and "Scopes".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from kstore.errors import PolicyRejectedError
from kstore.image import TrustPolicy, UnparsedImage
from kstore.interfaces import ImageReference
from kstore.signing.identities import MatchRepoDigestOrExact
from kstore.signing.policyfile import PolicyDocument
from kstore.signing.requirements import (
    InsecureAcceptAnything,
    Keys,
    Requirement,
    SignedBy,
    SigstoreSigned,
)
from kstore.values import dataclass

__all__ = ["Rule", "TrustRules", "signed_by_keys"]

#: The store's own transport, with the names it goes by in policies.
_STORE_TRANSPORTS = ("kstore", "storage")


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule of an image.

    ``file``: where it stands, None where no file says anything.  ``section``: the transport's, the
    default, or what kstore does without a word about it; ``transport``: None where the rule is for
    any; ``scope``: the scope that matched, "" being the whole transport.
    """

    file: Path | None
    section: Literal["transport", "default", "built-in"]
    transport: str | None
    scope: str | None
    requirements: tuple[Requirement, ...]

    def __str__(self) -> str:
        if self.section == "built-in":
            return "the rule without a policy" if self.file is None else "the rule for the store"
        where = self.transport if not self.scope else f"{self.transport}:{self.scope}"
        which = "the default" if self.section == "default" else f"the rule for {where}"
        return f"{which} in {self.file}"


def signed_by_keys(gpg: Sequence[Path] = (), sigstore: Sequence[Path] = ()) -> TrustPolicy:
    """The policy of whoever has keys at hand: every image must be signed by one of them, as
    itself; ``gpg`` and ``sigstore`` are files of public keys."""
    identity = MatchRepoDigestOrExact()
    accepted: list[Requirement] = []
    if gpg:
        accepted.append(SignedBy(Keys(tuple(map(str, gpg))), identity))
    if sigstore:
        accepted.append(SigstoreSigned(Keys(tuple(map(str, sigstore))), identity))
    return _AnyOf(tuple(accepted))


@dataclass(frozen=True, slots=True)
class _AnyOf(TrustPolicy):
    requirements: tuple[Requirement, ...]

    def check(self, image: UnparsedImage) -> str:
        reasons = []
        for requirement in self.requirements:
            try:
                requirement.check(image)
            except PolicyRejectedError as exc:
                reasons.append(exc.message)
            else:
                return str(requirement)
        name = f"{image.reference.transport}:{image.reference.within_transport}"
        why = "; ".join(dict.fromkeys(reasons)) or "there is no key that could have signed it"
        raise PolicyRejectedError(f"{name} is not trusted, because {why}")

    def check_index(self, image: UnparsedImage) -> str:
        return "its members answer for it"


class TrustRules(TrustPolicy):
    """The policy of a file, or of no file.

    ``required``: whoever runs this wants signatures checked, so that a rule which looks at none
    admits nothing.
    """

    def __init__(
        self, document: PolicyDocument | None, file: Path | None, *, required: bool = False
    ) -> None:
        self._document = document
        self._file = file
        self._required = required

    def rule(self, reference: ImageReference) -> Rule:
        """The one rule that counts for this reference: the most specific scope's."""
        name = reference.transport
        if self._document is None:
            return self._built_in(name)
        transports = self._document.transports
        names = _STORE_TRANSPORTS if name in _STORE_TRANSPORTS else (name,)
        for section in names:
            scopes = transports.get(section)
            if scopes is None:
                continue
            for scope in (reference.policy_identity, *reference.policy_namespaces, ""):
                if scope in scopes:
                    return Rule(self._file, "transport", section, scope, scopes[scope])
        if name in _STORE_TRANSPORTS:
            return self._built_in(name)  # they were admitted when they came in
        return Rule(self._file, "default", name, None, self._document.default)

    def every_rule(self) -> Sequence[Rule]:
        """The default, then the rule of each scope, in the order of the file."""
        if self._document is None:
            return (self._built_in(None),)
        return (
            Rule(self._file, "default", None, None, self._document.default),
            *(
                Rule(self._file, "transport", name, scope, requirements)
                for name, scopes in self._document.transports.items()
                for scope, requirements in scopes.items()
            ),
        )

    def _built_in(self, name: str | None) -> Rule:
        return Rule(self._file, "built-in", name, None, (InsecureAcceptAnything(),))

    def check(self, image: UnparsedImage) -> str:
        return self._check(image, image.reference, lambda requirement: requirement.check(image))

    def check_index(self, image: UnparsedImage) -> str:
        return self._check(
            image, image.reference, lambda requirement: requirement.check_index(image)
        )

    def may_refuse(self, reference: ImageReference) -> bool:
        requirements = self.rule(reference).requirements
        met = all(isinstance(each, InsecureAcceptAnything) for each in requirements)
        return self._required or not met

    def as_if_from(self, reference: ImageReference) -> TrustPolicy:
        """The policy that judges every image by the rule for ``reference``."""
        return _AsIfFrom(self, reference)

    def _check(
        self, image: UnparsedImage, at: ImageReference, meet: Callable[[Requirement], None]
    ) -> str:
        rule = self.rule(at)
        try:
            if self._required and not any(item.verifies for item in rule.requirements):
                raise PolicyRejectedError("it looks at no signature, and one is required")
            for requirement in rule.requirements:
                meet(requirement)
        except PolicyRejectedError as exc:
            name = f"{image.reference.transport}:{image.reference.within_transport}"
            raise PolicyRejectedError(
                f"{name} is not trusted by {rule}, because {exc.message}",
                hint=f"kstore policy show {at.transport}:{at.within_transport}",
            ) from exc
        return f"{rule}: {'; '.join(map(str, rule.requirements))}"


@dataclass(frozen=True, slots=True)
class _AsIfFrom(TrustPolicy):
    rules: TrustRules
    reference: ImageReference

    def check(self, image: UnparsedImage) -> str:
        return self.rules._check(image, self.reference, lambda item: item.check(image))

    def check_index(self, image: UnparsedImage) -> str:
        return self.rules._check(image, self.reference, lambda item: item.check_index(image))
