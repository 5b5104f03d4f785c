"""Bad input, as a user meets it: one sentence, an exit code, and nothing made.

One case for each kind of damage and each transport that can carry it.  Sources are tried twice: a
copy to another place, and a load into the store, which must refuse them for the same reason.
"""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kstore.digest import Digest
from kstore.formats import spool
from kstore.manifest import RawManifest
from kstore.store import Store
from kstore.transports import oci_directory
from tests.support.cli import PROGRAM, Result, environment, run
from tests.support.dockertars import Files, Link, dump, middle_docker, modern_docker, tar_of
from tests.support.images import TestImage, random_image, write_oci_layout
from tests.support.scripts import read_line, started
from tests.support.tarheaders import block

GZIP = random_image(1, layer_size=300)
PLAIN = random_image(2, layer_size=300, compression="none")
LAYER = GZIP.layers[0].digest
BLOB = f"blobs/sha256/{LAYER.hex}"
UP = "../../"  # from a blob to the top of the archive


@dataclass(frozen=True)
class Bad:
    """A source that is written to a path; ``code`` and ``says``: how it is refused.

    ``options``: of the copy that notices; a load, which changes nothing, may not.  ``load_code``:
    how a load ends that cannot tell what the path was meant to be.
    """

    transport: str
    write: Callable[[Path], object]
    code: int
    says: str
    options: tuple[str, ...] = ()
    load_code: int | None = None


# --- sources, as bytes ----------------------------------------------------------------------------


def modern(image: TestImage = GZIP) -> Files:
    return modern_docker({"app:1": image})


def middle(image: TestImage = PLAIN) -> Files:
    return middle_docker({"app:1": image})


def layout(image: TestImage = GZIP) -> Files:
    """The files of an OCI layout."""
    files: Files = dict(modern(image))
    del files["manifest.json"]
    return files


def tar(files: Files) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(tar_of(files))


def raw(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def tree(files: Files) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        for name, content in files.items():
            place = path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Link):
                place.symlink_to(content.target)
            else:
                place.write_bytes(content)

    return write


def flat(image: TestImage = GZIP) -> Files:
    """The files of a ``dir:`` image."""
    blobs: Files = {digest.hex: data for digest, data in image.blobs.items()}
    version = b"Directory Transport Version: 1.1\n"
    return {"version": version, "manifest.json": image.raw.data, **blobs}


def listed(files: Files, key: str, value: Any) -> Files:
    """The files with another ``key`` in the only image of manifest.json."""
    content = files["manifest.json"]
    assert isinstance(content, bytes)
    (image,) = json.loads(content)
    return {**files, "manifest.json": dump([{**image, key: value}])}


def without(files: Files, name: str) -> Files:
    return {one: content for one, content in files.items() if one != name}


def other_bytes(data: bytes | Link) -> bytes:
    assert isinstance(data, bytes)
    return data[:-1] + bytes([data[-1] ^ 1])


def lying_config() -> TestImage:
    """All digests are right, but the config speaks of other layers than there are."""
    document = json.loads(GZIP.config)
    document["rootfs"]["diff_ids"] = [str(Digest.of(b"other")), str(Digest.of(b"layers"))]
    config = json.dumps(document).encode()
    manifest = json.loads(GZIP.raw.data)
    manifest["config"] |= {"digest": str(Digest.of(config)), "size": len(config)}
    blobs = {layer.digest: GZIP.blobs[layer.digest] for layer in GZIP.layers}
    manifest_raw = RawManifest.receive(json.dumps(manifest).encode())
    return TestImage(
        manifest_raw, {**blobs, Digest.of(config): config}, config, GZIP.layers, GZIP.platform
    )


#: Transports whose images are in a tar: its name, the files of a good one, and a name among them.
ARCHIVES: Mapping[str, Files] = {"docker-archive": modern(), "oci-archive": layout()}
FORMS: Mapping[str, tuple[Files, str, Callable[[Files], Callable[[Path], object]]]] = {
    "docker-archive": (modern(), BLOB, tar),
    "oci-archive": (layout(), BLOB, tar),
    "oci": (layout(), BLOB, tree),
    "dir": (flat(), LAYER.hex, tree),
}

NINE_GIB = b"\x80" + (9 << 30).to_bytes(11, "big")


# --- cases ----------------------------------------------------------------------------------------


def in_every_form() -> Iterator[tuple[str, Bad]]:
    """Damage inside an image, which any form can carry."""
    liar = lying_config()
    images: Mapping[str, Files] = {
        "docker-archive": modern(liar),
        "oci-archive": layout(liar),
        "oci": layout(liar),
        "dir": flat(liar),
    }
    for name, (files, layer, how) in FORMS.items():
        wrong = how({**files, layer: other_bytes(files[layer])})
        yield "a layer of other bytes", Bad(name, wrong, 5, str(LAYER))
        content = files[layer]
        assert isinstance(content, bytes)
        yield "a layer cut short", Bad(name, how({**files, layer: content[:-1]}), 5, "bytes")
        yield "a layer with more behind it", Bad(name, how({**files, layer: content + b"x"}), 5, "")
        yield "a missing layer", Bad(name, how(without(files, layer)), _gone(name), LAYER.hex)
        unpacked = ("--compress", "none")
        yield "other diffIDs", Bad(name, how(images[name]), 5, "config says", unpacked)


def _gone(transport: str) -> int:
    """A docker archive contradicts itself; elsewhere a blob is simply not there."""
    return 5 if transport == "docker-archive" else 3


def in_archives() -> Iterator[tuple[str, Bad]]:
    """Damage of the tar around the images."""
    for name, files in ARCHIVES.items():
        good = tar_of(files)
        links = {
            "a link that leads in a circle": (f"{UP}loop", "circle"),
            "a link out of the archive": (f"{UP}{UP}etc/passwd", "not a file inside"),
            "a link to an absolute name": ("/etc/passwd", "not a file inside"),
            "a link to nothing": (f"{UP}nothing", "not in it"),
        }
        for kind, (target, says) in links.items():
            linked: Files = {**files, BLOB: Link(target), "loop": Link(BLOB)}
            yield kind, Bad(name, tar(linked), 5, says)
        for kind, odd in {"an absolute name": "/etc/passwd", "a name with ..": "a/../../x"}.items():
            yield kind, Bad(name, tar({**files, odd: b"x"}), 5, "not a place inside")
        twice = tar_of([*files.items(), (BLOB, b"other")])
        yield "two entries of one name", Bad(name, raw(twice), 5, "two entries")
        negative = block(size_field=b"\xff" * 12)
        yield "a negative size", Bad(name, raw(negative + good), 5, "size")
        large = block(size_field=NINE_GIB)
        yield "a size of 9 GiB without the bytes", Bad(name, raw(large + good), 5, "cut off")
        yield "a PAX header of 400 MB", Bad(name, raw(block(b"x", size=400 << 20)), 5, "limit")
        yield "trailing garbage", Bad(name, raw(good + b"x"), 5, "trailing garbage")
        yield "a bomb", Bad(name, raw(gzip.compress(good + bytes(8 << 20))), 5, "200 times")
        yield "damaged compression", Bad(name, raw(other_bytes(gzip.compress(good))), 5, "gzip")
        yield "no tar at all", Bad(name, raw(b"<html>" * 200), 5, "is not")
        yield "an empty file", Bad(name, raw(b""), 5, "is empty")
        yield "no file", Bad(name, lambda path: None, 3, "no such file")


def in_docker_archives() -> Iterator[tuple[str, Bad]]:
    name = "docker-archive"
    files = middle()
    (image,) = json.loads(files["manifest.json"])  # type: ignore[arg-type]
    first, second = image["Layers"]
    other = listed(files, "Config", "gone.json")
    yield "a missing config", Bad(name, tar(other), 5, "gone.json")
    missing = without(files, second)
    yield "a missing file that manifest.json names", Bad(name, tar(missing), 5, second)
    twice = listed(files, "Layers", [first, first])
    yield "two diffIDs of one file", Bad(name, tar(twice), 5, "two digests")
    wrong = {**files, first: other_bytes(files[first])}
    yield "a plain layer of other bytes", Bad(name, tar(wrong), 5, "hash")
    packed = {**files, first: gzip.compress(b"another layer", mtime=0)}
    yield "a packed layer of another diffID", Bad(name, tar(packed), 5, "unpacks to")
    outside = listed(files, "Layers", ["../../etc/passwd", second])
    yield "a layer outside the archive", Bad(name, tar(outside), 5, "etc/passwd")
    padded = {**files, "manifest.json": b"[" + b" " * (2 << 20) + b"]"}
    yield "a manifest.json of 2 MiB", Bad(name, tar(padded), 5, "limit")


def in_layouts() -> Iterator[tuple[str, Bad]]:
    files = layout()
    manifest = f"blobs/sha256/{GZIP.raw.digest.hex}"
    hows: Mapping[str, Callable[[Files], Callable[[Path], object]]]
    hows = {"oci-archive": tar, "oci": tree}
    for name, how in hows.items():
        gone = without(files, manifest)
        kind = "an index.json that names a missing manifest"
        yield kind, Bad(name, how(gone), 3, GZIP.raw.digest.hex)
        damaged = {**files, manifest: other_bytes(files[manifest])}
        yield "a manifest of other bytes", Bad(name, how(damaged), 5, GZIP.raw.digest.hex)
        padded = {**files, "index.json": files["index.json"] + b" " * (5 << 20)}  # type: ignore[operator]
        yield "an index.json of 5 MiB", Bad(name, how(padded), 5, "limit")
        broken = {**files, "index.json": b"{"}
        yield "an index.json that is no JSON", Bad(name, how(broken), 5, "index.json")


def in_directories() -> Iterator[tuple[str, Bad]]:
    linked: Files = {**flat(), LAYER.hex: Link("/etc/passwd")}
    yield "a blob that is a link", Bad("dir", tree(linked), 5, "not a plain file")
    in_layout: Files = {**layout(), BLOB: Link("/etc/passwd")}
    yield "a blob that is a link", Bad("oci", tree(in_layout), 10, "not a plain file")
    for name in ("dir", "oci"):
        yield "no directory", Bad(name, lambda path: None, 3, "no such directory")
        yield "an empty directory", Bad(name, Path.mkdir, 3, "not a", load_code=5)
        other = tree({"letter.txt": b"x"})
        yield "a directory of something else", Bad(name, other, 3, "not a", load_code=5)
        yield "a file in place of a directory", Bad(name, raw(b"x"), 3, "not a", load_code=5)
    padded = {**flat(), "manifest.json": GZIP.raw.data + b" " * (5 << 20)}
    yield "a manifest of 5 MiB", Bad("dir", tree(padded), 5, "limit")
    newer = {**flat(), "version": b"Directory Transport Version: 9.9\n"}
    yield "a newer version", Bad("dir", tree(newer), 6, "newer")


def cases() -> list[Any]:
    found = [
        *in_every_form(),
        *in_archives(),
        *in_docker_archives(),
        *in_layouts(),
        *in_directories(),
    ]
    return [pytest.param(bad, id=f"{bad.transport}, {kind}") for kind, bad in found]


def refused(result: Result, code: int, says: str) -> None:
    said = [line for line in result.err.splitlines() if line.startswith("kstore: ")]
    assert result.code == code, result.err
    assert len(said) == 1, result.err
    assert says in said[0]
    assert "Traceback" not in result.err
    assert result.out == ""


@pytest.fixture(autouse=True)
def small_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FREE_BYTES", 1 << 20)


@pytest.mark.parametrize("bad", cases())
def test_a_copy_of_it_is_refused_and_makes_nothing(bad: Bad, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "copy"
    bad.write(source)
    before = set(tmp_path.rglob("*"))
    command = ("copy", "-q", *bad.options, f"{bad.transport}:{source}", f"dir:{target}")
    refused(run("--root", tmp_path / "root", *command), bad.code, bad.says)
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("bad", [case for case in cases() if not case.values[0].options])
def test_a_load_of_it_is_refused_and_leaves_no_image(bad: Bad, tmp_path: Path) -> None:
    source = tmp_path / "source"
    bad.write(source)
    result = run("--root", tmp_path / "root", "load", "-q", "-i", source)
    refused(result, bad.load_code or bad.code, "")
    with Store.open(tmp_path / "root") as store:
        assert store.images() == []
        assert store.names() == []
        assert not store.check(deep=True).damaged


@pytest.mark.parametrize("transport", ARCHIVES)
def test_an_archive_cut_at_any_block_is_refused(transport: str, tmp_path: Path) -> None:
    data = tar_of(ARCHIVES[transport])
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512 + 1024
    source, target = tmp_path / "source", tmp_path / "copy"
    for length in range(0, end, 512):
        source.write_bytes(data[:length])
        result = run("copy", "-q", f"{transport}:{source}", f"dir:{target}")
        refused(result, 5, "archive")
        assert not target.exists()
    source.write_bytes(data[:end])
    assert run("copy", "-q", f"{transport}:{source}", f"dir:{target}").code == 0


@pytest.mark.parametrize("transport", ARCHIVES)
def test_an_archive_with_a_file_of_nine_gib_beside_the_image_is_read(
    transport: str, tmp_path: Path
) -> None:
    """The file is a hole; nobody reads it."""
    size = 9 << 30
    with (tmp_path / "source").open("wb") as file:
        file.write(block(name=b"huge", size_field=NINE_GIB))
        file.truncate(512 + size)
        file.seek(512 + size)
        file.write(tar_of(ARCHIVES[transport]))
    assert run("copy", "-q", f"{transport}:{tmp_path}/source", f"dir:{tmp_path}/copy").code == 0
    assert (tmp_path / "copy/manifest.json").read_bytes() == GZIP.raw.data


# --- destinations ---------------------------------------------------------------------------------


@pytest.fixture
def good(tmp_path: Path) -> str:
    write_oci_layout(tmp_path / "good", {"v1": GZIP})
    return f"oci:{tmp_path}/good:v1"


@pytest.mark.parametrize("transport", [*ARCHIVES, "dir", "oci"])
def test_a_destination_that_holds_something_else_is_not_touched(
    transport: str, good: str, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    if transport in ARCHIVES:
        target.write_bytes(b"precious")
    else:
        target.mkdir()
        (target / "thesis.tex").write_text("precious")
    before = set(tmp_path.rglob("*"))
    refused(run("copy", "-q", good, f"{transport}:{target}"), 4, str(target))
    assert set(tmp_path.rglob("*")) == before
    held = target if transport in ARCHIVES else target / "thesis.tex"
    assert held.read_text() == "precious"


WRITER = """
    import sys
    from kstore.transports.oci import OciTransport
    from tests.support.images import random_image
    from tests.support.sessions import send

    reference = OciTransport().parse_reference(sys.argv[1] + ":v2")
    with reference.open_destination() as destination:
        send(destination, random_image(5))
        print("writing", flush=True)
        sys.stdin.read()
"""


def test_a_layout_that_another_process_writes_to_is_added_to_but_nothing_is_taken_away(
    good: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oci_directory, "_WAIT_SECONDS", 0.05)
    layout = tmp_path / "good"
    before = (layout / "index.json").read_bytes()
    with started(WRITER, str(layout)) as writer:
        assert read_line(writer) == "writing"
        refused(run("delete", good), 10, "in use by another kstore")
        assert (layout / "index.json").read_bytes() == before
        assert run("copy", "-q", good, f"oci:{layout}:v3").code == 0
    assert run("delete", good).code == 0
    assert run("list-tags", f"oci:{layout}").out == "v3\n"


def test_a_daemon_that_is_not_there_is_named_with_its_socket(
    good: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    for ends in ((good, "docker-daemon:app:1"), ("docker-daemon:app:1", f"dir:{tmp_path}/copy")):
        result = run("copy", "-q", *ends)
        refused(result, 8, f"{tmp_path}/no.sock")
        assert "DOCKER_HOST" in result.err
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("transport", ARCHIVES)
def test_a_pipe_that_nobody_reads_any_more_ends_the_copy(transport: str, tmp_path: Path) -> None:
    big = random_image(3, layers=1, layer_size=2 << 20, compression="none")
    write_oci_layout(tmp_path / "big", {"v1": big})
    command = [*PROGRAM, "copy", "-q", f"oci:{tmp_path}/big:v1", f"{transport}:-"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(512)
        process.stdout.close()
        said = process.stderr.read().decode()
        code = process.wait(30)
    assert code != 0
    assert "Traceback" not in said
    assert set(tmp_path.iterdir()) == {tmp_path / "big"}
