"""What reads bytes from outside, as functions of bytes: they return, or raise one of our errors.

Each target has seeds that it accepts; what is made of them is tried by :mod:`tests.faults.fuzzing`.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import tarfile
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zstandard

from kstore import strictjson
from kstore.cli.templates import Template
from kstore.compression import decompressor
from kstore.digest import Digest
from kstore.errors import KstoreError
from kstore.formats.archive import open_archive
from kstore.formats.docker_tar import list_images
from kstore.formats.oci_layout import LayoutIndex, Selector
from kstore.formats.tar_reader import TarReader
from kstore.manifest import ImageConfig, RawManifest, parse
from kstore.platforms import Platform
from kstore.reference import Named
from kstore.registry import AuthFiles
from kstore.registry.challenge import parse_challenges
from kstore.registry.plaintoml import read_simple
from kstore.registry.registriesfiles import RegistriesPaths, load_registries
from kstore.signing.policyfile import parse_policy
from kstore.streams import BytesStream, pump
from kstore.transports import validate_policy_scope
from tests.support.images import index_of, random_image

__all__ = ["TARGETS", "Target"]

_OUTPUT = 1 << 20  # bytes a stream may unpack to


@dataclass(frozen=True, slots=True)
class Target:
    """``run`` reads bytes; ``seeds`` are some that it accepts."""

    name: str
    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]

    def __call__(self, data: bytes) -> None:
        with contextlib.suppress(KstoreError):
            self.run(data)


def _reference(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    named = Named.parse(text)
    assert Named.parse(str(named)) == named
    assert str(named.with_default_tag())


def _small_words(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for read in (Digest.parse, Platform.parse, Selector.parse):
        with contextlib.suppress(KstoreError):
            read(text)


def _manifest(data: bytes) -> None:
    raw = RawManifest.receive(data)
    assert raw.data == data
    parse(raw)


def _config(data: bytes) -> None:
    ImageConfig.parse(data)


def _json(data: bytes) -> None:
    value = strictjson.loads(data, "it", cap=1 << 16)
    json.dumps(value, allow_nan=False).encode()


def _tar(data: bytes) -> None:
    reader, buffer = TarReader(BytesStream(data)), memoryview(bytearray(4096))
    for entry in reader:
        assert entry.size >= 0
        while reader.readinto(buffer):
            pass


def _unpacking(kind: str) -> Callable[[bytes], object]:
    def unpack(data: bytes) -> None:
        plain = decompressor(kind, BytesStream(data), max_output=_OUTPUT)
        assert pump(plain, lambda view: None) <= _OUTPUT

    return unpack


def _layout(data: bytes) -> None:
    index = LayoutIndex.parse(data, "it")
    assert len(index.refs) == len(index.entries)
    for text in (None, "v1", "@0"):
        with contextlib.suppress(KstoreError):
            index.find(Selector.parse(text))
    LayoutIndex.parse(index.render(), "what was rendered")


def _archive(data: bytes) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        open_archive(io.BytesIO(data), spool_dir=Path(directory)) as archive,
    ):
        list_images(archive)


def _auth(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        AuthFiles((), explicit=Path(file.name)).lookup("localhost:5000", "team/app")


def _registries(data: bytes) -> None:
    """Also: the reader for the simple part of TOML agrees with the standard one."""
    with contextlib.suppress(UnicodeDecodeError):
        text = data.decode()
        simple = read_simple(text)
        assert simple is None or simple == tomllib.loads(text)
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        found = load_registries(RegistriesPaths(only=Path(file.name)))
    for name in ("docker.io/library/app:v1", f"quay.io/team/app@{_DIGEST}"):
        found.check_allowed(name)
        assert found.places(Named.parse(name))


def _policy(data: bytes) -> None:
    document = parse_policy(data, "it", validate_policy_scope)
    assert document.default


def _challenge(data: bytes) -> None:
    for challenge in parse_challenges([data.decode("latin-1")]):
        assert challenge.scheme


def _template(data: bytes) -> None:
    record = {"ID": "abc", "Size": 7, "Names": ["a", "b"], "Labels": {"k": "v"}, "No": None}
    Template.parse(data.decode("utf-8", "replace")).render(record)


def _tar_seed() -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind in (
            ("d", tarfile.DIRTYPE),
            ("d/f", tarfile.REGTYPE),
            ("l", tarfile.SYMTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "d/f" if kind == tarfile.SYMTYPE else ""
            info.size = 5 if kind == tarfile.REGTYPE else 0
            info.pax_headers = {"SCHILY.xattr.user.x": "y"} if kind == tarfile.REGTYPE else {}
            tar.addfile(info, io.BytesIO(b"hello"))
        end = tar.offset
    return output.getvalue()[: end + 1024]


def _archive_seed() -> bytes:
    output = io.BytesIO()
    listed = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"]}]
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, data in (("manifest.json", json.dumps(listed).encode()), ("c.json", b"{}")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        end = tar.offset
    return output.getvalue()[: end + 1024]


_IMAGE = random_image(1)
_DIGEST = f"sha256:{'a' * 64}"
_LAYOUT = {
    "schemaVersion": 2,
    "manifests": [
        _IMAGE.raw.descriptor.to_json()
        | {"annotations": {"org.opencontainers.image.ref.name": "v1"}}
    ],
}
_AUTHS = {
    "auths": {"localhost:5000": {"auth": base64.b64encode(b"ann:secret").decode()}},
    "credHelpers": {"quay.io": "pass"},
}
_REGISTRIES = (
    b'unqualified-search-registries = ["docker.io", "quay.io"]\nshort-name-mode = "enforcing"\n'
    b'[[registry]]\nprefix = "*.example.org"\nblocked = true\n'
    b'[[registry]]\nlocation = "quay.io"\n[[registry.mirror]]\nlocation = "mirror.example/x"\n'
    b'insecure = true # yes\npull-from-mirror = "digest-only"\n[aliases]\n"a/b" = "quay.io/a/b"\n',
    b'[registries.search]\nregistries = ["docker.io"]\n[registries.block]\nregistries = []\n',
)
_POLICY = {
    "default": [{"type": "reject"}],
    "transports": {
        "docker": {
            "quay.io/team": [
                {
                    "type": "signedBy",
                    "keyType": "GPGKeys",
                    "keyPaths": ["/a", "/b"],
                    "signedIdentity": {"type": "exactReference", "dockerReference": "quay.io/a:1"},
                }
            ],
            "*.example.org": [
                {
                    "type": "sigstoreSigned",
                    "keyData": base64.b64encode(b"key").decode(),
                    "signedIdentity": {
                        "type": "remapIdentity",
                        "prefix": "mirror.example.org",
                        "signedPrefix": "quay.io",
                    },
                }
            ],
        },
        "dir": {"/var/images": [{"type": "insecureAcceptAnything"}]},
    },
}
_CHALLENGES = (
    b'Bearer realm="https://a.example/token",service="r",scope="repository:a/b:pull,push"',
    b'Basic realm="x", Negotiate, Bearer realm="http://b/",error="invalid_token"',
)
_TEMPLATES = (
    b"{{.ID}}\t{{.Size}}",
    b"table {{range .Names}}{{.}},{{end}}{{if eq .Size 7}}{{json .}}{{else}}x{{end}}",
    b'{{index .Labels "k" | printf "%-5s" | upper}}',
)
TARGETS = {
    target.name: target
    for target in (
        Target("reference", _reference, (b"a", b"quay.io:443/a/b:v1@" + _DIGEST.encode())),
        Target("words", _small_words, (_DIGEST.encode(), b"linux/arm64/v8", b"name:tag", b"@3")),
        Target("manifest", _manifest, (_IMAGE.raw.data, index_of([_IMAGE]).data)),
        Target("config", _config, (_IMAGE.config,)),
        Target("json", _json, (b'{"a":[1,2.5,"\\u00e4",null,true]}',)),
        Target("tar", _tar, (_tar_seed(),)),
        Target("gzip", _unpacking("gzip"), (gzip.compress(b"x" * 99) + gzip.compress(b"y"),)),
        Target("zstd", _unpacking("zstd"), (zstandard.ZstdCompressor().compress(b"x" * 99),)),
        Target("layout", _layout, (json.dumps(_LAYOUT).encode(),)),
        Target("archive", _archive, (_archive_seed(),)),
        Target("auth.json", _auth, (json.dumps(_AUTHS).encode(),)),
        Target("registries.conf", _registries, _REGISTRIES),
        Target("policy.json", _policy, (json.dumps(_POLICY).encode(),)),
        Target("www-authenticate", _challenge, _CHALLENGES),
        Target("template", _template, _TEMPLATES),
    )
}
