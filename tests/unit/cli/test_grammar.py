from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kstore.cli import spellings
from kstore.cli.grammar import declare
from kstore.cli.main import COMMANDS, cli
from kstore.cli.spellings import command_meant, option_meant
from tests.support.cli import environment, run, run_process

#: What starting fast forbids; each of them takes longer than a whole `kstore images`.
HEAVY = ("urllib3", "gnupg", "sqlite_utils", "rich", "isal", "zstandard", "logging", "http.client")


def modules_after(*args: object) -> set[str]:
    script = (
        "import json, sys; from kstore.cli.main import main; code = main(sys.argv[1:]);"
        " print('MODULES' + json.dumps(sorted(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=30,
        check=True,
    )
    return set(json.loads(done.stdout.rpartition("MODULES")[2]))


def test_the_help_loads_no_command_and_nothing_heavy() -> None:
    loaded = modules_after("--help")
    assert not loaded & {*HEAVY, "sqlite3", "kstore.app", "kstore.store"}
    assert not {name for name in loaded if name.startswith("kstore.cli.commands.")}


@pytest.mark.parametrize("command", ["images", "tag", "inspect", "rmi", "history"])
def test_the_help_of_a_command_does_not_open_the_store(command: str) -> None:
    assert not modules_after(command, "--help") & {*HEAVY, "sqlite3"}


def test_listing_images_loads_nothing_heavy(tmp_path: Path) -> None:
    run("--root", tmp_path / "root", "prune")
    loaded = modules_after("--root", tmp_path / "root", "images")
    assert "sqlite3" in loaded
    assert not loaded & set(HEAVY)


def test_no_command_is_help_with_exit_code_0() -> None:
    result = run()
    assert (result.code, result.err) == (0, "")
    assert result.out == run("--help").out


def test_the_help_groups_every_command_under_its_section() -> None:
    lines = run("-h").out.splitlines()
    for name, entry in COMMANDS.items():
        [line] = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith(entry.summary)
        assert f"{entry.section}:" in lines[: lines.index(line)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_examples(name: str) -> None:
    result = run(name, "--help")
    assert result.code == 0
    usage, _, rest = result.out.partition("\n\n")
    assert usage.startswith(f"Usage: kstore {name}")
    examples = rest.partition("Examples:\n")[2].splitlines()
    assert any("kstore " in line for line in examples)
    assert any(line.startswith("  # ") for line in examples)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_called_what_the_table_says(name: str) -> None:
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None
    assert command.name == name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_text(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help or param.name == "sort", f"{name} {param.opts}"


def test_an_unknown_command_is_refused_with_the_nearest_one() -> None:
    result = run("imges")
    assert result.code == 2
    assert "no such command 'imges'; did you mean 'images'?" in result.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("ls",), "no such command 'ls'; here that is images"),
        (("help", "pull"), "no such command 'help'; here that is --help"),
        (("ps", "-a"), "no such command 'ps'; here that is containers"),
        (("digest", "x"), "no such command 'digest'; here that is inspect -f"),
        (("pull", "--arch=arm64", "x"), "no such option '--arch'; here that is --platform OS/ARCH"),
        (("copy", "--multi-arch", "all", "a", "b"), "'--multi-arch'; here that is --all"),
        (("pull", "--insecure", "x"), "'--insecure'; here that is --tls-verify=false"),
        (("rmi", "--arch", "x"), "no such option '--arch'"),
        (("ingest", "list"), "no such command 'list'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_other_tools_call_it_leads_to_what_it_is_here(
    args: tuple[str, ...], said: str
) -> None:
    result = run(*args)
    assert result.code == 2
    assert said in result.err
    assert ("here that is" in result.err) == ("here that is" in said)


def test_every_hint_for_users_of_other_tools_names_what_there_is() -> None:
    context, known = click.Context(cli), {*COMMANDS, "--help"}
    options = set()
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        options |= {text for param in command.params for text in param.opts}
    assert [name for name in spellings._COMMANDS if not command_meant(name, known)] == []
    assert [name for name in spellings._OPTIONS if not option_meant(name, options)] == []
    assert not set(spellings._COMMANDS) & set(COMMANDS)


@pytest.mark.parametrize("name", ["run", "start"])
def test_a_command_that_others_have_is_not_taken_for_a_misspelt_one(name: str) -> None:
    result = run(name)
    assert result.code == 2
    assert f"no such command {name!r}\n" in result.err


def test_an_unknown_option_is_refused_with_the_nearest_ones() -> None:
    result = run("images", "--filte", "x")
    assert result.code == 2
    assert result.err.splitlines()[1] == (
        "kstore: no such option '--filte'; did you mean '--filter'?"
    )


@pytest.mark.parametrize("option", ["--root", "--offline", "--additional-store"])
def test_a_global_option_in_the_wrong_place_is_explained(option: str) -> None:
    result = run("images", option, "x")
    assert result.code == 2
    assert result.err.splitlines()[1:] == [
        f"kstore: no such option '{option}'",
        f"hint: {option} goes before the command: kstore {option} ...",
    ]


def test_the_version_is_told_in_two_ways() -> None:
    from kstore import __version__

    assert run("--version").out == f"kstore {__version__}\n"
    assert json.loads(run("version", "--format", "json").out)["kstore"] == __version__


@declare("try")
@click.argument("words", nargs=-1)
@click.option("--tls-verify/--no-tls-verify", default=None)
@click.option("-q", "--quiet", is_flag=True)
@click.option("-m", "--message")
def try_command(
    words: tuple[str, ...], tls_verify: bool | None, quiet: bool, message: str | None
) -> None:
    click.echo(json.dumps([words, tls_verify, quiet, message]))


def tried(*args: str) -> object:
    with try_command.make_context("try", list(args)) as context:
        return [
            list(context.params["words"]),
            context.params["tls_verify"],
            context.params["quiet"],
            context.params["message"],
        ]


@pytest.mark.parametrize(
    ("args", "meaning"),
    [
        (("a",), [["a"], None, False, None]),
        (("--tls-verify", "a"), [["a"], True, False, None]),
        (("--tls-verify=true", "a"), [["a"], True, False, None]),
        (("a", "--tls-verify=false"), [["a"], False, False, None]),
        (("--tls-verify=0", "a"), [["a"], False, False, None]),
        (("--no-tls-verify", "a"), [["a"], False, False, None]),
        (("--quiet=true", "a"), [["a"], None, True, None]),
        (("a", "--quiet=false"), [["a"], None, False, None]),
        (("a", "-q", "b", "-m", "x=y"), [["a", "b"], None, True, "x=y"]),
        (("--", "--tls-verify=false"), [["--tls-verify=false"], None, False, None]),
    ],
)
def test_flags_may_have_a_value_and_stand_behind_arguments(
    args: tuple[str, ...], meaning: object
) -> None:
    assert tried(*args) == meaning


def test_a_flag_with_another_value_is_refused() -> None:
    with pytest.raises(click.BadOptionUsage, match="takes true or false"):
        tried("--tls-verify=maybe")


def test_the_program_runs_as_a_module() -> None:
    result = run_process("--version")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("kstore ")
