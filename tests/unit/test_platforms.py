from __future__ import annotations

import platform as host

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.errors import InvalidInputError
from kstore.platforms import Platform, best_match, host_platform, wanted_platforms
from tests.support.strategies import steady


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/x86_64", Platform("linux", "amd64")),
        ("Linux/X86-64", Platform("linux", "amd64")),
        ("linux/aarch64", Platform("linux", "arm64")),
        ("linux/arm64/v8", Platform("linux", "arm64", "v8")),
        ("linux/arm64/8", Platform("linux", "arm64", "v8")),
        ("linux/arm/V7", Platform("linux", "arm", "v7")),
        ("linux/arm/7", Platform("linux", "arm", "v7")),
        ("linux/arm", Platform("linux", "arm")),
        ("linux/armhf", Platform("linux", "arm", "v7")),
        ("linux/armel", Platform("linux", "arm", "v6")),
        ("linux/armhf/v6", Platform("linux", "arm", "v6")),
        ("linux/i686", Platform("linux", "386")),
        ("linux/loongarch64", Platform("linux", "loong64")),
        ("linux/s390x", Platform("linux", "s390x")),
        ("linux/amd64/v3", Platform("linux", "amd64", "v3")),
        ("linux/mips/3", Platform("linux", "mips", "3")),
        ("windows/amd64", Platform("windows", "amd64")),
    ],
)
def test_a_platform_is_read_in_all_common_spellings(text: str, expected: Platform) -> None:
    assert Platform.parse(text) == expected
    assert Platform.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "linux",
        "/",
        "linux/",
        "/amd64",
        "linux//v8",
        "linux/arm/v7/x",
        "linux/amd64\n",
        "linux/amd 64",
        "linux/-x",
        "l\u0131nux/amd64",
        "linux/arm/v\u0667",
        "linux/" + "a" * 65,
        "/" * 100_000,
    ],
)
def test_another_shape_is_refused_and_shown(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Platform.parse(text)
    assert repr(text[:100]) in str(caught.value)
    assert "OS/ARCH[/VARIANT]" in str(caught.value)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("armv7l", "linux/arm/v7"),
        ("armv6l", "linux/arm/v6"),
        ("armv5tel", "linux/arm/v5"),
        ("armv8l", "linux/arm/v8"),
        ("i686", "linux/386"),
        ("ppc64le", "linux/ppc64le"),
        ("s390x", "linux/s390x"),
        ("riscv64", "linux/riscv64"),
    ],
)
def test_this_machine_has_a_platform(
    machine: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "machine", lambda: machine)
    assert str(host_platform()) == expected


@pytest.mark.parametrize(
    ("want", "runs"),
    [
        ("linux/amd64", ["linux/amd64"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64"]),
        ("linux/arm64", ["linux/arm64", "linux/arm64/v8"]),
        ("linux/arm64/v8", ["linux/arm64/v8", "linux/arm64"]),
        ("linux/arm64/v9", ["linux/arm64/v9", "linux/arm64"]),
        ("linux/arm/v8", [*(f"linux/arm/v{n}" for n in (8, 7, 6, 5)), "linux/arm"]),
        ("linux/arm/v6", ["linux/arm/v6", "linux/arm/v5", "linux/arm"]),
        ("linux/arm/v5", ["linux/arm/v5", "linux/arm"]),
        ("linux/arm", ["linux/arm", *(f"linux/arm/v{n}" for n in (8, 7, 6, 5))]),
        ("linux/arm/v9000", ["linux/arm/v9000"]),
        ("windows/amd64", ["windows/amd64"]),
    ],
)
def test_what_runs_on_a_platform_best_first(want: str, runs: list[str]) -> None:
    assert [str(platform) for platform in wanted_platforms(Platform.parse(want))] == runs


def choose(want: str, members: list[str | None]) -> int | None:
    platforms = [None if member is None else Platform.parse(member) for member in members]
    return best_match(range(len(members)), platforms, Platform.parse(want))


@pytest.mark.parametrize(
    ("want", "members", "chosen"),
    [
        ("linux/amd64", [], None),
        ("linux/amd64", ["linux/arm64", "windows/amd64"], None),
        ("linux/amd64", ["linux/arm64", "linux/amd64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3"], None),
        ("linux/amd64", [None], 0),
        ("linux/amd64", [None, None], 0),
        ("linux/amd64", [None, "linux/amd64", None], 1),
        ("linux/amd64", ["unknown/unknown", "linux/arm64"], None),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8", "linux/arm"], 1),
        ("linux/arm/v7", ["linux/arm/v8"], None),
        ("linux/arm/v7", [None, "linux/arm"], 1),
        ("linux/arm", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], 1),
        ("linux/arm64", ["linux/arm64/v8"], 0),
        ("linux/arm64/v8", ["linux/arm64"], 0),
        ("linux/arm64/v8", ["linux/arm64", "linux/arm64/v8"], 1),
        ("linux/arm64", ["linux/arm/v8"], None),
    ],
)
def test_the_best_member_of_an_index_is_chosen(
    want: str, members: list[str | None], chosen: int | None
) -> None:
    assert choose(want, members) == chosen


def test_a_falsy_entry_can_be_the_best() -> None:
    amd64 = Platform("linux", "amd64")
    assert best_match([0, 1], [amd64, amd64], amd64) == 0


def test_os_version_and_features_take_no_part_in_choosing() -> None:
    old = Platform("windows", "amd64", os_version="10.0.1", os_features=("win32k",))
    assert best_match(["old"], [old], Platform("windows", "amd64", os_version="10.0.2")) == "old"


def test_entries_and_platforms_must_run_parallel() -> None:
    with pytest.raises(ValueError, match="zip"):
        best_match(["a", "b"], [None], Platform("linux", "amd64"))


_PLATFORMS = st.builds(
    Platform,
    st.sampled_from(["linux", "windows"]),
    st.sampled_from(["amd64", "arm", "arm64"]),
    st.sampled_from([None, "v5", "v6", "v7", "v8", "v9"]),
)


@steady
@given(_PLATFORMS)
def test_a_platform_runs_its_own_images_best_and_lists_nothing_twice(want: Platform) -> None:
    runs = wanted_platforms(want)
    assert runs[0] == want
    assert len(set(runs)) == len(runs)
    assert all((p.os, p.architecture) == (want.os, want.architecture) for p in runs)


@steady
@given(_PLATFORMS, st.lists(st.none() | _PLATFORMS, max_size=6))
def test_the_choice_is_the_first_of_the_lowest_rank(
    want: Platform, members: list[Platform | None]
) -> None:
    order = [*wanted_platforms(want), None]
    ranked = [(order.index(p), n) for n, p in enumerate(members) if p in order]
    expected = min(ranked)[1] if ranked else None
    assert best_match(range(len(members)), members, want) == expected


@steady
@given(_PLATFORMS)
def test_a_platform_reads_back_from_its_text(platform: Platform) -> None:
    assert Platform.parse(str(platform)) == platform


@steady
@given(st.text(max_size=40))
def test_any_text_is_a_platform_that_reads_back_or_an_error(text: str) -> None:
    try:
        platform = Platform.parse(text)
    except InvalidInputError:
        return
    assert Platform.parse(str(platform)) == platform
