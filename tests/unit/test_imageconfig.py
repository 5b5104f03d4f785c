from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.digest import Digest
from kstore.errors import InvalidManifestError
from kstore.manifest import MAX_CONFIG_SIZE, HistoryEntry, ImageConfig, RunConfig
from kstore.manifest.imageconfig import parse_time
from kstore.platforms import Platform
from tests.support.images import random_image
from tests.support.strategies import steady

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")
FULL: dict[str, Any] = {
    "created": "2015-10-31T22:22:56.015925234Z",
    "author": "Alyssa",
    "docker_version": "1.9",
    "architecture": "arm",
    "os": "linux",
    "variant": "v7",
    "os.version": "10",
    "config": {
        "User": "alice",
        "Env": ["PATH=/bin", "ODD", "A=1", "A=2"],
        "Entrypoint": ["/bin/app"],
        "Cmd": ["--x", ""],
        "WorkingDir": "/home",
        "Volumes": {"/b": {}, "/a": {}},
        "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
        "StopSignal": "SIGKILL",
        "Labels": {"a": "b", "Team": "x", "team": "y", "empty": ""},
        "Healthcheck": {"Test": ["NONE"]},
    },
    "rootfs": {"type": "layers", "diff_ids": [str(ONE), str(TWO)]},
    "history": [
        {"created": "2015-10-31T22:22:54Z", "created_by": "ADD x", "comment": "c", "author": "A"},
        {"created_by": "CMD", "empty_layer": True},
    ],
    "unknown": {"kept": "out"},
}


def parse(document: Any) -> ImageConfig:
    return ImageConfig.parse(json.dumps(document).encode(), "config of x")


def test_a_full_config_is_read() -> None:
    config = parse(FULL)
    made = dt.datetime(2015, 10, 31, 22, 22, 56, 15925, dt.UTC)
    assert config == ImageConfig(
        platform=Platform("linux", "arm", "v7", "10"),
        created=made,
        author="Alyssa",
        docker_version="1.9",
        run=RunConfig(
            user="alice",
            env=("PATH=/bin", "ODD", "A=1", "A=2"),
            entrypoint=("/bin/app",),
            cmd=("--x", ""),
            working_dir="/home",
            volumes=("/a", "/b"),
            exposed_ports=("443/tcp", "80/tcp"),
            stop_signal="SIGKILL",
            labels={"a": "b", "Team": "x", "team": "y", "empty": ""},
        ),
        diff_ids=(ONE, TWO),
        history=(
            HistoryEntry(made.replace(second=54, microsecond=0), "ADD x", "c", "A", False),
            HistoryEntry(None, "CMD", "", "", True),
        ),
    )
    assert hash(config) == hash(parse(FULL))


@pytest.mark.parametrize(
    "document",
    [
        {},
        dict.fromkeys(FULL),
        {"config": dict.fromkeys(FULL["config"]), "rootfs": {"diff_ids": None}},
        {"author": "", "docker_version": "", "variant": "", "rootfs": {}, "history": []},
        {"config": {"User": "", "Env": [], "Cmd": [], "Labels": {}, "Volumes": {}}},
    ],
)
def test_what_is_absent_null_or_empty_is_unknown(document: dict[str, Any]) -> None:
    config = parse(document)
    assert config == ImageConfig(Platform("", ""), None, None, None, RunConfig(), (), ())


def test_the_config_of_a_real_image_is_read() -> None:
    image = random_image(7, layers=3, labels={"a": "b"})
    config = ImageConfig.parse(image.config)
    assert config.platform == image.platform
    assert len(config.diff_ids) == len(config.history) == 3
    assert config.run.labels == {"a": "b"}


@pytest.mark.parametrize(
    ("document", "named"),
    [
        (None, "config of x"),
        ([], "config of x"),
        ("x", "config of x"),
        ({"os": 5}, "os of config of x"),
        ({"architecture": ["amd64"]}, "architecture"),
        ({"author": {}}, "author"),
        ({"config": []}, "config of config of x"),
        ({"config": {"User": 0}}, "User"),
        ({"config": {"Env": "A=1"}}, "Env"),
        ({"config": {"Env": {"A": "1"}}}, "Env"),
        ({"config": {"Cmd": "/bin/sh"}}, "Cmd"),
        ({"config": {"Entrypoint": [1]}}, "Entrypoint"),
        ({"config": {"Volumes": ["/a"]}}, "Volumes"),
        ({"config": {"ExposedPorts": "80"}}, "ExposedPorts"),
        ({"config": {"Labels": ["a=b"]}}, "Labels"),
        ({"config": {"Labels": {"a": 1}}}, "Labels"),
        ({"rootfs": []}, "rootfs"),
        ({"rootfs": ""}, "rootfs"),
        ({"rootfs": {"diff_ids": str(ONE)}}, "diff_ids"),
        ({"rootfs": {"diff_ids": [1]}}, "diff_ids"),
        ({"rootfs": {"diff_ids": [ONE.hex]}}, "diff_ids"),
        ({"rootfs": {"diff_ids": ["sha256:../../x"]}}, "diff_ids"),
        ({"history": {}}, "history"),
        ({"history": ["x"]}, "history entry 0"),
        ({"history": [{}, {"created_by": 5}]}, "created_by of history entry 1"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_by_its_name(document: object, named: str) -> None:
    with pytest.raises(InvalidManifestError, match="config of x") as caught:
        parse(document)
    assert named in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"os":"a","os":"b"}', b'{"os":"\\ud800"}'])
def test_what_cannot_be_read_one_way_only_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidManifestError, match="config of x"):
        ImageConfig.parse(data, "config of x")


def test_a_config_may_be_four_mebibytes_but_not_a_byte_more() -> None:
    data = b"{}".ljust(MAX_CONFIG_SIZE)
    assert ImageConfig.parse(data).created is None
    with pytest.raises(InvalidManifestError, match="more than the limit of 4194304"):
        ImageConfig.parse(data + b" ")


@pytest.mark.parametrize("value", ["true", 1, 0, None, False, []])
def test_only_true_marks_an_empty_layer(value: object) -> None:
    assert parse({"history": [{"empty_layer": value}]}).history[0].empty_layer is False


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05+00:00"),
        ("2024-01-02t03:04:05z", "2024-01-02T03:04:05+00:00"),
        ("2024-01-02 03:04:05Z", "2024-01-02T03:04:05+00:00"),
        ("2024-01-02T03:04:05.1Z", "2024-01-02T03:04:05.100000+00:00"),
        ("2024-01-02T03:04:05.123456789Z", "2024-01-02T03:04:05.123456+00:00"),
        (f"2024-01-02T03:04:05.{'9' * 1000}Z", "2024-01-02T03:04:05.999999+00:00"),
        ("2024-01-02T03:04:05+05:30", "2024-01-01T21:34:05+00:00"),
        ("2024-01-02T03:04:05.5-08:00", "2024-01-02T11:04:05.500000+00:00"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00+00:00"),
        ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59+00:00"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59+00:00"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00+00:00"),
    ],
)
def test_a_time_of_any_usual_form_is_read_as_utc(text: str, iso: str) -> None:
    found = parse_time(text)
    assert found is not None
    assert found.isoformat() == iso
    assert found.tzinfo is dt.UTC


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        0,
        1704164645,
        1.5,
        True,
        [],
        {},
        "yesterday",
        "2024-01-02",
        "2024-01-02T03:04Z",
        "2024-01-02T03:04:05",
        "2024-01-02T03:04:05.Z",
        "2024-01-02T03:04:05Z\n",
        " 2024-01-02T03:04:05Z",
        "2024-01-02T03:04:05+0100",
        "2024-01-02T03:04:05+99:99",
        "2024-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-01-02T25:00:00Z",
        "2024-01-02T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "0001-01-01T00:00:00-01:00",
        "9999-12-31T23:59:59-23:59",
        "12024-01-02T03:04:05Z",
        "\u0662024-01-02T03:04:05Z",
        "202\u0664-01-02T03:04:05Z",
    ],
)
def test_what_is_no_time_counts_as_absent(value: object) -> None:
    assert parse_time(value) is None
    assert parse({"created": value, "history": [{"created": value}]}).created is None


@steady
@given(st.datetimes(min_value=dt.datetime(3, 1, 1), max_value=dt.datetime(9998, 1, 1)))
def test_a_time_reads_back_from_its_text(moment: dt.datetime) -> None:
    moment = moment.replace(tzinfo=dt.UTC)
    assert parse_time(moment.isoformat()) == moment
    assert parse_time(moment.isoformat().replace("+00:00", "Z")) == moment


_DAYS = st.sampled_from(["0000-01-01", "0001-01-01", "2024-02-30", "2024-12-31", "9999-12-31"])
_ZONES = st.from_regex(r"(Z|[+-][0-9]{2}:[0-9]{2})", fullmatch=True)


@steady
@given(st.text(max_size=30) | st.builds("{}T{}{}".format, _DAYS, st.times(), _ZONES))
def test_any_text_is_a_sortable_time_or_none(text: str) -> None:
    found = parse_time(text)
    if found is not None:
        assert found > dt.datetime(1, 12, 31, tzinfo=dt.UTC)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(str(ONE)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FULL["config"], *FULL["rootfs"], "x"]), inner)
    ),
    max_leaves=6,
)


@steady
@given(st.dictionaries(st.sampled_from(list(FULL)), _JSON))
def test_any_json_is_a_config_or_an_error(changes: dict[str, Any]) -> None:
    try:
        config = parse({**FULL, **changes})
    except InvalidManifestError:
        return
    assert config == parse({**FULL, **changes})
    assert isinstance(hash(config), int)
