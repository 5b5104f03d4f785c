from __future__ import annotations

import contextlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from kstore.copier import copy_image
from kstore.descriptor import BlobHint, Descriptor
from kstore.digest import Digest
from kstore.errors import (
    AmbiguousNameError,
    BlobNotFoundError,
    ConflictError,
    DigestMismatchError,
    ImageNotFoundError,
    IntegrityError,
    InvalidInputError,
    InvalidReferenceError,
    ManifestNotFoundError,
    ManifestRejectedError,
    NotFoundError,
    UnsupportedError,
)
from kstore.interfaces import ImageReference
from kstore.reference import Named
from kstore.signing.policy import AcceptAnything
from kstore.transports.docker_archive import DockerArchiveTransport
from tests.support.dockertars import legacy_docker, middle_docker, tar_of
from tests.support.images import ARM64, TestImage, index_of, random_artifact, random_image
from tests.support.memory import Arrived, Memory
from tests.support.sessions import BytesFeed

GZIP = random_image(1)
PLAIN = random_image(2, compression="none")
DOCKER = random_image(3, docker=True)
ZSTD = random_image(4, compression="zstd")
ALL = {"gzip": GZIP, "plain": PLAIN, "docker": DOCKER, "zstd": ZSTD}


@pytest.fixture
def transport(tmp_path: Path) -> DockerArchiveTransport:
    return DockerArchiveTransport(tmp_path)


def named(*texts: str) -> list[Named]:
    return [Named.parse(text) for text in texts]


def copy_in(image: TestImage, destination: ImageReference) -> None:
    copy_image(Memory({"app": image}).reference("app"), destination, AcceptAnything())


def copy_out(source: ImageReference) -> Arrived:
    memory = Memory({})
    copy_image(source, memory.reference("copy"), AcceptAnything())
    return memory.committed["copy"]


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path, "r:") as tar:
        files = [info for info in tar if info.isfile()]
        return {info.name: tar.extractfile(info).read() for info in files}  # type: ignore[union-attr]


def listed(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("name", ALL)
def test_an_image_comes_back_as_it_went_in(
    tmp_path: Path, transport: DockerArchiveTransport, name: str
) -> None:
    reference = transport.parse_reference(f"{tmp_path}/a.tar:team/app:1")
    copy_in(ALL[name], reference)
    for text in (f"{tmp_path}/a.tar:team/app:1", f"{tmp_path}/a.tar", f"{tmp_path}/a.tar:@0"):
        arrived = copy_out(transport.parse_reference(text))
        assert arrived.raw == ALL[name].raw
        assert arrived.blobs == dict(ALL[name].blobs)
    assert listed(tmp_path) == ["a.tar"]


def test_several_images_share_blobs_and_keep_every_name(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    path = tmp_path / "a.tar"
    with transport.open_writer(str(path)) as writer:
        copy_in(GZIP, writer.reference(named("b:1", "localhost:5000/x/a:2")))
        copy_in(DOCKER, writer.reference([]))
        copy_in(GZIP, writer.reference(named("c:1")))
        copy_in(random_image(1, docker=True), writer.reference(named("other:1")))
        assert not path.exists()
    with tarfile.open(path) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    images = json.loads(members(path)["manifest.json"])
    assert [image["RepoTags"] for image in images] == [
        ["docker.io/library/b:1", "docker.io/library/c:1", "localhost:5000/x/a:2"],
        [],
        ["docker.io/library/other:1"],
    ]
    with transport.open_reader(str(path)) as reader:
        found = [copy_out(one) for one in transport.references(str(path), reader)]
    wanted = [GZIP, DOCKER, random_image(1, docker=True)]
    assert [one.raw for one in found] == [image.raw for image in wanted]


def test_an_archive_is_the_same_bytes_each_time(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    for name in ("a", "b"):
        with transport.open_writer(f"{tmp_path}/{name}") as writer:
            for image in ALL.values():
                copy_in(image, writer.reference(named("z:1", "a:1") if image is GZIP else []))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with tarfile.open(tmp_path / "a") as tar:
        for info in tar:
            assert (info.mtime, info.uid, info.gid, info.uname) == (0, 0, 0, "")
            assert info.mode == (0o755 if info.isdir() else 0o644)


def test_the_lists_say_the_same_to_every_reader(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    copy_in(PLAIN, transport.parse_reference(f"{tmp_path}/a.tar:team/app:1"))
    files = members(tmp_path / "a.tar")
    layers = [layer.digest.hex for layer in PLAIN.layers]
    assert json.loads(files["manifest.json"]) == [
        {
            "Config": f"blobs/sha256/{PLAIN.id}",
            "RepoTags": ["docker.io/team/app:1"],
            "Layers": [f"blobs/sha256/{layer}" for layer in layers],
        }
    ]
    assert json.loads(files["repositories"]) == {"docker.io/team/app": {"1": layers[-1]}}
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert Descriptor.from_json(entry, "entry").digest == PLAIN.raw.digest
    assert entry["annotations"] == {
        "io.containerd.image.name": "docker.io/team/app:1",
        "org.opencontainers.image.ref.name": "1",
    }
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert Digest.of(data).hex == name.rpartition("/")[2]


def test_standard_output_and_input_are_streamed(tmp_path: Path) -> None:
    output = io.BytesIO()
    copy_in(GZIP, DockerArchiveTransport(tmp_path, stdout=output).parse_reference("-:app:1"))
    source = DockerArchiveTransport(tmp_path, stdin=io.BytesIO(output.getvalue()))
    assert copy_out(source.parse_reference("-:app:1")).raw == GZIP.raw
    assert listed(tmp_path) == []


def test_without_standard_streams_a_dash_means_nothing(transport: DockerArchiveTransport) -> None:
    reference = transport.parse_reference("-")
    with pytest.raises(InvalidInputError, match="no standard input"):
        reference.open_source()
    with pytest.raises(InvalidInputError, match="no standard output"):
        reference.open_destination()


def test_what_old_docker_wrote_can_be_copied_into_a_new_archive(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    for name, make in (("middle", middle_docker), ("legacy", legacy_docker)):
        (tmp_path / name).write_bytes(tar_of(make({"app:1": PLAIN})))
        old = transport.parse_reference(f"{tmp_path}/{name}:app:1")
        arrived = copy_out(old)
        new = transport.parse_reference(f"{tmp_path}/{name}.new:app:1")
        copy_image(old, new, AcceptAnything())
        assert copy_out(new).raw == arrived.raw
        assert set(arrived.blobs) > {layer.digest for layer in PLAIN.layers}


def test_wrong_bytes_of_a_layer_are_found(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    for form in (middle_docker, legacy_docker):
        files = form({"app:1": PLAIN})
        layer = next(name for name in files if name.endswith("layer.tar"))
        content = files[layer]
        assert isinstance(content, bytes)
        files[layer] = content[:600] + b"X" + content[601:]
        (tmp_path / "a.tar").write_bytes(tar_of(files))
        reference = transport.parse_reference(f"{tmp_path}/a.tar")
        if form is middle_docker:
            with pytest.raises(DigestMismatchError):
                copy_out(reference)
        else:  # this form names layers by nothing but their bytes
            assert copy_out(reference).blobs


def test_a_blob_can_be_read_from_its_middle(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(legacy_docker({"app:1": PLAIN})))
    with transport.parse_reference(f"{tmp_path}/a.tar").open_source() as source:
        layer = PLAIN.layers[0]
        blob = source.open_blob(layer, 1000)
        buffer = memoryview(bytearray(20_000))
        assert blob.offset == 1000
        assert bytes(buffer[: blob.readinto(buffer)]) == PLAIN.blobs[layer.digest][1000:]
        blob.close()
        config = source.open_blob(  # made, not found: it starts at its start
            Descriptor("", json_digest(source.read_manifest().data), 0), 10
        )
        assert config.offset == 0
        missing = Descriptor("", Digest.of(b"missing"), 7)
        with pytest.raises(BlobNotFoundError, match=rf"a\.tar has no blob {missing.digest}"):
            source.open_blob(missing)
        with pytest.raises(ManifestNotFoundError, match="has no manifest"):
            source.read_manifest(missing.digest)
        assert source.read_manifest(source.read_manifest().digest) == source.read_manifest()
        assert source.read_signatures() == ()


def json_digest(manifest: bytes) -> Digest:
    return Digest.parse(json.loads(manifest)["config"]["digest"])


def test_a_failed_copy_leaves_no_file(tmp_path: Path, transport: DockerArchiveTransport) -> None:
    memory = Memory({"app": GZIP})
    memory.lies[GZIP.layers[1].digest] = b"x" * GZIP.layers[1].size
    target = transport.parse_reference(f"{tmp_path}/a.tar:app:1")
    with pytest.raises(DigestMismatchError):
        copy_image(memory.reference("app"), target, AcceptAnything())
    assert listed(tmp_path) == []


def test_one_failed_image_spoils_the_whole_archive(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    memory = Memory({"app": GZIP})
    memory.fail[GZIP.layers[0].digest] = IntegrityError("planned")
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(transport.open_writer(f"{tmp_path}/a.tar"))
        copy_in(DOCKER, writer.reference(named("good:1")))
        with pytest.raises(IntegrityError, match="planned"):
            copy_image(memory.reference("app"), writer.reference([]), AcceptAnything())
        with pytest.raises(IntegrityError, match=r"a\.tar cannot be completed"):
            copy_in(DOCKER, writer.reference(named("late:1")))
        with pytest.raises(IntegrityError, match=r"a\.tar cannot be completed"):
            stack.close()
    assert listed(tmp_path) == []


def test_a_writer_without_images_leaves_no_file(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    with transport.open_writer(f"{tmp_path}/a.tar"):
        pass
    assert listed(tmp_path) == []


def test_an_archive_that_exists_is_not_touched(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    (tmp_path / "a.tar").write_bytes(b"mine")
    with pytest.raises(ConflictError, match=r"a\.tar exists"):
        copy_in(GZIP, transport.parse_reference(f"{tmp_path}/a.tar:app:1"))
    assert (tmp_path / "a.tar").read_bytes() == b"mine"


def test_two_images_cannot_have_one_name(tmp_path: Path, transport: DockerArchiveTransport) -> None:
    with transport.open_writer(f"{tmp_path}/a.tar") as writer:
        copy_in(GZIP, writer.reference(named("app:1")))
        with pytest.raises(ConflictError, match="both called docker.io/library/app:1"):
            copy_in(DOCKER, writer.reference(named("app:1")))
    assert json.loads(members(tmp_path / "a.tar")["manifest.json"])[0]["Config"].endswith(GZIP.id)


def test_an_exception_in_a_session_leaves_no_file(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    with contextlib.suppress(ZeroDivisionError), transport.open_writer(f"{tmp_path}/a.tar") as one:
        copy_in(GZIP, one.reference(named("app:1")))
        copy_in(DOCKER, one.reference(named(f"app:{1 // 0}")))
    assert listed(tmp_path) == []


def test_an_image_is_not_complete_without_its_blobs(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    destination = transport.parse_reference(f"{tmp_path}/a.tar").open_destination()
    with destination:
        destination.write_manifest(GZIP.raw)
        with pytest.raises(IntegrityError, match="needs blob sha256:"):
            destination.commit()
    assert listed(tmp_path) == []


def test_what_an_archive_cannot_hold_is_refused(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    with transport.parse_reference(f"{tmp_path}/a.tar").open_destination() as destination:
        with pytest.raises(ManifestRejectedError, match="holds images, and no manifests of type"):
            destination.write_manifest(index_of([GZIP]))
        with pytest.raises(ManifestRejectedError):
            destination.write_manifest(GZIP.raw, GZIP.raw.digest)
        with pytest.raises(UnsupportedError, match="is an artifact"):
            destination.write_manifest(random_artifact(1).raw)
        with pytest.raises(UnsupportedError, match="signatures"):
            destination.write_signatures([b"x"])
        with pytest.raises(UnsupportedError, match="in advance"):
            destination.write_blob(BytesFeed(GZIP.layers[0], b""), BlobHint(None, None, "x"))
        assert destination.traits.ordered
        assert not destination.traits.concurrent
        assert not destination.traits.indexes


def test_a_name_for_an_archive_has_a_tag_and_no_digest(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    writer = transport.open_writer(f"{tmp_path}/a.tar")
    with writer:
        for text in ("app", f"app@{GZIP.raw.digest}", f"app:1@{GZIP.raw.digest}"):
            with pytest.raises(InvalidReferenceError, match="only tags"):
                writer.reference(named(text))
        reference = writer.reference(named("app:1"))
        assert (reference.transport, reference.docker_reference) == (
            "docker-archive",
            *named("app:1"),
        )
        assert reference.within_transport == f"{tmp_path}/a.tar:docker.io/library/app:1"
        with pytest.raises(UnsupportedError, match="being written"):
            reference.open_source()
        with pytest.raises(UnsupportedError, match="being written"):
            reference.delete()


@pytest.mark.parametrize(
    ("text", "path", "name", "position"),
    [
        ("a.tar", "a.tar", None, None),
        ("/x/a.tar:app", "/x/a.tar", "docker.io/library/app:latest", None),
        ("a:localhost:5000/app:1", "a", "localhost:5000/app:1", None),
        ("a:@0", "a", None, 0),
        ("a:@12", "a", None, 12),
        ("-", "-", None, None),
        ("-:@1", "-", None, 1),
    ],
)
def test_references_are_parsed_and_round_trip(
    transport: DockerArchiveTransport,
    text: str,
    path: str,
    name: str | None,
    position: int | None,
) -> None:
    reference = transport.parse_reference(text)
    assert reference.path == path
    assert (str(reference.named) if reference.named else None) == name
    assert reference.position == position
    assert transport.parse_reference(reference.within_transport) == reference
    assert reference.docker_reference == reference.named


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no path"),
        (":app", "has no path"),
        ("a:", "name is empty"),
        ("a:@", "not a place"),
        ("a:@-1", "not a place"),
        ("a:@x", "not a place"),
        ("a:@01", "not a place"),
        ("a:@1\n", "not a place"),
        ("a:@1:app", "not a place"),
        ("a:UPPER", "lower case"),
        (f"a:app@{GZIP.raw.digest}", "only tags"),
    ],
)
def test_bad_references_say_what_is_wrong(
    transport: DockerArchiveTransport, text: str, message: str
) -> None:
    with pytest.raises(InvalidReferenceError, match=message):
        transport.parse_reference(text)


def test_policy_knows_an_archive_by_its_real_path(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    (tmp_path / "link").symlink_to(".")
    reference = transport.parse_reference(f"{tmp_path}/link/a.tar:app")
    assert reference.policy_identity == f"{tmp_path.resolve()}/a.tar"
    assert str(tmp_path.resolve()) in reference.policy_namespaces
    for scope in reference.policy_namespaces:
        transport.validate_policy_scope(scope)
    with pytest.raises(InvalidInputError):
        transport.validate_policy_scope("docker.io/library")
    assert transport.parse_reference("-").policy_identity == "-"
    assert transport.parse_reference("-").policy_namespaces == ()


def test_what_is_not_there_cannot_be_read_and_nothing_can_be_deleted(
    tmp_path: Path, transport: DockerArchiveTransport
) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.tar"):
        transport.parse_reference(f"{tmp_path}/gone.tar").open_source()
    images = {"one:1": PLAIN, "two:1": random_image(9, platform=ARM64, compression="none")}
    (tmp_path / "a.tar").write_bytes(tar_of(middle_docker(images)))
    with pytest.raises(AmbiguousNameError, match="2 images"):
        transport.parse_reference(f"{tmp_path}/a.tar").open_source()
    with pytest.raises(ImageNotFoundError, match="no image docker.io/library/three:1"):
        transport.parse_reference(f"{tmp_path}/a.tar:three:1").open_source()
    with pytest.raises(UnsupportedError, match="cannot be deleted"):
        transport.parse_reference(f"{tmp_path}/a.tar:one:1").delete()
    with pytest.raises(InvalidReferenceError, match="give a name instead of a place"):
        transport.parse_reference(f"{tmp_path}/b.tar:@0").open_destination()
