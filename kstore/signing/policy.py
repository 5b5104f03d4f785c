"""Trust policies.

Without a policy file every image is accepted, as on machines set up by podman's packages.
"""

from __future__ import annotations

from dataclasses import dataclass

from kstore.image import TrustPolicy, UnparsedImage

__all__ = ["AcceptAnything"]


@dataclass(frozen=True, slots=True)
class AcceptAnything(TrustPolicy):
    """The policy of a machine without a policy file."""

    def check(self, image: UnparsedImage) -> str:
        return "default: insecureAcceptAnything"
