"""Two images, an index of both, and what is attached to each of them."""

from __future__ import annotations

from tests.support.attachments import SIGNATURES, cosign_attachment, cosign_tag
from tests.support.images import ARM64, index_of, random_artifact, random_image

__all__ = ["ARM", "BOTH", "IMAGE", "OF_ARM", "OF_INDEX", "OF_SBOM", "SBOM", "SIG", "SIGNED"]

IMAGE, ARM = random_image(1), random_image(2, platform=ARM64)
BOTH = index_of([IMAGE, ARM])
SBOM = random_artifact(1, subject=IMAGE.raw.descriptor, artifact_type="application/spdx+json")
#: A signature of the list of contents.
OF_SBOM = random_artifact(2, subject=SBOM.raw.descriptor, artifact_type="x/signature")
OF_INDEX = random_artifact(3, subject=BOTH.descriptor, artifact_type="x/of-index")
OF_ARM = random_artifact(4, subject=ARM.raw.descriptor, artifact_type="x/of-arm")
#: What cosign attaches to the image, and by what tag.
SIGNED = cosign_attachment(b"it is signed", SIGNATURES)
SIG = cosign_tag(IMAGE.raw.digest, "sig")
