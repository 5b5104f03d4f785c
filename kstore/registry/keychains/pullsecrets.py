"""Pull secrets of Kubernetes: how they are written, and which images their entries are for.

Source: Kubernetes documentation, "Images", sections "Using a private registry" and "Interpretation
of config.json"; the secret types kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kstore import strictjson
from kstore.errors import InvalidManifestError, StorageError
from kstore.registry.authdocument import MAX_FILE, AuthDocument, aliases
from kstore.registry.credentials import Credentials

__all__ = ["best_match", "documents_in", "documents_of"]

_NEW, _OLD = ".dockerconfigjson", ".dockercfg"
_API = re.compile(r"/v[12]/?\Z")
_MAX_ITEMS = 256


def documents_in(path: Path) -> Iterator[AuthDocument]:
    """The credentials in a file (a secret's content, or the secret itself as JSON, or a list of
    secrets), or in a directory a secret is mounted at.  Raises StorageError."""
    if path.is_dir():
        found = [path / name for name in (_NEW, _OLD) if (path / name).is_file()]
        if not found:
            raise StorageError(f"pull secret {path} has neither {_NEW} nor {_OLD}")
        for file in found:
            yield from documents_in(file)
        return
    what = f"pull secret {path}"
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE + 1)
    except OSError as exc:
        raise StorageError(f"{what} cannot be read: {exc.strerror}") from exc
    try:
        data = strictjson.as_object(strictjson.loads(content, what, cap=MAX_FILE), what)
    except InvalidManifestError as exc:
        raise StorageError(exc.message) from exc
    if data.get("kind") in ("Secret", "List", "SecretList"):
        yield from documents_of(data, what)
    else:
        yield AuthDocument(data, what, flat="auths" not in data)


def documents_of(data: Mapping[str, Any], what: str) -> Iterator[AuthDocument]:
    """The credentials in a Secret, or in each of a list of them.  Raises StorageError."""
    items = data.get("items")
    if isinstance(items, list):
        for item in items[:_MAX_ITEMS]:
            if isinstance(item, dict) and "items" not in item:
                yield from documents_of(item, what)
        return
    for key, flat in ((_NEW, False), (_OLD, True)):
        content = _content(data, key, what)
        if content is not None:
            yield AuthDocument.parse(content, f"{key} of {what}", flat=flat)


def _content(data: Mapping[str, Any], key: str, what: str) -> bytes | None:
    plain, encoded = data.get("stringData"), data.get("data")
    if isinstance(plain, dict) and isinstance(plain.get(key), str):
        return str(plain[key]).encode()
    text = encoded.get(key) if isinstance(encoded, dict) else None
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise StorageError(f"{key} of {what} is not base64") from exc


def best_match(documents: Iterable[AuthDocument], host: str, path: str) -> Credentials | None:
    """The credentials under the most specific key that fits a repository; of equals the first."""
    best: tuple[int, Credentials] | None = None
    for document in documents:
        for key, credentials in document.entries():
            fit = _fit(key, host, path)
            if fit is not None and (best is None or fit > best[0]):
                best = (fit, credentials)
    return best[1] if best is not None else None


def _fit(key: str, host: str, path: str) -> int | None:
    """How exactly a key fits a repository; None if it does not.  ``*`` stands for (a part of) one
    label of the host."""
    bare = _API.sub("", key.removeprefix("https://").removeprefix("http://"))
    pattern, _, inside = bare.rstrip("/").partition("/")
    if not any(_host_fits(pattern, name) for name in aliases(host)):
        return None
    if inside and not f"{path}/".startswith(f"{inside}/"):
        return None
    return 2 * len(inside) + ("*" not in pattern)


def _host_fits(pattern: str, host: str) -> bool:
    name, _, port = pattern.partition(":")
    own, _, own_port = host.partition(":")
    labels, own_labels = name.split("."), own.split(".")
    if port != own_port or len(labels) != len(own_labels):
        return False
    return all(map(fnmatchcase, own_labels, labels))
