"""registries.conf: read, merged, and asked where an image may be pulled from."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import InvalidInputError, PolicyRejectedError, StorageError
from kstore.reference import Named
from kstore.registry.registriesconf import Peer, Place, RegistriesConf
from kstore.registry.registriesfiles import RegistriesPaths, load_registries

DIGEST = f"@{Digest.of(b'x')}"


def conf(tmp_path: Path, text: str, **drop_ins: str) -> RegistriesConf:
    """The configuration of one main file and drop-ins (by name without ``.conf``)."""
    (tmp_path / "main").write_text(text)
    directory = tmp_path / "conf.d"
    directory.mkdir(exist_ok=True)
    for name, content in drop_ins.items():
        (directory / f"{name}.conf").write_text(content)
    return load_registries(RegistriesPaths((tmp_path / "main",), (directory,)))


def table(prefix: str, location: str = "", *more: str) -> str:
    lines = ["[[registry]]", f'prefix = "{prefix}"', f'location = "{location or prefix}"', *more]
    return "\n".join(lines) + "\n"


def mirror(location: str, *more: str) -> str:
    return "\n".join(("[[registry.mirror]]", f'location = "{location}"', *more)) + "\n"


def pulled(conf: RegistriesConf, name: str) -> list[str]:
    return [str(place.named) for place in conf.places(Named.parse(name))]


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("r.io/a/b/c", "r.io/a/b"),
        ("r.io/a/bc", "r.io/a"),
        ("r.io/ab", "r.io"),
        ("r.io:5000/a", "r.io:5000"),
        ("r.io:6000/a", "r.io"),
        ("xr.io/a", None),
        ("r.iox/a", None),
        ("a.b.w.io/x", "*.w.io"),
        ("b.v.w.io/x", "*.v.w.io"),
        ("v.w.io/x", "v.w.io/x"),
        ("v.w.io/y", "*.w.io"),
        ("v.w.io:5000/y", "*.w.io"),
        ("w.io/x", None),
        ("aw.io/x", None),
        ("r.io", "r.io"),
    ],
)
def test_the_longest_prefix_that_ends_where_a_part_ends_wins(
    tmp_path: Path, name: str, prefix: str | None
) -> None:
    known = ("r.io", "r.io/a", "r.io/a/b", "r.io:5000", "*.w.io", "*.v.w.io", "v.w.io/x")
    found = conf(tmp_path, "".join(map(table, known))).find(name)
    assert (found.prefix if found else None) == prefix


def test_a_name_no_table_is_for_is_pulled_where_it_says(tmp_path: Path) -> None:
    assert pulled(RegistriesConf(), "r.io/a:1") == ["r.io/a:1"]
    assert pulled(conf(tmp_path, table("q.io", "x.io")), "r.io/a:1") == ["r.io/a:1"]


@pytest.mark.parametrize(
    ("prefix", "location", "name", "there"),
    [
        ("r.io", "q.io", "r.io/a/b:1", "q.io/a/b:1"),
        ("r.io/a", "q.io/x/y", "r.io/a/b:1", "q.io/x/y/b:1"),
        ("r.io/a/b", "q.io/z", "r.io/a/b:1", "q.io/z:1"),
        ("docker.io", "q.io/hub", "busybox:1", "q.io/hub/library/busybox:1"),
        ("docker.io/library", "localhost:5000", "busybox:1", "localhost:5000/busybox:1"),
        ("*.w.io", "q.io/w", "a.w.io/b:1", "q.io/w/b:1"),
        ("r.io", "q.io", f"r.io/a:1{DIGEST}", f"q.io/a:1{DIGEST}"),
    ],
)
def test_the_location_takes_the_prefixs_place(
    tmp_path: Path, prefix: str, location: str, name: str, there: str
) -> None:
    assert pulled(conf(tmp_path, table(prefix, location)), name) == [there]


def test_a_wildcard_without_location_changes_no_name(tmp_path: Path) -> None:
    found = conf(tmp_path, '[[registry]]\nprefix = "*.w.io"\ninsecure = true\n')
    (place,) = found.places(Named.parse("a.w.io/b:1"))
    assert (str(place.named), place.peer) == ("a.w.io/b:1", Peer("a.w.io", insecure=True))


@pytest.mark.parametrize(
    ("name", "mirrors"),
    [("r.io/a:1", ["all", "tag"]), (f"r.io/a{DIGEST}", ["all", "digest"]),
     (f"r.io/a:1{DIGEST}", ["all", "digest"])],
    ids=["tag", "digest", "both"],
)  # fmt: skip
def test_mirrors_come_first_if_they_are_for_such_a_name(
    tmp_path: Path, name: str, mirrors: list[str]
) -> None:
    found = conf(
        tmp_path,
        table("r.io")
        + mirror("all.io")
        + mirror("digest.io", 'pull-from-mirror = "digest-only"')
        + mirror("tag.io", 'pull-from-mirror = "tag-only"'),
    )
    domains = [place.peer.host for place in found.places(Named.parse(name))]
    assert domains == [*(f"{name}.io" for name in mirrors), "r.io"]


def test_a_registry_can_keep_its_mirrors_to_digests(tmp_path: Path) -> None:
    found = conf(tmp_path, table("r.io", "r.io", "mirror-by-digest-only = true") + mirror("m.io"))
    assert pulled(found, "r.io/a:1") == ["r.io/a:1"]
    assert pulled(found, f"r.io/a{DIGEST}") == [f"m.io/a{DIGEST}", f"r.io/a{DIGEST}"]


def test_each_server_is_met_as_its_own_table_says(tmp_path: Path) -> None:
    found = conf(tmp_path, table("r.io") + mirror("m.io", "insecure = true") + mirror("r.io/m"))
    peers = [place.peer for place in found.places(Named.parse("r.io/a:1"))]
    assert peers == [
        Peer("m.io", insecure=True, mirror=True, foreign=True),
        Peer("r.io", mirror=True),
        Peer("r.io"),
    ]


def test_a_blocked_registry_is_not_asked_and_the_file_is_named(tmp_path: Path) -> None:
    found = conf(tmp_path, table("r.io/bad", "r.io/bad", "blocked = true"))
    for name in ("r.io/bad", "r.io/bad/x"):
        with pytest.raises(PolicyRejectedError, match=f"{name} is blocked: {tmp_path}/main"):
            found.check_allowed(name)
        with pytest.raises(PolicyRejectedError, match=f"{name} is blocked: {tmp_path}/main"):
            found.places(Named.parse(name))
    assert found.check_allowed("r.io/good") is None


def test_mirrors_of_a_blocked_registry_serve_in_its_place(tmp_path: Path) -> None:
    """How OpenShift keeps machines from a registry, and what podman makes of it."""
    text = table("r.io", "q.io", "blocked = true") + mirror("l.io") + mirror("m.io")
    found = conf(tmp_path, text + mirror("n.io") + table("n.io", "n.io", "blocked = true"))
    first, last = found.places(Named.parse("r.io/a:1"))
    assert first == Place(Named.parse("l.io/a:1"), Peer("l.io", mirror=True, foreign=True))
    assert last.peer == Peer("m.io", foreign=True), "it is never given up, and owns the error"
    assert last.besides is not None
    for name, prefix in (("r.io/a", "r.io"), ("n.io/a", "n.io")):
        assert f"{name} is blocked: {tmp_path}/main blocks the registry {prefix}" in last.besides


def test_a_blocked_server_is_blocked_under_every_name(tmp_path: Path) -> None:
    text = table("r.io", "q.io/x") + table("q.io", "q.io", "blocked = true")
    found = conf(tmp_path, text)
    with pytest.raises(PolicyRejectedError, match=r"^q\.io/x/a is blocked: .*registry q\.io$"):
        found.places(Named.parse("r.io/a:1"))
    text = table("r.io", "q.io") + mirror("m.io/y") + table("m.io/y/b", "m.io", "blocked = true")
    found = conf(tmp_path, text)
    assert pulled(found, "r.io/a:1") == ["m.io/y/a:1", "q.io/a:1"]
    assert pulled(found, "r.io/b:1") == ["q.io/b:1"]


def test_a_location_that_makes_no_name_is_an_error_of_the_file(tmp_path: Path) -> None:
    for location in ("plain", "Q.io/UPPER", "q.io//x"):
        found = conf(tmp_path, table("r.io", location))
        with pytest.raises(InvalidInputError, match=f"{tmp_path}/main makes"):
            found.places(Named.parse("r.io/a:1"))


# ---- several files


def test_drop_ins_add_up_in_the_order_of_their_names(tmp_path: Path) -> None:
    main = (
        'unqualified-search-registries = ["a.io"]\nshort-name-mode = "enforcing"\n'
        '[aliases]\nx = "a.io/x"\ny = "a.io/y"\n' + table("r.io", "q.io") + mirror("m.io")
    )
    found = conf(
        tmp_path,
        main,
        b='unqualified-search-registries = []\n[aliases]\ny = ""\n',
        a='unqualified-search-registries = ["b.io"]\n' + table("r.io", "z.io"),
    )
    assert found.search == (), "an empty list is a list"
    assert found.mode == "enforcing"
    assert found.aliases == {"x": "a.io/x", "y": ""}
    assert pulled(found, "r.io/a:1") == ["z.io/a:1"], "a later table replaces the whole earlier one"
    assert [file.name for file in found.files] == ["main", "a.conf", "b.conf"]


def test_a_later_directory_replaces_a_drop_in_of_the_same_name(tmp_path: Path) -> None:
    first, last = tmp_path / "1", tmp_path / "2"
    for directory, location in ((first, "q.io"), (last, "z.io")):
        directory.mkdir()
        (directory / "x.conf").write_text(table("r.io", location))
    (first / "y.conf").write_text(table("s.io", "t.io"))
    (first / "notes.txt").write_text("no configuration")
    (first / "hidden.conf").write_text("broken [")
    (last / "hidden.conf").symlink_to(os.devnull)
    found = load_registries(RegistriesPaths(drop_ins=(first, tmp_path / "absent", last)))
    assert pulled(found, "r.io/a:1") == ["z.io/a:1"]
    assert pulled(found, "s.io/a:1") == ["t.io/a:1"]


def test_the_first_main_file_is_read_alone(tmp_path: Path) -> None:
    (tmp_path / "b").write_text(table("r.io", "b.io"))
    (tmp_path / "c").write_text(table("r.io", "c.io") + table("s.io", "c.io"))
    found = load_registries(RegistriesPaths(tuple(tmp_path / name for name in "abc")))
    assert pulled(found, "r.io/a:1") == ["b.io/a:1"]
    assert pulled(found, "s.io/a:1") == ["s.io/a:1"]


@pytest.mark.parametrize(
    ("own", "old", "found"),
    [
        (True, True, ["u.io", "u.io"]),
        (True, False, ["u.io", "s.io"]),
        (False, True, ["u.io", "s.io"]),
    ],
)
def test_files_may_count_by_the_rules_before_podman_6(
    tmp_path: Path, own: bool, old: bool, found: list[str]
) -> None:
    system, user = tmp_path / "system.d", tmp_path / "user.d"
    for directory, text in (
        (system, table("a.io", "s.io") + table("b.io", "s.io")),
        (user, table("a.io", "u.io")),
    ):
        directory.mkdir()
        (directory / f"{directory.stem}.conf").write_text(text)
    if own:
        (tmp_path / "own").write_text(table("b.io", "u.io"))
    (tmp_path / "etc").write_text("")
    main = (tmp_path / "own", tmp_path / "etc")
    read = load_registries(RegistriesPaths(main, (system, user), old_rules=old))
    assert [read.places(Named.parse(f"{name}.io/x:1"))[0].named.domain for name in "ab"] == found
    (tmp_path / "only").write_text(table("c.io", "o.io"))
    read = load_registries(
        RegistriesPaths(main, (system, user), only=tmp_path / "only", old_rules=old)
    )
    assert sorted(read.registries) == (["a.io", "b.io", "c.io"] if old else ["c.io"])


def test_a_file_given_by_name_must_exist_and_counts_alone(tmp_path: Path) -> None:
    (tmp_path / "main").write_text(table("r.io", "b.io"))
    (tmp_path / "mine").write_text(table("s.io", "c.io"))
    only = RegistriesPaths((tmp_path / "main",), only=tmp_path / "mine")
    assert list(load_registries(only).registries) == ["s.io"]
    last = RegistriesPaths((tmp_path / "main",), last=tmp_path / "mine")
    assert list(load_registries(last).registries) == ["r.io", "s.io"]
    for paths in (RegistriesPaths(only=tmp_path / "gone"), RegistriesPaths(last=tmp_path / "gone")):
        with pytest.raises(InvalidInputError, match="gone does not exist"):
            load_registries(paths)


def test_nothing_configured_is_an_empty_configuration() -> None:
    assert load_registries(RegistriesPaths()) == RegistriesConf({}, {})


def test_the_first_version_of_the_format_is_read(tmp_path: Path) -> None:
    found = conf(
        tmp_path,
        "[registries.search]\nregistries = ['a.io', 'b.io/']\n"
        "[registries.insecure]\nregistries = ['i.io', 'both.io']\n"
        "[registries.block]\nregistries = ['both.io', 'x.io']\n",
    )
    assert found.search == ("a.io", "b.io")
    flags = {r.prefix: (r.insecure, r.blocked) for r in found.registries.values()}
    assert flags == {"i.io": (True, False), "both.io": (True, True), "x.io": (False, True)}


def test_old_tables_that_say_nothing_do_no_harm(tmp_path: Path) -> None:
    found = conf(tmp_path, "[registries.search]\nregistries = []\n" + table("r.io", "q.io"))
    assert pulled(found, "r.io/a:1") == ["q.io/a:1"]


# ---- what is wrong with a file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[registry]]\n", "neither prefix nor location"),
        ('[[registry]]\nprefix = "r.io"\n', "'r.io' has no location"),
        (table("r.io", "http://q.io"), "without http"),
        (table("r.io") + "[[registry.mirror]]\n", "a mirror has no location"),
        (table("r.io") + mirror("https://m.io"), "without http"),
        (table("r.io") + mirror("m.io", 'pull-from-mirror = "no"'), "'no' is not one of all"),
        (table("r.io", "r.io", 'pull-from-mirror = "all"'), "belongs to a mirror"),
        (
            table("r.io", "r.io", "mirror-by-digest-only = true")
            + mirror("m.io", 'pull-from-mirror = "all"'),
            "mirror-by-digest-only and a mirror",
        ),
        (table("*.r.io/x"), "host without port"),
        (table("*.r.io:5000"), "host without port"),
        (table("r.io", "r.io", 'blocked = "yes"'), "blocked is neither true nor false"),
        (table("r.io", "r.io", "mirror = 3"), "'r.io': mirror is not a list of tables"),
        (table("r.io", "r.io", 'mirror = ["m.io"]'), "'r.io': mirror is not a list of tables"),
        (table("r.io") + "[[registry.mirror]]\nlocation = 3\n", "'r.io': location is not a text"),
        (table("r.io") + mirror("m.io", "insecure = 1"), "'r.io': insecure is neither true nor"),
        ("[[registry]]\nprefix = 3\n", "prefix is not a text"),
        ("registry = 3\n", "registry is not a list of tables"),
        ("[registry]\nprefix = 'r.io'\n", "registry is not a list of tables"),
        ("aliases = 3\n", "aliases is not a table"),
        ("[aliases]\nx = 3\n", "the alias 'x' is not a text"),
        ("unqualified-search-registries = 'a.io'\n", "not a list of texts"),
        ("unqualified-search-registries = ['a.io/x y']\n", "not a registry to search in"),
        ("unqualified-search-registries = ['http://a.io']\n", "without http"),
        ("short-name-mode = 'maybe'\n", "'maybe' is not one of enforcing"),
        ("credential-helpers = [3]\n", "not a list of texts"),
        (table("a.io", "r.io") + table("b.io", "r.io", "insecure = true"), "different things"),
        (table("a.io", "r.io") + table("b.io", "r.io", "blocked = true"), "different things"),
        ("[registries.search]\nregistries = ['s.io']\n" + table("r.io"), "mixed with version 2"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        conf(tmp_path, text)
    assert f"{tmp_path}/main" in caught.value.message


def test_the_first_version_has_no_place_in_a_drop_in(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"x\.conf has the old .* in a drop-in"):
        conf(tmp_path, "", x="[registries.block]\nregistries = ['x.io']\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir(mode=0)
    with pytest.raises(StorageError, match=r"conf\.d cannot be read"):
        load_registries(RegistriesPaths(drop_ins=(tmp_path / "conf.d",)))


def test_keys_nobody_knows_are_warned_of(tmp_path: Path) -> None:
    found = conf(
        tmp_path,
        'colour = "red"\n'
        + table("r.io", "r.io", 'tint = "blue"')
        + mirror("m.io", 'shade = "dark"'),
    )
    assert len(found.warnings) == 3
    for warning, key in zip(found.warnings, ("colour", "tint", "shade"), strict=True):
        assert f"the key '{key}' is unknown" in warning
        assert f"{tmp_path}/main" in warning
    assert pulled(found, "r.io/a:1") == ["m.io/a:1", "r.io/a:1"]


def test_a_table_that_is_there_twice_in_one_file_is_warned_of(tmp_path: Path) -> None:
    main = table("r.io", "a.io") + table("r.io", "b.io")
    found = conf(tmp_path, main, later=table("r.io", "c.io"))
    assert found.warnings == (f"{tmp_path}/main: of the tables for r.io, the last counts",)
    assert pulled(found, "r.io/x:1") == ["c.io/x:1"]


def test_a_thousand_entries_cost_a_few_milliseconds(tmp_path: Path) -> None:
    text = "".join(
        table(f"h{n}.example/ns", f"q{n}.example/x") + mirror(f"m{n}.example") for n in range(1000)
    )
    name = Named.parse("h777.example/ns/app:1")
    spent = []
    for _ in range(7):  # the best of some: other processes share this machine
        started = time.process_time()
        found = conf(tmp_path, text)
        assert pulled(found, str(name)) == ["m777.example/app:1", "q777.example/x/app:1"]
        spent.append(time.process_time() - started)
    assert min(spent) < 0.03, "a whole parse of the standard reader takes longer than that"
