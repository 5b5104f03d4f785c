from __future__ import annotations

import contextlib
import io
import os
import pty
import resource
import signal
import stat
import threading
from pathlib import Path

import pytest

from kstore.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    StorageError,
    StorageFullError,
)
from kstore.formats import archive_output
from kstore.formats.archive_output import ArchiveOutput
from tests.support.scripts import read_line, started


def listed(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def write(target: Path, data: bytes = b"content") -> None:
    with ArchiveOutput(target) as output:
        output.write(data)
        output.commit()


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How an unfinished file is kept: the other way is for file systems that know no better."""
    if request.param == "named":
        monkeypatch.setattr(archive_output, "_open_nameless", lambda directory: None)
    return str(request.param)


WRITER = """
    import sys
    from pathlib import Path
    from kstore.formats.archive_output import ArchiveOutput

    with ArchiveOutput(Path(sys.argv[1])) as output:
        output.write(bytes(1 << 20))
        print("writing", flush=True)
        sys.stdin.read()
"""


def test_a_killed_writer_leaves_nothing(tmp_path: Path) -> None:
    with started(WRITER, str(tmp_path / "a.tar")) as writer:
        assert read_line(writer) == "writing"
        assert listed(tmp_path) == []
    assert listed(tmp_path) == []


NAMED_WRITER = f"""
    from kstore.formats import archive_output

    archive_output._open_nameless = lambda directory: None
{WRITER}"""


def test_where_files_need_a_name_the_next_writer_removes_what_a_killed_one_left(
    tmp_path: Path,
) -> None:
    with started(NAMED_WRITER, str(tmp_path / "a.tar")) as writer:
        assert read_line(writer) == "writing"
        (draft,) = listed(tmp_path)
        write(tmp_path / "a.tar")
        assert listed(tmp_path) == [draft, "a.tar"]  # at work, it keeps its file
    (tmp_path / "a.tar").unlink()
    write(tmp_path / "b.tar")
    assert listed(tmp_path) == [draft, "b.tar"]
    write(tmp_path / "a.tar")
    assert listed(tmp_path) == ["a.tar", "b.tar"]


@pytest.mark.usefixtures("way")
def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "a.tar"
    with ArchiveOutput(target) as output:
        output.write(b"con")
        output.write(memoryview(b"tent"))
        assert not target.exists()
        output.commit()
        assert target.read_bytes() == b"content"
    assert listed(tmp_path) == ["a.tar"]


@pytest.mark.usefixtures("way")
def test_the_mode_is_what_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.tar")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.tar").stat().st_mode) == 0o640


@pytest.mark.usefixtures("way")
def test_a_file_can_be_cut_off_and_written_on(tmp_path: Path) -> None:
    with ArchiveOutput(tmp_path / "a.tar") as output:
        output.write(b"good, wrong and long")
        assert output.cut(6)
        output.write(b"right")
        output.commit()
    assert (tmp_path / "a.tar").read_bytes() == b"good, right"


def test_what_went_down_a_pipe_cannot_be_cut_off() -> None:
    stream = io.BytesIO()
    with ArchiveOutput(stream) as output:
        output.write(b"gone")
        assert not output.cut(0)
    assert stream.getvalue() == b"gone"


@pytest.mark.usefixtures("way")
def test_without_commit_nothing_stays(tmp_path: Path) -> None:
    with ArchiveOutput(tmp_path / "a.tar") as output:
        output.write(b"x" * 1_000_000)
    assert listed(tmp_path) == []
    with contextlib.suppress(ZeroDivisionError), ArchiveOutput(tmp_path / "a.tar") as output:
        output.write(b"x")
        output.write(bytes(1 // 0))
    assert listed(tmp_path) == []


@pytest.mark.usefixtures("way")
def test_a_file_that_exists_is_refused_and_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.tar"
    target.write_bytes(b"mine")
    with pytest.raises(ConflictError, match=r"a\.tar exists"):
        ArchiveOutput(target)
    assert target.read_bytes() == b"mine"
    assert listed(tmp_path) == ["a.tar"]


@pytest.mark.usefixtures("way")
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "a.tar"
    with ArchiveOutput(target) as output:
        output.write(b"ours")
        target.write_bytes(b"theirs")
        with pytest.raises(ConflictError, match="exists"):
            output.commit()
    assert target.read_bytes() == b"theirs"
    assert listed(tmp_path) == ["a.tar"]


@pytest.mark.usefixtures("way")
def test_an_empty_file_is_filled_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "made-by-mktemp"
    target.touch(mode=0o600)
    write(target)
    assert target.read_bytes() == b"content"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.usefixtures("way")
def test_a_link_keeps_leading_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/a.tar")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "a.tar").read_bytes() == b"content"
    assert listed(tmp_path / "there") == ["a.tar"]


def test_a_fifo_gets_the_bytes_as_they_come(tmp_path: Path) -> None:
    target = tmp_path / "fifo"
    os.mkfifo(target)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(target.read_bytes()))
    reader.start()
    write(target, b"x" * 300_000)
    reader.join(timeout=20)
    assert found == [b"x" * 300_000]
    assert stat.S_ISFIFO(target.stat().st_mode)


def test_a_stream_gets_the_bytes_and_stays_open() -> None:
    stream = io.BytesIO()
    with ArchiveOutput(stream, what="the stream") as output:
        output.write(b"content")
        output.commit()
    assert stream.getvalue() == b"content"


def test_a_terminal_is_refused() -> None:
    leader, follower = pty.openpty()
    with os.fdopen(leader, "wb", buffering=0), os.fdopen(follower, "wb", buffering=0) as terminal:
        with pytest.raises(InvalidInputError, match="standard output is a terminal"):
            ArchiveOutput(terminal)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="is a terminal"):
            ArchiveOutput(Path(os.ttyname(follower)))


def test_a_closed_pipe_is_one_clean_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as stream:
        output = ArchiveOutput(stream)  # type: ignore[arg-type]
        with output, pytest.raises(StorageError, match="standard output: Broken pipe"):
            output.write(b"x" * 100_000)


@pytest.mark.usefixtures("way")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        full = pytest.raises(StorageFullError, match=r"a\.tar: File too large")
        with ArchiveOutput(tmp_path / "a.tar") as output, full:
            output.write(b"x" * 3_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert listed(tmp_path) == []


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"missing/a\.tar"):
        ArchiveOutput(tmp_path / "missing" / "a.tar")
    with pytest.raises(InvalidInputError, match="is a directory"):
        ArchiveOutput(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Not a directory"):
        ArchiveOutput(tmp_path / "file" / "a.tar")


@pytest.mark.unprivileged
def test_a_directory_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match=r"a\.tar: Permission denied"):
        ArchiveOutput(tmp_path / "a.tar")
    tmp_path.chmod(0o700)
