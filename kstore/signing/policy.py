"""The trust policy of a machine, and of a machine without one.

Without a policy file every image is accepted, as on machines set up by podman's packages.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kstore.errors import InvalidInputError, StorageError
from kstore.image import TrustPolicy, UnparsedImage
from kstore.interfaces import ImageReference
from kstore.values import dataclass

# Most machines have no policy file, and starting fast is a feature.
if TYPE_CHECKING:
    from kstore.signing.policyfile import ScopeCheck
    from kstore.signing.rules import TrustRules

__all__ = ["ACCEPT_ANYTHING", "MAX_POLICY", "AcceptAnything", "FilePolicy", "read_policy_file"]

#: Most bytes of a policy file.
MAX_POLICY = 16 << 20


@dataclass(frozen=True, slots=True)
class AcceptAnything(TrustPolicy):
    """The policy of a machine without a policy file."""

    def check(self, image: UnparsedImage) -> str:
        return "default: insecureAcceptAnything"

    def may_refuse(self, reference: ImageReference) -> bool:
        return False


#: The policy of callers that say nothing about trust.
ACCEPT_ANYTHING = AcceptAnything()


class FilePolicy(TrustPolicy):
    """The policy of the first of ``files`` that is there, read when the first image is checked.

    With none of them there, everything is accepted.  ``explicit``: the one file must be there.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        explicit: bool = False,
        required: bool = False,
        check_scope: ScopeCheck | None = None,
    ) -> None:
        self._files = tuple(files)
        self._explicit = explicit
        self._required = required
        self._check_scope = check_scope

    @cached_property
    def rules(self) -> TrustRules:
        """What the file says; InvalidInputError, StorageError."""
        from kstore.signing.policyfile import parse_policy
        from kstore.signing.rules import TrustRules

        file, data = self._found
        document = None
        if data is not None:
            document = parse_policy(data, str(file), self._check_scope)
        return TrustRules(document, file, required=self._required)

    @cached_property
    def _found(self) -> tuple[Path, bytes] | tuple[None, None]:
        for file in self._files:
            data = read_policy_file(file)
            if data is not None:
                return file, data
            if self._explicit:
                raise InvalidInputError(f"there is no policy file {file}")
        return None, None

    @cached_property
    def _policy(self) -> TrustPolicy:
        return self.rules if self._required or self._found[0] is not None else AcceptAnything()

    def check(self, image: UnparsedImage) -> str:
        return self._policy.check(image)

    def check_index(self, image: UnparsedImage) -> str:
        return self._policy.check_index(image)

    def may_refuse(self, reference: ImageReference) -> bool:
        return self._policy.may_refuse(reference)


def read_policy_file(file: Path) -> bytes | None:
    """The bytes of a policy file, None if there is none; StorageError, InvalidInputError."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_POLICY + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageError(f"cannot read the trust policy {file}: {exc.strerror}") from exc
    if len(data) > MAX_POLICY:
        raise InvalidInputError(f"the trust policy {file} has more than {MAX_POLICY} bytes")
    return data
