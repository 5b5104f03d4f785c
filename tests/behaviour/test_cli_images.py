"""Images of the store, as the command line shows and changes them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from kstore.store import Store
from tests.support.cli import run, run_on_terminal, run_process
from tests.support.images import TestImage, layer_tar, random_image
from tests.support.stores import put_image

LABELS = {"vendor": "acme", "nasty": "a\nb\x1b[31m"}
NEWER = random_image(1, labels=LABELS, created="2024-06-01T00:00:00Z")
OLDER = random_image(2, layer_size=9000, created="2024-01-02T03:04:05Z")
UNDATED = random_image(3, created=None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store of the test's own; see :func:`fill`."""
    return fill(tmp_path / "root")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store for the tests that change nothing; see :func:`fill`."""
    return fill(tmp_path_factory.mktemp("shared") / "root")


def fill(root: Path) -> Path:
    """A store with an image of two names, one of one name, and one without any."""
    with Store.open(root, command="test") as store:
        put_image(store, OLDER, "docker.io/library/busybox")
        put_image(store, NEWER, "quay.io/team/app:1", "localhost/app")
        put_image(store, UNDATED)
    return root


def lines(root: Path, *args: object) -> list[str]:
    """The output lines of a command that must succeed without a word on standard error."""
    result = run("--root", root, *args)
    assert (result.code, result.err) == (0, "")
    return result.out.splitlines()


def loaded(root: Path, *args: object) -> Any:
    return json.loads("\n".join(lines(root, *args)))


def short(image: TestImage) -> str:
    return image.id[:12]


# ---- images


def test_images_are_a_table_with_a_row_for_each_name_newest_first(shared: Path) -> None:
    table = lines(shared, "images")
    assert table[0].split("   ")[0] == "REPOSITORY"
    assert [line.split()[:3] for line in table[1:]] == [
        ["localhost/app", "latest", short(NEWER)],
        ["quay.io/team/app", "1", short(NEWER)],
        ["docker.io/library/busybox", "latest", short(OLDER)],
        ["<none>", "<none>", short(UNDATED)],
    ]
    assert re.search(r" +\d+ (weeks|months|years) ago +[\d.]+ kB$", table[1])
    assert re.search(r" +unknown +[\d.]+ kB$", table[4])


def test_no_trunc_shows_whole_ids_and_digests_shows_digests(shared: Path) -> None:
    table = lines(shared, "images", "--no-trunc", "--digests", "busybox")
    assert OLDER.id in table[1]
    assert str(OLDER.raw.digest) in table[1]


def test_quiet_shows_every_id_once(shared: Path) -> None:
    assert lines(shared, "images", "-q") == [short(NEWER), short(OLDER), short(UNDATED)]
    assert lines(shared, "images", "-q", "--no-trunc", "busybox") == [OLDER.id]


def test_noheading_leaves_the_header_out(shared: Path) -> None:
    assert len(lines(shared, "images", "-n")) == 4
    assert lines(shared, "images", "-n", "nothing/like/this") == []


def test_a_name_and_filters_must_all_hold(shared: Path) -> None:
    assert lines(shared, "images", "-q", "app") == [short(NEWER)]
    assert len(lines(shared, "images", "-n", "team/app")) == 1
    assert lines(shared, "images", "-q", "--filter", "dangling=true") == [short(UNDATED)]
    assert lines(shared, "images", "-q", "-f", "label=vendor=acme") == [short(NEWER)]
    assert lines(shared, "images", "-q", "-f", "label=vendor", "-f", "dangling=true") == []
    assert lines(shared, "images", "-q", "-f", "label!=vendor,dangling=true") == [short(UNDATED)]
    assert lines(shared, "images", "-q", "-f", f"since={OLDER.id[:12]}") == [short(NEWER)]


def test_all_images_are_what_is_listed_anyway(shared: Path) -> None:
    assert lines(shared, "images", "-aq") == lines(shared, "images", "--all", "--quiet")
    assert lines(shared, "images", "-aq") == lines(shared, "images", "-q")


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ("created", NEWER),
        ("size", OLDER),
        ("repository", OLDER),
        ("tag", NEWER),
        ("id", min((NEWER, OLDER, UNDATED), key=lambda image: image.id)),
    ],
)
def test_images_can_be_sorted(shared: Path, order: str, first: TestImage) -> None:
    assert lines(shared, "images", "-q", "--sort", order)[0] == short(first)


def test_json_has_one_object_for_each_image_with_plain_numbers_and_dates(shared: Path) -> None:
    images = loaded(shared, "images", "--format", "json")
    assert [image["id"] for image in images] == [NEWER.id, OLDER.id, UNDATED.id]
    first, _, last = images
    assert sorted(first["names"]) == ["localhost/app:latest", "quay.io/team/app:1"]
    assert first["created"] == "2024-06-01T00:00:00Z"
    assert first["labels"] == LABELS
    assert first["digest"] == str(NEWER.raw.digest)
    assert isinstance(first["size"], int)
    assert last["names"] == []
    assert last["created"] is None


def test_templates_show_one_line_for_each_row(shared: Path) -> None:
    assert lines(shared, "images", "--format", "{{.Name}} {{.ID}}", "busybox") == [
        f"docker.io/library/busybox:latest {short(OLDER)}"
    ]
    table = lines(shared, "images", "--format", "table {{.ID}} {{.Labels.vendor}}", "app")
    assert table == ["IMAGE ID       VENDOR", *[f"{short(NEWER)}   acme"] * 2]


def test_a_pipe_gets_labels_as_they_are_and_a_terminal_gets_them_escaped(root: Path) -> None:
    template = ("images", "--format", "{{.Labels.nasty}}", "team/app")
    assert run("--root", root, *template).out == "a\nb\x1b[31m\n"
    _, screen = run_on_terminal("--root", root, *template)
    assert screen == "a\r\nb\\x1b[31m\r\n"


def test_on_a_terminal_the_header_is_bold_unless_nobody_wants_colour(root: Path) -> None:
    _, screen = run_on_terminal("--root", root, "images")
    assert screen.startswith("\x1b[1mREPOSITORY")
    _, screen = run_on_terminal("--root", root, "images", env={"NO_COLOR": "1"})
    assert "\x1b" not in screen


def test_a_store_that_is_not_there_is_empty_and_is_not_made(tmp_path: Path) -> None:
    root = tmp_path / "none"
    assert len(lines(root, "images")) == 1
    assert loaded(root, "images", "--format", "json") == []
    assert not root.exists()


def test_letters_the_locale_lacks_are_written_as_escapes(shared: Path) -> None:
    template = ("images", "--format", "größe {{.Tag}}", "busybox")
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    result = run_process("--root", shared, *template, env=ascii_only)
    assert (result.code, result.out) == (0, "gr\\xf6\\xdfe latest\n")


def test_the_root_may_come_from_the_environment(shared: Path) -> None:
    result = run_process("images", "-q", env={"KSTORE_ROOT": str(shared)})
    assert result.out.splitlines() == [short(NEWER), short(OLDER), short(UNDATED)]


# ---- inspect, history


def test_inspect_is_a_json_array_of_every_image_that_was_asked_for(shared: Path) -> None:
    app, box = loaded(shared, "inspect", "quay.io/team/app:1", OLDER.id[:6])
    assert (app["Id"], box["Id"]) == (NEWER.id, OLDER.id)
    assert sorted(app["RepoTags"]) == ["localhost/app:latest", "quay.io/team/app:1"]


def test_inspect_shows_what_it_found_and_reports_the_rest(shared: Path) -> None:
    result = run("--root", shared, "inspect", "busybox", "nothing")
    assert result.code == 3
    assert [image["Id"] for image in json.loads(result.out)] == [OLDER.id]
    assert result.err.startswith("kstore: no image 'nothing'")


def test_inspect_takes_a_template(shared: Path) -> None:
    assert lines(shared, "inspect", "--format", "{{.Id}} {{.ID}}", "busybox") == [
        f"{OLDER.id} {OLDER.id}"
    ]
    [line] = lines(shared, "inspect", "--format", "{{json .Labels}}", "quay.io/team/app:1")
    assert json.loads(line) == LABELS


def test_a_mistake_in_a_template_prints_nothing(shared: Path) -> None:
    result = run("--root", shared, "inspect", "--format", "{{.Id}} {{.Nope}}", "busybox", "app")
    assert (result.code, result.out) == (2, "")
    assert "character 11: no field 'Nope' (there are: Id, Digest," in result.err


def test_history_shows_the_steps_newest_first(shared: Path) -> None:
    table = lines(shared, "history", "busybox")
    assert table[0].split() == ["ID", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert table[1].startswith(short(OLDER))
    assert all(line.startswith("<missing>") for line in table[2:])
    steps = loaded(shared, "history", "--format", "json", "busybox")
    assert len(steps) == len(table) - 1
    assert steps[0]["id"] == OLDER.id
    assert isinstance(steps[0]["size"], int)


def test_history_for_machines_has_dates_and_bytes(shared: Path) -> None:
    steps = loaded(shared, "history", "--format", "json", "busybox")
    size = steps[0]["size"]
    assert f" {size}" in lines(shared, "history", "--human=false", "busybox")[1]
    assert lines(shared, "history", "-q", "--no-trunc", "busybox")[0] == OLDER.id


def test_the_history_of_a_name_tells_what_it_meant(root: Path) -> None:
    assert lines(root, "tag", "busybox", "quay.io/team/app:1") == []
    table = lines(root, "history", "--names", "quay.io/team/app:1")
    assert table[0].split() == ["NAME", "FROM", "TO", "WHEN", "COMMAND"]
    assert table[1].split()[:3] == [
        "quay.io/team/app:1",
        NEWER.raw.digest.short,
        OLDER.raw.digest.short,
    ]
    assert table[1].endswith("tag")
    first, second = loaded(root, "history", "--names", "--format", "json", "quay.io/team/app:1")
    assert (first["Old"], second["Old"]) == (str(NEWER.raw.digest), None)
    assert len(lines(root, "history", "--names")) > 2


# ---- tag, untag, rmi


def test_tag_is_silent_and_puts_short_names_under_localhost(root: Path) -> None:
    assert lines(root, "tag", "busybox", "tools", "quay.io/x/y:2") == []
    names = loaded(root, "images", "--format", "json", "tools")[0]["names"]
    assert names == ["localhost/tools:latest"]


def test_a_bad_new_name_moves_nothing(root: Path) -> None:
    result = run("--root", root, "tag", "busybox", "good", "Bad Name")
    assert (result.code, result.out) == (2, "")
    assert lines(root, "images", "-q", "good") == []


def test_untag_takes_names_away_and_keeps_the_image(root: Path) -> None:
    assert lines(root, "untag", "busybox") == ["Untagged: docker.io/library/busybox:latest"]
    assert short(OLDER) in lines(root, "images", "-q", "-f", "dangling=true")


def test_untag_goes_on_after_a_name_that_is_not_there(root: Path) -> None:
    result = run("--root", root, "untag", "nothing", "busybox")
    assert result.code == 3
    assert result.out == "Untagged: docker.io/library/busybox:latest\n"


def test_rmi_by_the_last_name_takes_the_image_with_it(root: Path) -> None:
    assert lines(root, "rmi", "busybox") == [
        "Untagged: docker.io/library/busybox:latest",
        f"Deleted: {OLDER.id}",
    ]


def test_rmi_by_one_of_two_names_keeps_the_image(root: Path) -> None:
    assert lines(root, "rmi", "quay.io/team/app:1") == ["Untagged: quay.io/team/app:1"]
    assert short(NEWER) in lines(root, "images", "-q")


def test_rmi_by_id_needs_force_for_several_names(root: Path) -> None:
    result = run("--root", root, "rmi", short(NEWER))
    assert (result.code, result.out) == (4, "")
    forced = lines(root, "rmi", "--force", short(NEWER))
    assert sorted(forced[:2]) == ["Untagged: localhost/app:latest", "Untagged: quay.io/team/app:1"]
    assert forced[2:] == [f"Deleted: {NEWER.id}"]


def test_rmi_reports_every_failure_and_removes_the_rest(root: Path) -> None:
    result = run("--root", root, "rmi", "nothing", "busybox", short(NEWER))
    assert result.code == 3
    assert f"Deleted: {OLDER.id}" in result.out
    said = [line for line in result.err.splitlines() if line.startswith("kstore: ")]
    assert len(said) == 2


def test_rmi_ignores_what_is_not_there_where_that_is_wanted(root: Path) -> None:
    gone = ["Untagged: docker.io/library/busybox:latest", f"Deleted: {OLDER.id}"]
    assert lines(root, "rmi", "-i", "nothing", "busybox") == gone
    result = run("--root", root, "rmi", "--ignore", "nothing", short(NEWER))
    assert (result.code, result.out) == (4, "")


@pytest.mark.parametrize("command", ["rmi", "untag", "unprotect", "delete kstore:"])
def test_who_takes_away_what_is_not_there_is_sent_to_the_list(root: Path, command: str) -> None:
    result = run("--root", root, *f"{command} zebra".replace(": ", ":").split())
    assert (result.code, result.out) == (3, "")
    assert result.err == "kstore: no image 'zebra' in the store\nhint: kstore images\n"


def test_rmi_all_leaves_an_empty_store(root: Path) -> None:
    removed = lines(root, "rmi", "--all")
    assert len([line for line in removed if line.startswith("Deleted: ")]) == 3
    assert lines(root, "images", "-q") == []


# ---- import, prune, check, info


@pytest.mark.parametrize("form", ["", "table", " table "])
def test_a_format_that_says_nothing_is_the_table(shared: Path, form: str) -> None:
    assert lines(shared, "images", "--format", form) == lines(shared, "images")


def test_what_a_config_does_not_set_is_empty_and_a_misspelling_is_not(shared: Path) -> None:
    assert lines(shared, "inspect", "--format", "<{{.Config.User}}>", "busybox") == ["<>"]
    result = run("--root", shared, "inspect", "--format", "{{.Config.Usr}}", "busybox")
    assert (result.code, result.out) == (2, "")


def test_the_history_of_a_name_that_never_was_is_exit_code_3(shared: Path) -> None:
    result = run("--root", shared, "history", "--names", "nothing")
    assert (result.code, result.out) == (3, "")
    assert run("--root", shared, "history", "--names", "--quiet").code == 2


def test_import_prints_the_id_alone_and_the_image_can_be_found(tmp_path: Path) -> None:
    root, tar = tmp_path / "root", tmp_path / "rootfs.tar"
    tar.write_bytes(layer_tar({"hello": b"world"}))
    result = run("--root", root, "import", "-c", "ENV=A=B=C", "-m", "hi", tar, "base:1")
    image_id = result.out.strip()
    assert (result.code, result.err) == (0, "imported localhost/base:1: " + result.err[27:])
    [found] = loaded(root, "inspect", image_id)
    assert found["RepoTags"] == ["localhost/base:1"]
    assert found["Config"]["Env"] == ["A=B=C"]
    assert loaded(root, "history", "--format", "json", "base:1")[0]["comment"] == "hi"


def test_import_reads_standard_input_and_is_silent_with_quiet(tmp_path: Path) -> None:
    root = tmp_path / "root"
    result = run_process("--root", root, "import", "-q", "-", stdin=layer_tar({"a": b"b"}))
    assert (result.code, result.err) == (0, "")
    assert lines(root, "images", "-q", "--no-trunc") == [result.out.strip()]


def test_import_does_not_wait_for_a_tar_to_be_typed(tmp_path: Path) -> None:
    code, screen = run_on_terminal("--root", tmp_path / "root", "import", "-")
    assert code == 2
    assert "standard input is a terminal" in screen


def test_prune_says_beforehand_what_it_does(root: Path) -> None:
    foretold = lines(root, "prune", "--dry-run")
    assert foretold[0] == f"Would delete: {UNDATED.id}"
    assert short(UNDATED) in lines(root, "images", "-q")
    done = lines(root, "prune")
    assert done[0] == f"Deleted: {UNDATED.id}"
    assert done[1].startswith("Freed ")
    assert foretold[1].removeprefix("Would free ") == done[1].removeprefix("Freed ")
    assert lines(root, "prune") == ["Freed 0 B: there was nothing to remove"]


def test_prune_tells_a_program_as_well(root: Path) -> None:
    foretold = loaded(root, "prune", "--dry-run", "--format", "json")
    done = loaded(root, "prune", "--format", "json")
    assert (foretold.pop("dry_run"), done.pop("dry_run")) == (True, False)
    assert foretold == done
    assert (done["deleted"], done["bytes_freed"] > 0) == ([UNDATED.id], True)
    assert lines(root, "prune", "--format", "{{.bytes_freed}}") == ["0"]


def test_check_of_a_sound_store_is_exit_code_0(shared: Path) -> None:
    [line] = lines(shared, "check", "--deep")
    assert re.fullmatch(r"Checked 3 images and \d+ blobs, .+ hashed: no damage", line)
    assert loaded(shared, "check", "--format", "json")["problems"] == []


def test_check_of_a_damaged_store_is_exit_code_10_and_names_the_blob(root: Path) -> None:
    layer = NEWER.layers[0].digest
    blob = root / "blobs" / "sha256" / layer.hex
    blob.unlink()
    result = run("--root", root, "check")
    assert result.code == 10
    assert layer.hex in result.out
    assert short(NEWER) in result.out
    report = json.loads(run("--root", root, "check", "--format", "json").out)
    assert report["damaged"] is True


def test_check_names_the_images_and_the_command_that_repairs_them(tmp_path: Path) -> None:
    with Store.open(tmp_path / "root", command="test") as store:
        put_image(store, NEWER, "quay.io/team/app:1", "localhost/app")
        put_image(store, OLDER, "localhost/mine")
    for image in (NEWER, OLDER):
        (tmp_path / "root/blobs/sha256" / image.layers[0].digest.hex).unlink()
    result = run("--root", tmp_path / "root", "check")
    assert result.code == 10
    told = result.out.splitlines()
    assert f"    image {short(NEWER)} (localhost/app:latest, quay.io/team/app:1)" in told
    assert told[-1].endswith(": 2 problems in 2 images")
    assert result.err.splitlines() == [
        "hint: 'kstore check --repair' fetches what is damaged again",
        "hint: so does a pull: kstore pull quay.io/team/app:1",
        f"hint: no registry is known to repair these from: {short(OLDER)}",
    ]


def test_check_tells_leftovers_from_damage(shared: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(shared, root, symlinks=True)
    (root / "blobs/sha256" / ("0" * 64)).write_bytes(b"junk")
    result = run("--root", root, "check")
    assert (result.code, result.err) == (0, "hint: 'kstore prune' removes leftovers\n")
    assert result.out.splitlines()[-1].endswith(": no damage, 1 leftover")


def test_check_of_a_damaged_database_says_that_the_images_are_not_lost(root: Path) -> None:
    database = root / "db/kstore.db"
    data = bytearray(database.read_bytes())
    data[8192:40000:7] = bytes(byte ^ 0x55 for byte in data[8192:40000:7])
    database.write_bytes(data)
    result = run("--root", root, "check")
    assert result.code == 10
    assert result.out.startswith("database: ")
    assert "OCI layout" in result.err
    assert "pull" not in result.err


@pytest.mark.parametrize("arguments", [("check", "--deep"), ("import", "-", "copy")])
def test_work_on_many_bytes_shows_how_far_it_is_and_wipes_that(
    root: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    script = (
        "import sys, kstore.cli.meter as meter\n"
        "meter._PATIENCE = meter._REDRAW = 0.0\n"
        "from kstore.cli.main import main\n"
        "sys.exit(main())\n"
    )
    tar = tmp_path / "rootfs.tar"
    tar.write_bytes(layer_tar({"file": bytes(3_000_000)}))
    given = [str(tar) if word == "-" else word for word in arguments]
    code, screen = run_on_terminal("-c", script, "--root", root, *given, program=(sys.executable,))
    assert code == 0
    frames = screen.split("\r\x1b[K")
    assert len(frames) > 2
    assert re.match(r"(hashing|importing .*): [\d.]+ k?M?B of ", frames[-2])
    assert not frames[-1].startswith(("hashing", "importing"))


def test_info_and_version_are_for_people_and_for_machines(shared: Path) -> None:
    assert f"  root: {shared}" in lines(shared, "info")
    assert loaded(shared, "info", "--format", "json")["store"]["images"] == 3
    assert lines(shared, "info", "--format", "{{.store.names}}") == ["3"]
    assert lines(shared, "version")[0].split()[0] == "kstore:"


@pytest.mark.skipif(shutil.which("head") is None, reason="needs head")
def test_a_list_can_be_cut_by_a_pipe_without_noise(shared: Path) -> None:
    _, screen = run_on_terminal(
        "-c",
        f"{sys.executable} -m kstore --root {shared} inspect busybox | head -n 1",
        program=("/bin/sh",),
    )
    assert screen == "[\r\n"
