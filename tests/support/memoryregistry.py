"""A registry in memory: what an honest server answers to a recorded request.

:class:`tests.support.faultserver.FaultServer` puts it behind a socket, and in the way of faults.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import threading
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.manifest import RawManifest

__all__ = ["Answer", "Basic", "Bearer", "MemoryRegistry", "Recorded"]

#: Status, headers and body.
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Basic:
    """Every request needs this user and password."""

    user: tuple[str, str]


@dataclass
class Bearer:
    """Every request needs a token from ``realm`` (None: ``/token`` of this server).

    Tokens go to ``user`` or to the holder of ``identity``; with neither, to anybody.  Each is good
    for ``uses`` requests.
    """

    user: tuple[str, str] | None = None
    identity: str | None = None
    realm: str | None = None
    uses: int | None = None
    expires_in: int | None = 300
    tokens: dict[str, tuple[frozenset[str], list[int]]] = field(default_factory=dict)

    def revoke(self) -> None:
        """Make every token given so far useless."""
        self.tokens.clear()


@dataclass(frozen=True)
class Recorded:
    """One request: header names are in lower case; ``body`` is what arrived of it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)


class MemoryRegistry:
    """Blobs and manifests by repository, uploads by session; tests may change all of them.

    ``auth`` is what every request needs; ``page_size`` cuts lists into pages.
    """

    def __init__(self) -> None:
        self.url = ""
        self.auth: Basic | Bearer | None = None
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[str, dict[str, tuple[str, bytes]]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.sessions = itertools.count()
        self.page_size: int | None = None
        self.requests: list[Recorded] = []
        self.lock = threading.RLock()

    def seen(self, method: str, target: str = "") -> list[Recorded]:
        """The requests so far with this method and with ``target`` in their target."""
        with self.lock:
            return [r for r in self.requests if r.method == method and target in r.target]

    def add_blob(self, data: bytes, path: str = "team/app", media_type: str = "x/y") -> Descriptor:
        digest = Digest.of(data)
        self.blobs.setdefault(path, {})[str(digest)] = data
        return Descriptor(media_type, digest, len(data))

    def add_manifest(
        self, data: bytes, media_type: str, path: str = "team/app", tag: str | None = None
    ) -> RawManifest:
        raw = RawManifest(data, media_type, Digest.of(data))
        for reference in filter(None, (str(raw.digest), tag)):
            self.manifests.setdefault(path, {})[reference] = (media_type, data)
        return raw

    def answer(self, record: Recorded) -> Answer:
        """What a registry without faults says to this request."""
        return _route(self, record.method, record.target, record)


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]})
    return status, {"Content-Type": "application/json", **(headers or {})}, body.encode()


def _route(owner: MemoryRegistry, method: str, target: str, record: Recorded) -> Answer:
    url = urlsplit(target)
    query = dict(parse_qs(url.query).items())
    if url.path == "/token":
        return _token(owner, method, query, record)
    if owner.auth is not None and (refusal := _refuse(owner, method, url.path, record)):
        return refusal
    if url.path == "/v2/":
        return 200, {}, b"{}"
    if url.path == "/v2/_catalog":
        return _page(owner, url.path, query, "repositories", sorted(owner.manifests))
    match = re.fullmatch(r"/v2/(.+?)/(manifests|blobs|tags)/(.*)", url.path)
    if match is None:
        return _error(404, "NOT_FOUND")
    path, kind, rest = match.groups()
    if kind == "tags":
        if path not in owner.manifests:
            return _error(404, "NAME_UNKNOWN")
        names = sorted(name for name in owner.manifests[path] if ":" not in name)
        return _page(owner, url.path, query, "tags", names)
    if kind == "manifests":
        return _manifest(owner, method, path, rest, record)
    if rest.startswith("uploads/"):
        return _upload(owner, method, path, rest.removeprefix("uploads/"), query, record)
    data = owner.blobs.get(path, {}).get(rest)
    if data is None:
        return _error(404, "BLOB_UNKNOWN")
    return 200, {"ETag": f'"{rest}"', "Docker-Content-Digest": rest}, data


def _page(
    owner: MemoryRegistry, base: str, query: dict[str, list[str]], key: str, names: list[str]
) -> Answer:
    rest = [name for name in names if name > query.get("last", [""])[0]]
    size = owner.page_size or len(rest)
    headers = {"Content-Type": "application/json"}
    if len(rest) > size:
        headers["Link"] = f'<{base}?n={size}&last={rest[size - 1]}>; rel="next"'
    return 200, headers, json.dumps({key: rest[:size]}).encode()


def _manifest(
    owner: MemoryRegistry, method: str, path: str, reference: str, record: Recorded
) -> Answer:
    stored = owner.manifests.setdefault(path, {}) if method == "PUT" else owner.manifests.get(path)
    if method == "PUT" and stored is not None:
        data = bytes(record.body)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        stored[digest] = stored[reference] = (record.headers["content-type"], data)
        return 201, {"Docker-Content-Digest": digest, "Location": "/x"}, b""
    if stored is None or reference not in stored:
        return _error(404, "MANIFEST_UNKNOWN")
    if method == "DELETE":
        del stored[reference]
        return 202, {}, b""
    kind, data = stored[reference]
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return 200, {"Content-Type": kind, "Docker-Content-Digest": digest}, data


def _upload(
    owner: MemoryRegistry,
    method: str,
    path: str,
    session: str,
    query: dict[str, list[str]],
    record: Recorded,
) -> Answer:
    if method == "POST":
        mount, origin = query.get("mount", [""])[0], query.get("from", [""])[0]
        if mount in owner.blobs.get(origin, {}):
            owner.blobs.setdefault(path, {})[mount] = owner.blobs[origin][mount]
            return 201, {"Location": f"/v2/{path}/blobs/{mount}"}, b""
        session = f"u{next(owner.sessions)}"
        owner.uploads[session] = bytearray()
    upload = owner.uploads.get(session)
    if upload is None:
        return _error(404, "BLOB_UPLOAD_UNKNOWN")
    if method == "DELETE":
        del owner.uploads[session]
        return 204, {}, b""
    if method == "PATCH":
        place = re.fullmatch(r"(\d+)-(\d+)", record.headers.get("content-range", ""))
        if place is not None and int(place[1]) != len(upload):
            return _error(416, "RANGE_INVALID")
        upload += record.body
    if method == "PUT":
        upload += record.body
        digest = f"sha256:{hashlib.sha256(upload).hexdigest()}"
        del owner.uploads[session]
        if query.get("digest") != [digest]:
            return _error(400, "DIGEST_INVALID")
        owner.blobs.setdefault(path, {})[digest] = bytes(upload)
        return 201, {"Docker-Content-Digest": digest}, b""
    headers = {"Location": f"/v2/{path}/blobs/uploads/{session}?state={len(upload)}"}
    headers["Range"] = f"0-{max(0, len(upload) - 1)}"
    return 204 if method == "GET" else 202, headers, b""


def _refuse(owner: MemoryRegistry, method: str, path: str, record: Recorded) -> Answer | None:
    """The 401 this request deserves, if it does."""
    sent = record.headers.get("authorization", "")
    if isinstance(owner.auth, Basic):
        if sent == _basic(owner.auth.user):
            return None
        return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="registry, here"'})
    auth = owner.auth
    assert auth is not None
    match = re.match(r"/v2/(.+?)/(?:manifests|blobs|tags)/", path)
    action = "pull" if method in ("GET", "HEAD") else "push"
    scopes, uses = auth.tokens.get(sent.removeprefix("Bearer "), (frozenset[str](), [0]))
    allowed = match is None or any(
        scope.startswith(f"repository:{match[1]}:") and action in scope.rpartition(":")[2]
        for scope in scopes
    )
    if uses[0] > 0 and allowed:
        uses[0] -= 1
        return None
    realm = auth.realm or f"{owner.url}/token"
    scope = f',scope="repository:{match[1]}:{action}"' if match else ""
    challenge = f'Bearer realm="{realm}",service="the registry"{scope}'
    return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})


def _token(
    owner: MemoryRegistry, method: str, query: dict[str, list[str]], record: Recorded
) -> Answer:
    auth = owner.auth
    assert isinstance(auth, Bearer)
    if method == "POST":
        query = parse_qs(record.body.decode())
        known = auth.identity is not None and query.get("refresh_token") == [auth.identity]
    else:
        known = auth.user is None or record.headers.get("authorization") == _basic(auth.user)
    if not known:
        return _error(401, "UNAUTHORIZED")
    scopes = frozenset(scope for text in query.get("scope", []) for scope in text.split())
    with owner.lock:
        token = f"token-{len(owner.seen('GET', '/token'))}-{len(owner.seen('POST', '/token'))}"
        auth.tokens[token] = (scopes, [1_000_000 if auth.uses is None else auth.uses])
    key = "access_token" if method == "POST" else "token"
    document: dict[str, object] = {key: token}
    if auth.expires_in is not None:
        document["expires_in"] = auth.expires_in
    return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()


def _basic(user: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(user).encode()).decode()
