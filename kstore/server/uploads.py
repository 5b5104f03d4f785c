"""Taking blobs in over HTTP: at once, in chunks, as a stream, or by mounting what is there.

Source: OCI distribution specification 1.1, "Pushing Blobs" and "Mounting a blob from another
repository".
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from http import HTTPStatus

from kstore.descriptor import MAX_BLOB_SIZE
from kstore.digest import ALGORITHMS, Digest
from kstore.server.exchange import Exchange, digest_of, meanings_of
from kstore.server.intake import Upload
from kstore.server.responses import Refusal, Response
from kstore.store import Lease

__all__ = ["append_upload", "cancel_upload", "finish_upload", "start_upload", "upload_status"]

_CONTENT_RANGE = re.compile(
    r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]{1,18}|\*))?", re.ASCII
)


def start_upload(exchange: Exchange, path: str) -> Response:
    """Begin an upload; mount a blob that is there (``?mount=``), or take one whole (``?digest=``).

    A mount looks at the whole store, whatever ``from`` says.
    """
    meanings_of(path)
    query = exchange.request.query
    if "mount" in query:
        wanted = digest_of(query["mount"])
        with exchange.lease() as lease:
            if lease.adopt([(wanted, None)]):
                return _created(path, wanted)
    if "digest" in query:
        return _upload_whole(exchange, path, digest_of(query["digest"]))
    algorithm = query.get("digest-algorithm", "sha256")
    if algorithm not in ALGORITHMS:
        raise Refusal(
            HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", f"unknown algorithm {algorithm!r:.40}"
        )
    with exchange.lease() as lease:
        upload = exchange.uploads.start(path, algorithm, lease)
    return _accepted(upload, HTTPStatus.ACCEPTED)


def _upload_whole(exchange: Exchange, path: str, digest: Digest) -> Response:
    with exchange.lease() as lease, exchange.uploads.whole(path, digest, lease) as upload:
        _receive(exchange, upload, lease, digest)
    return _created(path, digest)


def append_upload(exchange: Exchange, path: str, upload_id: str) -> Response:
    """The next chunk, or a stream of unknown length."""
    with _continued(exchange, path, upload_id) as (upload, _):
        upload.append(exchange.request.body, _room(exchange))
        return _accepted(upload, HTTPStatus.ACCEPTED)


def finish_upload(exchange: Exchange, path: str, upload_id: str) -> Response:
    """The end of an upload, perhaps with its last bytes; ``?digest=`` says what it must be."""
    with _continued(exchange, path, upload_id) as (upload, lease):
        if "digest" not in exchange.request.query:
            raise Refusal(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", "the digest is missing")
        digest = digest_of(exchange.request.query["digest"])
        _receive(exchange, upload, lease, digest)
    return _created(path, digest)


def upload_status(exchange: Exchange, path: str, upload_id: str) -> Response:
    """How many bytes have arrived; of an upload that a dead server left, those that count."""
    with exchange.uploads.use(upload_id, path) as upload:
        return _accepted(upload, HTTPStatus.NO_CONTENT)


def cancel_upload(exchange: Exchange, path: str, upload_id: str) -> Response:
    """Give an upload up."""
    with exchange.uploads.use(upload_id, path) as upload:
        exchange.uploads.end(upload)
    return Response(HTTPStatus.NO_CONTENT)


@contextlib.contextmanager
def _continued(exchange: Exchange, path: str, upload_id: str) -> Iterator[tuple[Upload, Lease]]:
    """An upload that takes this request's body, which is known to be the next of its bytes."""
    # Bytes of which nobody says where they belong never wait until others have moved the end.
    wait = "content-range" in exchange.request.headers
    with exchange.uploads.use(upload_id, path, wait=wait) as upload, exchange.lease() as lease:
        upload.resume(lease.uploads)
        _check_chunk(exchange, upload)
        yield upload, lease


def _receive(exchange: Exchange, upload: Upload, lease: Lease, digest: Digest) -> None:
    """Take the (rest of the) body in, and make the upload a blob that the server's lease holds."""
    upload.expect(digest)
    upload.append(exchange.request.body, _room(exchange))
    staged = upload.stage(digest)
    lease.commit_blobs([staged], origin=("", meanings_of(upload.repository)[0].repository))


def _room(exchange: Exchange) -> int:
    """The largest blob taken; Refusal (507) if the body cannot fit on the disk."""
    incoming = exchange.request.body.size
    try:
        facts = os.statvfs(exchange.store.root)
    except OSError:
        free = None  # the write itself will tell
    else:
        free = facts.f_bavail * facts.f_frsize
    if incoming is not None and free is not None and incoming > free:
        raise Refusal(
            HTTPStatus.INSUFFICIENT_STORAGE,
            "BLOB_UPLOAD_INVALID",
            f"{incoming} bytes do not fit into the {free} bytes left on the disk",
        )
    limit = exchange.service.settings.max_upload
    return MAX_BLOB_SIZE if limit is None else limit


def _check_chunk(exchange: Exchange, upload: Upload) -> None:
    """A Content-Range must begin where the upload stands, and fit the body's length."""
    text = exchange.request.headers.get("content-range")
    if text is None:
        return
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None or int(match[2]) < int(match[1]):
        raise Refusal(
            HTTPStatus.BAD_REQUEST, "BLOB_UPLOAD_INVALID", "Content-Range is not START-END"
        )
    if int(match[1]) != upload.offset:
        raise Refusal(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "BLOB_UPLOAD_INVALID",
            f"the upload continues at byte {upload.offset}, not at {match[1]}",
            headers=_progress(upload),
        )
    size = exchange.request.body.size
    if size is not None and size != int(match[2]) - int(match[1]) + 1:
        raise Refusal(
            HTTPStatus.BAD_REQUEST, "SIZE_INVALID", "Content-Range does not fit Content-Length"
        )


def _created(path: str, digest: Digest) -> Response:
    return Response(
        HTTPStatus.CREATED,
        {"Location": f"/v2/{path}/blobs/{digest}", "Docker-Content-Digest": str(digest)},
    )


def _accepted(upload: Upload, status: HTTPStatus) -> Response:
    return Response(status, _progress(upload))


def _progress(upload: Upload) -> dict[str, str]:
    # An upload without bytes cannot be told from one with a single byte: so the specification.
    return {
        "Location": f"/v2/{upload.repository}/blobs/uploads/{upload.id}",
        "Range": f"0-{max(upload.offset - 1, 0)}",
        "Docker-Upload-UUID": upload.id,
    }
