"""Sigstore signatures in a registry: layers of an image under a tag made of the signed digest.

The layers are the payloads, their annotations hold the signatures.  Others may have attached theirs
before: what is there stays, and nothing is attached twice.  Signatures are also read from referrers
of the same form, which newer cosigns make on request.

Source: cosign, specs/SIGNATURE_SPEC.md ("Storage"), as skopeo and podman read and write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from kstore import mediatypes as mt
from kstore import strictjson
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import InvalidManifestError, ManifestNotFoundError, UnsupportedError
from kstore.manifest import MAX_CONFIG_SIZE, Manifest, RawManifest, parse_image
from kstore.manifest.attached import attachment_tag
from kstore.registry import RegistryClient
from kstore.signature import (
    MAX_SIGNATURE_SIZE,
    SigstoreSignature,
    parse_signature,
)
from kstore.streams import BytesStream, VerifiedStream, read_limited

__all__ = ["attach_signatures", "read_attached_signatures"]

#: Most signatures of one manifest, and most bytes they may have together.
MAX_SIGNATURES = 128
MAX_TOTAL = 8 << 20
#: The artifact type of a referrer that holds signatures as the image under the tag does.
HOLDER = "application/vnd.dev.cosign.artifact.sig.v1+json"


def read_attached_signatures(
    client: RegistryClient, path: str, manifest: Digest
) -> tuple[bytes, ...]:
    """The signatures attached to a manifest, in the form in which they are kept; perhaps none.

    Those under the tag come first, then those of referrers that say that they hold signatures.
    Nothing is verified but that they arrive as they were stored.  Raises InvalidManifestError for
    attachments that are no signatures, or more than anybody needs.
    """
    layers = [layer for stored in _all_stored(client, path, manifest) for layer in stored.layers]
    total = sum(layer.size for layer in layers)
    if len(layers) > MAX_SIGNATURES or total > MAX_TOTAL:
        raise InvalidManifestError(
            f"{client.host}/{path} has {len(layers)} signatures of {total} bytes attached to"
            f" {manifest}, more than {MAX_SIGNATURES} or {MAX_TOTAL}"
        )
    return tuple(
        SigstoreSignature(
            _read(client, path, layer), dict(layer.annotations), layer.media_type
        ).to_bytes()
        for layer in dict.fromkeys(layers)
    )


def _all_stored(client: RegistryClient, path: str, manifest: Digest) -> Iterator[Manifest]:
    tag = attachment_tag(manifest, "sig")
    stored = _stored(client, path, tag) if tag is not None else None
    if stored is not None:
        yield stored
    holders = (each for each in client.referrers(path, manifest) if each.artifact_type == HOLDER)
    for number, holder in enumerate(holders, 1):
        if number > MAX_SIGNATURES:
            raise InvalidManifestError(
                f"{client.host}/{path} has more than {MAX_SIGNATURES} manifests with signatures"
                f" attached to {manifest}"
            )
        stored = _stored(client, path, holder.digest)
        if stored is not None and stored.subject is not None and stored.subject.digest == manifest:
            yield stored


def attach_signatures(
    client: RegistryClient, path: str, manifest: Digest, signatures: Sequence[bytes]
) -> None:
    """Attach signatures that are not attached yet.

    Raises UnsupportedError for those of another kind than sigstore's, and what the registry
    answers.
    """
    wanted = [_sigstore(data, client.host) for data in signatures]
    tag = attachment_tag(manifest, "sig")
    if tag is None:
        raise UnsupportedError(f"manifest {manifest} has a digest too long for attachments")
    stored = _stored(client, path, tag)
    layers = list(stored.layers) if stored else []
    fresh = [each for each in wanted if not any(_is_same(layer, each) for layer in layers)]
    if not fresh:
        return
    if len(layers) + len(fresh) > MAX_SIGNATURES:
        raise UnsupportedError(f"{client.host}/{path}:{tag} has {len(layers)} signatures already")
    config = _config(client, path, stored)
    for signature in fresh:
        layer = _layer(signature)
        _upload(client, path, layer, signature.payload)
        layers.append(layer)
        config["rootfs"]["diff_ids"].append(str(layer.digest))
    _write(client, path, tag, layers, config)


def _sigstore(data: bytes, host: str) -> SigstoreSignature:
    signature = parse_signature(data, "a signature")
    if not isinstance(signature, SigstoreSignature):
        raise UnsupportedError(f"{host} takes sigstore signatures alone as attachments")
    return signature


def _layer(signature: SigstoreSignature) -> Descriptor:
    payload = signature.payload
    return Descriptor(
        signature.media_type,
        Digest.of(payload),
        len(payload),
        annotations=signature.annotations,
    )


def _is_same(layer: Descriptor, signature: SigstoreSignature) -> bool:
    return (
        layer.media_type == signature.media_type
        and layer.digest == Digest.of(signature.payload)
        and dict(layer.annotations) == dict(signature.annotations)
    )


def _stored(client: RegistryClient, path: str, reference: str | Digest) -> Manifest | None:
    try:
        raw = client.get_manifest(path, reference)
    except ManifestNotFoundError:
        return None
    if raw.media_type != mt.OCI_MANIFEST:
        raise InvalidManifestError(
            f"{client.host}/{path}: {reference} should hold signatures, but is {raw.media_type}"
        )
    return parse_image(raw)


def _config(client: RegistryClient, path: str, stored: Manifest | None) -> dict[str, Any]:
    """The config to go on with: that of the signatures that are there, or an empty one."""
    if stored is None:
        return {
            "architecture": "",
            "config": {},
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": []},
        }
    what = f"config {stored.config.digest} of the signatures in {client.host}/{path}"
    data = _read(client, path, stored.config)
    config = strictjson.as_object(strictjson.loads(data, what, cap=MAX_CONFIG_SIZE), what)
    rootfs = config.get("rootfs")
    if not isinstance(rootfs, dict) or not isinstance(rootfs.get("diff_ids"), list):
        raise InvalidManifestError(f"{what} is not an image config")
    return config


def _read(client: RegistryClient, path: str, blob: Descriptor) -> bytes:
    with VerifiedStream(client.open_blob(path, blob), blob) as stream:
        return read_limited(stream, MAX_SIGNATURE_SIZE, f"blob {blob.digest} of {path}")


def _upload(client: RegistryClient, path: str, blob: Descriptor, data: bytes) -> None:
    if client.has_blob(path, blob.digest) is None:
        client.upload_blob(path, blob, lambda offset: BytesStream(data[offset:]))


def _write(
    client: RegistryClient,
    path: str,
    tag: str,
    layers: Sequence[Descriptor],
    config: dict[str, Any],
) -> None:
    data = json.dumps(config, separators=(",", ":")).encode()
    blob = Descriptor(mt.OCI_CONFIG, Digest.of(data), len(data))
    _upload(client, path, blob, data)
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": blob.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    manifest = json.dumps(document, separators=(",", ":")).encode()
    client.put_manifest(path, tag, RawManifest.receive(manifest, mt.OCI_MANIFEST))
