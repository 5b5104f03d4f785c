"""Archives and registries that mean harm; each row says how a command may answer.

Sources of the rows: published advisories on container tools (path traversal, ambiguous documents,
bombs, endless answers) and defects that other tools of this kind had.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.formats.archive import MAX_ENTRIES
from tests.support.dockertars import Files, Link, modern_docker, tar_of
from tests.support.images import random_image
from tests.support.tarheaders import block

__all__ = ["ARCHIVES", "MANIFESTS", "OFFERED", "Archive"]

#: What is offered in most rows, before it is made hostile.
OFFERED = random_image(11, compression="none")
_CONFIG = f"blobs/sha256/{OFFERED.id}"
_LAYER = f"blobs/sha256/{OFFERED.layers[0].digest.hex}"
#: Exit codes: refused; taken, for it does no harm; stopped by the limit on files.
_BAD, _FINE, _FULL = frozenset({2, 3, 4, 5, 6}), frozenset({0}), frozenset({10})


@dataclass(frozen=True, slots=True)
class Archive:
    """``make`` gives the bytes; ``codes`` are the exit codes that are right."""

    make: Callable[[], bytes]
    codes: frozenset[int] = _BAD


def _files() -> Files:
    return modern_docker({"hostile:1": OFFERED})


def _changed(**changes: bytes | Link | None) -> Callable[[], bytes]:
    """The archive with files replaced, removed (None) or added; ``CONFIG`` and ``LAYER`` are
    names of such files."""

    def make() -> bytes:
        files = _files()
        for name, content in changes.items():
            name = {"CONFIG": _CONFIG, "LAYER": _LAYER}.get(name, name)
            if content is None:
                del files[name]
            else:
                files[name] = content
        return tar_of(files)

    return make


def _extra(name: str, content: bytes | Link = b"x") -> Callable[[], bytes]:
    return lambda: tar_of([*_files().items(), (name, content)])


def _listed(**changes: Any) -> Callable[[], bytes]:
    """``manifest.json`` says something else, and is the only list."""

    def make() -> bytes:
        files = _files()
        (entry,) = json.loads(files["manifest.json"])  # type: ignore[arg-type]
        files["manifest.json"] = json.dumps([entry | changes]).encode()
        del files["index.json"], files["oci-layout"]
        return tar_of(files)

    return make


def _indexed(change: Callable[[dict[str, Any]], object]) -> Callable[[], bytes]:
    """``index.json`` says something else, and is the only list."""

    def make() -> bytes:
        files = _files()
        index = json.loads(files["index.json"])  # type: ignore[arg-type]
        change(index)
        files["index.json"] = json.dumps(index).encode()
        del files["manifest.json"]
        return tar_of(files)

    return make


def _entry(**changes: Any) -> Callable[[], bytes]:
    return _indexed(lambda index: index["manifests"][0].update(changes))


def _special(kind: bytes, name: str = "special", link: str = "") -> Callable[[], bytes]:
    """The archive with a device, a pipe or the like in it, in the place of the file ``name``."""

    def make() -> bytes:
        files = {other: content for other, content in _files().items() if other != name}
        output = io.BytesIO(tar_of(files))
        with tarfile.open(fileobj=output, mode="a") as tar:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o4777
            tar.addfile(info)
        return output.getvalue()

    return make


def _header(offset: int, raw: bytes) -> Callable[[], bytes]:
    """The archive with bytes of its first header replaced, and the checksum made right."""

    def make() -> bytes:
        data = bytearray(tar_of(_files()))
        data[offset : offset + len(raw)] = raw
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
        return bytes(data)

    return make


def _pax(**records: str) -> Callable[[], bytes]:
    def make() -> bytes:
        output = io.BytesIO(tar_of(_files()))
        with tarfile.open(fileobj=output, mode="a", format=tarfile.PAX_FORMAT) as tar:
            info = tarfile.TarInfo("extended")
            info.pax_headers = records
            tar.addfile(info)
        return output.getvalue()

    return make


def _nested(depth: int) -> Callable[[], bytes]:
    """Indexes in indexes, each a blob of its own."""

    def make() -> bytes:
        files = _files()
        del files["manifest.json"]
        (member,) = json.loads(files["index.json"])["manifests"]  # type: ignore[arg-type]
        for _ in range(depth):
            index = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [member]}
            data = json.dumps(index).encode()
            digest = Digest.of(data)
            files[f"blobs/sha256/{digest.hex}"] = data
            member = {"mediaType": mt.OCI_INDEX, "digest": str(digest), "size": len(data)}
            member["annotations"] = {"org.opencontainers.image.ref.name": "deep"}
        files["index.json"] = json.dumps(
            {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [member]}
        ).encode()
        return tar_of(files)

    return make


def _itself() -> bytes:
    """An index whose only member has its own name, which no index can know."""
    files = _files()
    del files["manifest.json"]
    member = {"mediaType": mt.OCI_INDEX, "digest": str(_OTHER), "size": 0}
    index = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [member]}
    member["size"] = len(json.dumps(index)) + 2  # this number has two digits more than 0
    files[f"blobs/sha256/{_OTHER.hex}"] = files["index.json"] = json.dumps(index).encode()
    return tar_of(files)


def _twice(name: str, content: bytes) -> Callable[[], bytes]:
    return lambda: tar_of([*_files().items(), (name, content)])


def _crowded() -> bytes:
    """As many members as are allowed and one more, none of which has content."""
    return block(b"6") * (MAX_ENTRIES + 1) + bytes(1024)


def _bomb() -> bytes:
    return gzip.compress(bytes(600 << 20), 1)


_OTHER = random_image(12).layers[0].digest
_MANY = [{"mediaType": mt.OCI_MANIFEST, "digest": str(_OTHER), "size": 1}]
_TRAVERSALS = ("sha256:../../../../etc/passwd", "sha256:" + "A" * 64, "sha256:", "x", "../x:y")

ARCHIVES: dict[str, Archive] = {
    # names and links that lead out
    "an absolute name": Archive(_extra("/etc/kstore-canary")),
    "a name with two dots": Archive(_extra("../kstore-canary")),
    "two dots in the middle": Archive(_extra("a/../../kstore-canary")),
    "an empty name": Archive(_extra(""), _BAD | _FINE),
    "a dot that is a link": Archive(_special(tarfile.SYMTYPE, ".", "/etc"), _BAD | _FINE),
    "a file through a link": Archive(
        lambda: tar_of([*_files().items(), ("d", Link("/etc")), ("d/canary", b"x")]), _BAD | _FINE
    ),
    "a layer that is a link out": Archive(_changed(LAYER=Link("../../../../../../etc/passwd"))),
    "a config that is an absolute link": Archive(_changed(CONFIG=Link("/etc/passwd"))),
    "a config that is a hard link out": Archive(_changed(CONFIG=Link("/etc/passwd", hard=True))),
    "a hard link to nothing": Archive(_changed(LAYER=Link("nothing", hard=True))),
    "a hard link up": Archive(_changed(LAYER=Link("../../../etc/passwd", hard=True))),
    "a hard link to where the command runs": Archive(
        _changed(LAYER=Link("pyproject.toml", hard=True))
    ),
    "a hard link to a link out": Archive(
        _changed(LAYER=Link("x/y/z", hard=True), **{"x/y/z": Link("../../../../etc/passwd")})
    ),
    "links that lead out together": Archive(
        _changed(
            LAYER=Link("a/b/escape/etc/passwd", hard=True),
            **{"a/b/c/up": Link("../.."), "a/b/escape": Link("c/up/../..")},
        )
    ),
    "links in a circle": Archive(_changed(LAYER=Link("circle"), circle=Link(_LAYER))),
    "a list that is a link out": Archive(
        _changed(**{"manifest.json": Link("/etc/passwd"), "index.json": None})
    ),
    # what is no file
    "a character device": Archive(_special(tarfile.CHRTYPE), _FINE),
    "a pipe": Archive(_special(tarfile.FIFOTYPE), _FINE),
    "a pipe for a blob": Archive(_special(tarfile.FIFOTYPE, "blobs/sha256/" + "0" * 64), _FINE),
    "a block device for a layer": Archive(_special(tarfile.BLKTYPE, _LAYER)),
    "a directory for a layer": Archive(_special(tarfile.DIRTYPE, _LAYER)),
    "a directory for the list": Archive(_special(tarfile.DIRTYPE, "manifest.json"), _BAD | _FINE),
    # the same thing twice, or something else
    "two lists": Archive(_twice("manifest.json", b"[]")),
    "two indexes": Archive(_twice("index.json", b"{}")),
    "a blob twice": Archive(_twice(_LAYER, b"other bytes")),
    "a layer of other bytes": Archive(_changed(LAYER=b"other bytes")),
    "a config of other bytes": Archive(_changed(CONFIG=b'{"os":"linux"}')),
    "no layer": Archive(_changed(LAYER=None)),
    "no config": Archive(_changed(CONFIG=None)),
    # the lists
    "a config outside": Archive(_listed(Config="../../etc/passwd")),
    "a layer outside": Archive(_listed(Layers=["/etc/passwd", "../x"])),
    "layers that are no list": Archive(_listed(Layers={"a": 1})),
    "more layers than the config knows": Archive(_listed(Layers=[_LAYER] * 5)),
    "tags that are no names": Archive(
        _listed(RepoTags=["UPPER/case", "a" * 5000, "a:b:c", "\x1b[2J"]), _FINE
    ),
    "a list of many tags": Archive(
        _listed(RepoTags=[f"t:{n}" for n in range(100_000)]), _BAD | _FINE
    ),
    "a list that is no JSON": Archive(_changed(**{"manifest.json": b"[" * 100_000})),
    "a list with a key twice": Archive(
        _changed(**{"manifest.json": b'[{"Config":"a","Config":"b","Layers":[]}]'})
    ),
    "a list of two mebibytes": Archive(_changed(**{"manifest.json": b" " * (2 << 20) + b"[]"})),
    "an index of a hundred thousand entries": Archive(
        _indexed(lambda index: index.update(manifests=_MANY * 100_000))
    ),
    "an index in an index a hundred deep": Archive(_nested(100)),
    "an index that names itself": Archive(_itself),
    "another version of the layout": Archive(
        _changed(**{"oci-layout": b'{"imageLayoutVersion":"9.9.9"}', "manifest.json": None}),
        frozenset({6}),
    ),
    **{f"the digest {text:.20}": Archive(_entry(digest=text)) for text in _TRAVERSALS},
    "a size that is too small": Archive(_entry(size=3)),
    "a size that is too large": Archive(_entry(size=10**9)),
    "a size of ten to the fifteenth": Archive(_entry(size=10**15)),
    "a negative size": Archive(_entry(size=-1)),
    "a size of a thousand digits": Archive(
        _changed(**{"index.json": b'{"schemaVersion":' + b"9" * 1000 + b"}", "manifest.json": None})
    ),
    "foreign addresses": Archive(_entry(urls=["http://127.0.0.1:1/x"]), _BAD | _FINE),
    # the tar itself
    "cut in the middle": Archive(lambda: tar_of(_files())[:3000]),
    "more files than any image has": Archive(_crowded),
    "a name in another alphabet than utf-8": Archive(_extra("caf\udce9"), _FINE),
    "cut before its end": Archive(lambda: tar_of(_files()).rstrip(b"\0")),
    "something behind its end": Archive(lambda: tar_of(_files()) + b"junk" * 200),
    "a wrong checksum": Archive(lambda: b"x" + tar_of(_files())[1:]),
    "a negative size in a header": Archive(_header(124, b"\xff" * 12)),
    "a huge size in a header": Archive(_header(124, b"\x80" + b"\x7f" * 11)),
    "a sparse file": Archive(_header(156, b"S"), _BAD | _FINE),
    "an extended header of a gigabyte": Archive(
        lambda: _header(156, b"x")()[:124] + b"10000000000\0" + _header(156, b"x")()[136:]
    ),
    "an extended path with a zero byte": Archive(_pax(path="a\0b"), _BAD | _FINE),
    "an extended path with a line break": Archive(_pax(path="a\nb"), _FINE),
    "an extended size that lies": Archive(_pax(size="99999999999")),
    "a sparse map of a billion": Archive(
        _pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 18}),
        _BAD | _FINE,
    ),
    "a bomb": Archive(_bomb, _BAD | _FULL),
    "a bomb in a bomb": Archive(lambda: gzip.compress(gzip.compress(bytes(100 << 20)))),
    "gzip cut short": Archive(lambda: gzip.compress(tar_of(_files()))[:-9]),
    "gzip with something behind": Archive(lambda: gzip.compress(tar_of(_files())) + b"junk"),
    "nothing at all": Archive(bytes),
    "only zeros": Archive(lambda: bytes(1 << 20)),
}


def _document(**changes: Any) -> bytes:
    return json.dumps(json.loads(OFFERED.raw.data) | changes).encode()


def _blob(digest: str = str(_OTHER), size: Any = 10, **more: Any) -> dict[str, Any]:
    return {"mediaType": mt.OCI_LAYER_GZIP, "digest": digest, "size": size, **more}


def _manifests() -> Iterator[tuple[str, bytes]]:
    config = _blob() | {"mediaType": mt.OCI_CONFIG}
    for text in (*_TRAVERSALS, "sha256:" + "g" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 32, ""):
        yield f"layer digest {text:.18}", _document(layers=[_blob(text)])
        yield f"config digest {text:.18}", _document(config=config | {"digest": text})
    for name in ("manifests", "fsLayers", "history"):
        yield f"layers and {name}", _document(**{name: []})
    for size in (-1, 10**19, 1.5, "10", None, True, 2**63):
        yield f"size {size!r}", _document(layers=[_blob(size=size)])
    yield "another media type", _document(mediaType=mt.OCI_INDEX)
    yield "a key in other letters", _document(MediaType=mt.OCI_MANIFEST)
    yield "a million layers", b'{"schemaVersion":2,"layers":[' + b"{}," * 10**6 + b"{}]}"
    yield "ten thousand layers", _document(layers=[_blob()] * 10_000)
    yield "deep nesting", _document(annotations="X").replace(b'"X"', b"[" * 5000 + b"]" * 5000)
    yield "a key twice", OFFERED.raw.data.replace(b'{"', b'{"schemaVersion":2,"', 1)
    yield "not a number", _document(schemaVersion=2).replace(b": 2", b": NaN", 1)
    yield (
        "an integer of many digits",
        _document(schemaVersion=2).replace(b": 2", b": " + b"2" * 6000),
    )
    yield "half of a surrogate pair", _document(annotations="X").replace(b'"X"', b'{"a":"\\ud800"}')
    yield "layers that are no list", _document(layers={"0": _blob()})
    yield "a config that is no object", _document(config=[])
    yield "five mebibytes", _document(annotations={"x": "y" * (5 << 20)})
    yield "nothing", b""
    yield "a list", b"[]"
    yield "binary", bytes(range(256))


#: Manifests a registry may send, by what is wrong with them.
MANIFESTS: Mapping[str, bytes] = dict(_manifests())
