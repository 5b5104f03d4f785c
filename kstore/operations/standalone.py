"""Signatures as files: made for, and checked against, a manifest in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kstore.blobs import read_file, replace_file
from kstore.digest import Digest
from kstore.errors import InvalidInputError, PolicyRejectedError
from kstore.formats.spool import file_errors
from kstore.manifest import MAX_MANIFEST_SIZE, RawManifest
from kstore.reference import Named
from kstore.signature import MAX_SIGNATURE_SIZE, SimpleSignature, parse_signature
from kstore.signing.claim import BadSignatureError
from kstore.signing.signer import Signer
from kstore.values import dataclass

__all__ = ["VerifiedFile", "sign_file", "verify_file"]

_ANY = "any"
_MAX_KEYS = 4 << 20


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """Whose key made a signature (its fingerprint), and of which manifest."""

    fingerprint: str
    digest: Digest


def sign_file(manifest: Path, reference: str, signer: Signer, output: Path) -> Digest:
    """Write a signature of the manifest in a file, as the image ``reference``; its digest.

    Raises InvalidInputError, InvalidManifestError, StorageError, and what the signer raises.
    """
    name = Named.parse(reference)
    if name.is_bare:
        raise InvalidInputError(
            f"an image cannot be signed as {reference}, which has no tag and no digest"
        )
    digest = _read_manifest(manifest).digest
    data = signer.sign(digest, str(name)).to_bytes()
    with file_errors(f"write the signature {output}"):
        replace_file(output, data)
    return digest


def verify_file(
    manifest: Path,
    reference: str,
    fingerprints: str,
    signature: Path,
    *,
    public_keys: Path | None = None,
    gnupg_home: Path | None = None,
) -> VerifiedFile:
    """Check a simple signature in a file.

    ``fingerprints``: those of the keys that are accepted, with commas between; ``any`` accepts
    all of the file ``public_keys``, without which the keys are GnuPG's.  The reference must be the
    signed one.  Raises PolicyRejectedError, InvalidInputError, NotFoundError, StorageError.
    """
    from kstore.signing.gpgv import verify_message
    from kstore.signing.simple import parse_payload

    wanted = [text.strip().upper() for text in fingerprints.split(",") if text.strip()]
    keys = _keys(wanted, public_keys, gnupg_home)
    raw = _read_manifest(manifest)
    what = f"signature {signature}"
    parsed = parse_signature(read_file(signature, MAX_SIGNATURE_SIZE, what), what)
    if not isinstance(parsed, SimpleSignature):
        raise InvalidInputError(f"{signature} is not a signature by GnuPG")
    try:
        verified = verify_message(parsed.message, keys)
        if wanted != [_ANY.upper()] and verified.fingerprint not in wanted:
            raise BadSignatureError(f"is by key {verified.fingerprint}, which is not accepted")
        claim = parse_payload(verified.payload)
        if not raw.is_named(claim.manifest_digest):
            raise BadSignatureError(f"is of manifest {claim.manifest_digest}, not {raw.digest}")
        if claim.docker_reference != str(Named.parse(reference)):
            raise BadSignatureError(f"is of {claim.docker_reference!r:.300}, not of {reference}")
    except BadSignatureError as exc:
        raise PolicyRejectedError(f"signature {signature} {exc.message}") from exc
    return VerifiedFile(verified.fingerprint, raw.digest)


def _keys(wanted: Sequence[str], public_keys: Path | None, home: Path | None) -> bytes:
    from kstore.signing.gpg import export_key
    from kstore.signing.openpgp import MalformedError, binary_keys, primary_keys

    if not wanted:
        raise InvalidInputError("no fingerprint was given of a key that is accepted")
    if public_keys is None:
        if wanted == [_ANY.upper()]:
            raise InvalidInputError(
                "any key is accepted only of a file of keys", hint="--public-key-file FILE"
            )
        return b"".join(export_key(fingerprint, home) for fingerprint in wanted)
    try:
        keys = binary_keys(read_file(public_keys, _MAX_KEYS, f"key file {public_keys}"))
        if not primary_keys(keys):
            raise InvalidInputError(f"{public_keys} holds no public key")
    except MalformedError as exc:
        raise InvalidInputError(f"{public_keys} {exc}") from exc
    return keys


def _read_manifest(file: Path) -> RawManifest:
    return RawManifest.receive(read_file(file, MAX_MANIFEST_SIZE, f"manifest {file}"))
