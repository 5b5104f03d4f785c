"""From what a user writes to an image of the store.

In this order: an explicit ID (``sha256:...``, ``@...``), a name, a unique prefix of an ID (at least
three hex digits).  A short name (without a registry) means ``localhost/NAME`` if there is one, else
its docker.io form.  ``NAME@DIGEST`` and ``NAME@ID`` need both to agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kstore.digest import SHORT_ID_LENGTH, Digest
from kstore.errors import (
    REPAIR,
    AmbiguousNameError,
    ImageNotFoundError,
    InvalidDigestError,
    InvalidReferenceError,
    StoreDamagedError,
    UnsupportedError,
)
from kstore.reference import LOCAL_DOMAIN, Named, has_domain
from kstore.store.queries import (
    load_images,
    load_manifest,
    load_name,
    load_names,
    manifest_image,
)
from kstore.store.records import Found, ImageRecord, NameRecord
from kstore.store.session import Session

__all__ = ["elsewhere", "find_image", "find_name", "get_image"]

_ID = re.compile(r"[0-9a-f]{3,128}", re.ASCII)
_FULL_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TRANSPORT = re.compile(r"[a-z][a-z0-9-]*://", re.ASCII)
_SHA256 = "sha256:"
_LISTED = 10


def get_image(session: Session, image_id: str) -> ImageRecord:
    """The image with exactly this ID; ImageNotFoundError."""
    for image in load_images(session, [image_id]):
        return image
    raise ImageNotFoundError(
        f"no image with the ID {image_id!r:.140} in the store", hint="kstore images"
    )


def find_image(session: Session, text: str, *, pullable: bool = True) -> Found:
    """See :meth:`kstore.store.Store.find_image`."""
    _refuse_foreign(text)
    with session.db.snapshot():
        found = _by_explicit_id(session, text) or _by_name(session, text)
        if found is None and _ID.fullmatch(text):
            found = _by_prefix(session, text)
    found = found or _by_meaning(session, text)
    if found is None:
        raise ImageNotFoundError(
            f"no image {text!r:.300} in the store", hint=_way_out(session, text, pullable=pullable)
        )
    return found


def _way_out(session: Session, text: str, *, pullable: bool) -> str:
    """What helps somebody who named an image that is not there."""
    from kstore.store.suggestions import nearest

    if near := nearest(session, text):
        return f"did you mean {near}?"
    try:
        Named.parse(text)
    except InvalidReferenceError:  # such as NAME@ID
        pullable = False
    like_id = len(text) >= SHORT_ID_LENGTH and _ID.fullmatch(text)
    return f"kstore pull {text[:300]}" if pullable and not like_id else "kstore images"


def elsewhere(found: Found) -> UnsupportedError:
    """The error for changing an image of an additional store."""
    place = found.image.location
    return UnsupportedError(
        f"image {found.image.short_id} is in the additional store {place}, which is only read",
        hint=f"kstore copy oci:{place}:... kstore:NAME brings it into the own store",
    )


def _refuse_foreign(text: str) -> None:
    if not text:
        raise InvalidReferenceError("the image name is empty")
    if text.startswith("["):
        raise InvalidReferenceError(
            f"{text!r:.300} names another store in brackets", hint="use --root DIRECTORY instead"
        )
    if match := _TRANSPORT.match(text):
        raise InvalidReferenceError(
            f"{text!r:.300} is not a name of an image in the store",
            hint=f"leave out {match.group()}",
        )


def _by_explicit_id(session: Session, text: str) -> Found | None:
    """``@ID``, ``@sha256:ID``, ``sha256:ID`` and a full ID; None if it is none of these."""
    digits = text.removeprefix("@").removeprefix(_SHA256)
    if digits == text and not _FULL_ID.fullmatch(text):
        return None
    found = _by_prefix(session, digits) if _ID.fullmatch(digits) else None
    if found is None and _FULL_ID.fullmatch(digits):
        found = _by_manifest(session, Digest("sha256", digits))
    if found is None and text.startswith("@") and not _ID.fullmatch(digits):
        raise InvalidReferenceError(f"{text!r:.300} is not @ID (at least 3 hex digits)")
    if found is None and (text.startswith("@") or _FULL_ID.fullmatch(digits)):
        raise ImageNotFoundError(
            f"no image with the ID {digits!r:.140} in the store", hint="kstore images"
        )
    return found  # sha256:abc may still be the tag abc of an image called sha256


def _by_prefix(session: Session, prefix: str) -> Found | None:
    rows = session.db.rows(
        "SELECT id FROM image WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        [prefix, prefix + "g", _LISTED + 1],
    )
    images = load_images(session, [row[0] for row in rows])
    exact = [image for image in images if image.id == prefix]
    images = exact or images
    if len(images) > 1:
        raise _ambiguous(prefix, images)
    return Found(images[0], None, images[0].manifests[0]) if images else None


def _by_manifest(session: Session, digest: Digest) -> Found | None:
    image_id = manifest_image(session.db, digest)
    return Found(get_image(session, image_id), None, digest) if image_id else None


def find_name(session: Session, text: str) -> NameRecord | None:
    """See :meth:`kstore.store.Store.find_name`."""
    _refuse_foreign(text)
    with session.db.snapshot():
        return _record(session, text)


def _by_name(session: Session, text: str) -> Found | None:
    record = _record(session, text)
    return _found(session, record, text) if record is not None else None


def _record(session: Session, text: str) -> NameRecord | None:
    """A name, None if there is no such name; InvalidReferenceError if it cannot be one."""
    name, at, suffix = text.partition("@")
    if at and not name:
        return None
    digest = _digest(suffix)
    if at and digest is None and not _ID.fullmatch(suffix.removeprefix(_SHA256)):
        Named.parse(text)  # says what is wrong
        raise InvalidReferenceError(f"{text!r:.300} is neither NAME@DIGEST nor NAME@ID")
    if not at and _FULL_ID.fullmatch(name):
        return None
    for candidate in _candidates(name):
        record = (
            _agreeing(session, candidate, digest, suffix.removeprefix(_SHA256))
            if at
            else load_name(session.db, candidate.with_default_tag())
        )
        if record is not None:
            return record
    return None


def _by_meaning(session: Session, text: str) -> Found | None:
    """By what a short name means elsewhere, where nothing here is called so."""
    if has_domain(text) or "@" in text:
        return None
    meanings = [named.with_default_tag() for named in session.meanings(text)]
    with session.db.snapshot():
        for named in meanings:
            record = load_name(session.db, named)
            if record is not None:
                return _found(session, record, text)
    return None


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigestError:
        return None


def _candidates(name: str) -> Iterator[Named]:
    if not has_domain(name):
        yield Named.parse(name, default_domain=LOCAL_DOMAIN)
    yield Named.parse(name)


def _agreeing(
    session: Session, named: Named, digest: Digest | None, digits: str
) -> NameRecord | None:
    """The name on which both sides of the ``@`` agree."""
    if digest is not None:
        exact = load_name(session.db, Named(named.domain, named.path, named.tag, digest))
        if exact is not None:
            return exact
        records = [
            record
            for record in load_names(session.db, named.repository)
            if named.tag in (None, record.name.tag)
            and digest in (record.target, record.manifest, record.via)
        ]
        if len({record.manifest for record in records}) > 1:
            names = ", ".join(str(record.name) for record in records[:_LISTED])
            raise AmbiguousNameError(f"{named}@{digest} leads to several images: {names}")
        if records:
            return records[0]
    record = load_name(session.db, named.with_default_tag())
    if record is None or record.manifest is None:
        return None
    image_id = manifest_image(session.db, record.manifest)
    return record if image_id is not None and image_id.startswith(digits) else None


def _found(session: Session, record: NameRecord, text: str) -> Found:
    if record.manifest is None:
        raise ImageNotFoundError(
            f"{text!r:.300} names an index of which no image is in the store",
            hint=f"kstore pull {record.name}",
        )
    image_id = manifest_image(session.db, record.manifest)
    if image_id is None:
        known = load_manifest(session.db, record.manifest)
        if known is not None and not known.complete:
            raise StoreDamagedError(f"the manifest of {text!r:.300} is damaged", hint=REPAIR)
        raise ImageNotFoundError(f"{text!r:.300} names an artifact, which is not an image")
    for image in load_images(session, [image_id]):
        return Found(image, record.name, record.manifest)
    raise StoreDamagedError(f"the entry of {text!r:.300} is damaged", hint=REPAIR)


def _ambiguous(prefix: str, images: list[ImageRecord]) -> AmbiguousNameError:
    shown = [
        f"{image.id[: max(SHORT_ID_LENGTH, len(prefix) + 1)]}"
        f" ({', '.join(name.name.familiar for name in image.names[:3]) or 'no name'})"
        for image in images[:_LISTED]
    ]
    rest = ", ..." if len(images) > _LISTED else ""
    return AmbiguousNameError(
        f"{prefix!r} is the start of several image IDs: {', '.join(shown)}{rest}",
        hint="give more digits of the ID",
    )
