"""Manifests over HTTP: by tag or digest, in and out.

A manifest is served by digest under any repository path, as blobs are.

Source: OCI distribution specification 1.1, "Pulling manifests", "Pushing Manifests", "Deleting".
"""

from __future__ import annotations

from http import HTTPStatus

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    ImageNotFoundError,
    IntegrityError,
    InvalidManifestError,
)
from kstore.manifest import MAX_MANIFEST_SIZE, Index, Manifest, RawManifest, parse
from kstore.mediatypes import is_foreign_layer
from kstore.reference import Named, is_tag
from kstore.server.exchange import Exchange, digest_of, meanings_of
from kstore.server.responses import Refusal, Response
from kstore.store import Lease, NameRecord, Publication
from kstore.streams import read_limited

__all__ = ["delete_manifest", "get_manifest", "head_manifest", "put_manifest"]


def get_manifest(exchange: Exchange, path: str, reference: str) -> Response:
    """The manifest's bytes, as they were received.

    The Accept header is not looked at: there is one form of each manifest, and a client that
    cannot read it can say so better than a 406.
    """
    descriptor = _stored(exchange, path, reference)
    if exchange.request.headers.get("if-none-match") == f'"{descriptor.digest}"':
        return Response(HTTPStatus.NOT_MODIFIED, {"ETag": f'"{descriptor.digest}"'})
    try:
        raw = exchange.store.read_manifest(descriptor.digest)
    except BlobNotFoundError as exc:  # removed since we looked
        raise _unknown(reference) from exc
    return Response(HTTPStatus.OK, _headers(descriptor), raw.data)


def head_manifest(exchange: Exchange, path: str, reference: str) -> Response:
    """What the manifest is, without its bytes."""
    descriptor = _stored(exchange, path, reference)
    return Response(HTTPStatus.OK, {**_headers(descriptor), "Content-Length": str(descriptor.size)})


def put_manifest(exchange: Exchange, path: str, reference: str) -> Response:
    """Make a manifest visible, under its tag where it has one; its blobs must be there.

    Members of an index need not be.
    """
    repository = meanings_of(path)[0]
    expected: Digest | None = None
    names: tuple[Named, ...] = ()
    if ":" in reference:
        expected = digest_of(reference)
    elif is_tag(reference):
        names = (repository.with_tag(reference),)
    else:
        raise Refusal(HTTPStatus.BAD_REQUEST, "TAG_INVALID", f"{reference!r:.140} is not a tag")
    raw, view = _receive(exchange, expected)
    with exchange.lease() as lease:
        _hold(lease, raw, view)
        try:
            lease.publish(Publication(raw=raw, names=names))
        except BlobNotFoundError as exc:  # gone since we looked
            raise _blob_unknown(exc.message) from exc
    headers = {
        "Location": f"/v2/{path}/manifests/{raw.digest}",
        "Docker-Content-Digest": str(raw.digest),
    }
    if view.subject is not None:
        headers["OCI-Subject"] = str(view.subject.digest)
    return Response(HTTPStatus.CREATED, headers)


def delete_manifest(exchange: Exchange, path: str, reference: str) -> Response:
    """Delete a tag, or a manifest with all tags this repository has on it.

    A manifest that names of other repositories lead to loses only the tags of this one.
    """
    repositories = meanings_of(path)
    store = exchange.store
    if ":" not in reference:
        record = _name(exchange, repositories, reference)
        if record is None:
            raise _unknown(reference)
        _untag(exchange, record.name)
        return Response(HTTPStatus.ACCEPTED)
    digest = digest_of(reference)
    if store.manifest(digest) is None:
        raise _unknown(reference)
    here = {each.repository for each in repositories}
    others = False
    for record in store.names():
        if digest in (record.target, record.manifest, record.via):
            if record.name.repository in here and record.target == digest:
                _untag(exchange, record.name)
            else:
                others = True
    if not others:
        try:
            store.remove_manifest(digest)
        except BlobNotFoundError:
            pass  # somebody else removed it first: gone is what was asked for
    return Response(HTTPStatus.ACCEPTED)


def _untag(exchange: Exchange, name: Named) -> None:
    try:
        exchange.store.untag(name)
    except ImageNotFoundError:
        pass  # somebody else removed it first


def _stored(exchange: Exchange, path: str, reference: str) -> Descriptor:
    """The manifest a tag or digest leads to; Refusal MANIFEST_UNKNOWN."""
    repositories = meanings_of(path)
    if ":" in reference:
        digest = digest_of(reference)
    else:
        record = _name(exchange, repositories, reference)
        if record is None:
            raise _unknown(reference)
        digest = record.target
    stored = exchange.store.manifest(digest)
    if stored is None:
        raise _unknown(reference)
    return stored.descriptor


def _name(exchange: Exchange, repositories: tuple[Named, ...], tag: str) -> NameRecord | None:
    """The first name with this tag among the repositories a path may mean."""
    if not is_tag(tag):
        return None
    for repository in repositories:
        record = exchange.store.name(repository.with_tag(tag))
        if record is not None:
            return record
    return None


def _receive(exchange: Exchange, expected: Digest | None) -> tuple[RawManifest, Manifest | Index]:
    """The body as a manifest; Refusal saying what is wrong with it."""
    body = exchange.request.body
    try:
        if body.size is not None and body.size > MAX_MANIFEST_SIZE:
            raise IntegrityError(f"the manifest is larger than {MAX_MANIFEST_SIZE} bytes")
        data = read_limited(body, MAX_MANIFEST_SIZE, "the manifest")
    except IntegrityError as exc:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "MANIFEST_INVALID", exc.message) from exc
    try:
        raw = RawManifest.receive(data, exchange.request.headers.get("content-type"), expected)
        return raw, parse(raw)
    except DigestMismatchError as exc:
        raise Refusal(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", exc.message) from exc
    except InvalidManifestError as exc:
        raise Refusal(HTTPStatus.BAD_REQUEST, "MANIFEST_INVALID", exc.message) from exc


def _hold(lease: Lease, raw: RawManifest, view: Manifest | Index) -> None:
    """Hold all that the manifest needs; Refusal MANIFEST_BLOB_UNKNOWN for what is not there."""
    if isinstance(view, Index):
        return  # its members may be absent; those that are there it holds by itself
    held = lease.adopt([(blob.digest, blob.size) for blob in view.blobs])
    missing = [
        blob
        for blob in view.blobs
        if blob.digest not in held and not (blob.urls and is_foreign_layer(blob.media_type))
    ]
    if missing:
        raise _blob_unknown(
            f"manifest {raw.digest} needs blob {missing[0].digest} of {missing[0].size} bytes,"
            " which is not here",
            [{"digest": str(blob.digest)} for blob in missing],
        )


def _headers(descriptor: Descriptor) -> dict[str, str]:
    return {
        "Content-Type": descriptor.media_type,
        "Docker-Content-Digest": str(descriptor.digest),
        "ETag": f'"{descriptor.digest}"',
    }


def _unknown(reference: str) -> Refusal:
    return Refusal(
        HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"there is no manifest {reference!r:.140}"
    )


def _blob_unknown(message: str, detail: object = None) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", message, detail=detail)
