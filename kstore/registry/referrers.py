"""What refers to a manifest, at registries that list it and at those that do not.

Source: OCI distribution specification 1.1, "Listing Referrers", "Referrers tag schema" and
"Pushing Manifests with Subject".
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    InvalidManifestError,
    ManifestNotFoundError,
    NotFoundError,
    RemoteError,
    UnsupportedError,
)
from kstore.manifest import MAX_INDEX_ENTRIES, RawManifest, parse, parse_index
from kstore.manifest.attached import describe_referrer, referrers_tag
from kstore.registry.auth import repository_scope
from kstore.registry.exchange import Exchange
from kstore.registry.manifests import Manifests
from kstore.registry.pages import listing
from kstore.registry.targets import referrers_target

__all__ = ["Referrers"]

#: What registries say that have never heard of referrers.
_NO_SUCH_LIST = frozenset({400, 404, 405, 406, 501})


class Referrers:
    """The referrers methods of RegistryClient, which has their contract."""

    def __init__(self, exchange: Exchange, manifests: Manifests) -> None:
        self._exchange = exchange
        self._manifests = manifests

    def listed(self, path: str, subject: Digest) -> Iterator[Descriptor]:
        entries = listing(
            self._exchange,
            referrers_target(path, subject),
            "manifests",
            f"the list of what refers to {subject} at {self._exchange.host}/{path}",
            path=path,
            scopes=(repository_scope(path, "pull"),),
            read=_entry,
        )
        try:
            first = next(entries, None)
        except NotFoundError:
            first, entries = None, self._under_tag(path, subject)
        except RemoteError as error:
            if error.status not in _NO_SUCH_LIST:
                raise
            first, entries = None, self._under_tag(path, subject)
        if first is not None:
            yield first
        yield from entries

    def note(self, path: str, raw: RawManifest) -> None:
        """Add a manifest that was stored to the index of its subject's referrers.

        Two who do this at the same moment may lose one entry: the specification has no lock.
        """
        view = parse(raw)
        if view.subject is None:
            return
        entry = describe_referrer(raw, view)
        tag = referrers_tag(view.subject.digest)
        index = self._index(path, tag)
        document = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": []}
        if index is not None:
            document = json.loads(index.data)
            if any(known.digest == entry.digest for known in parse_index(index).manifests):
                return
        listed = document["manifests"]
        assert isinstance(listed, list), "an index that was parsed has one"
        if len(listed) >= MAX_INDEX_ENTRIES:
            raise UnsupportedError(
                f"{self._exchange.host}/{path}:{tag} lists {len(listed)} referrers, and can take no"
                " more"
            )
        listed.append(entry.to_json())
        data = json.dumps(document, separators=(",", ":")).encode()
        self._manifests.put(path, tag, RawManifest.receive(data, mt.OCI_INDEX))

    def _under_tag(self, path: str, subject: Digest) -> Iterator[Descriptor]:
        index = self._index(path, referrers_tag(subject))
        if index is not None:
            yield from parse_index(index).manifests

    def _index(self, path: str, tag: str) -> RawManifest | None:
        try:
            raw = self._manifests.get(path, tag)
        except ManifestNotFoundError:
            return None
        if raw.media_type != mt.OCI_INDEX:
            raise InvalidManifestError(
                f"{self._exchange.host}/{path}:{tag} should be an index of referrers, but is"
                f" {raw.media_type}"
            )
        return raw


def _entry(value: object) -> Descriptor | None:
    try:
        return Descriptor.from_json(value, "an entry")
    except InvalidManifestError:
        return None
