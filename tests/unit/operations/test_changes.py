"""--change texts become config edits."""

from __future__ import annotations

from typing import Any

import pytest

from kstore.errors import InvalidInputError
from kstore.operations.changes import apply_changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (['CMD ["a", "b"]'], {"Cmd": ["a", "b"]}),
        (["CMD=echo hi"], {"Cmd": ["/bin/sh", "-c", "echo hi"]}),
        (['ENTRYPOINT=["/init"]', 'ENTRYPOINT ["/other"]'], {"Entrypoint": ["/other"]}),
        (["ENV=A=B"], {"Env": ["A=B"]}),
        (["ENV A=B=C"], {"Env": ["A=B=C"]}),
        (["ENV A=1", "ENV A=2"], {"Env": ["A=2"]}),
        (['ENV A=1 B="two words"'], {"Env": ["A=1", "B=two words"]}),
        (["ENV OLD value with blanks"], {"Env": ["OLD=value with blanks"]}),
        (["ENV A=one two"], {"Env": ["A=one two"]}),
        (["LABEL k=a=b"], {"Labels": {"k": "a=b"}}),
        (["LABEL=k="], {"Labels": {"k": ""}}),
        (["EXPOSE 80 53/udp"], {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}),
        (["EXPOSE 8000-8010"], {"ExposedPorts": {"8000-8010/tcp": {}}}),
        (["VOLUME /data /logs"], {"Volumes": {"/data": {}, "/logs": {}}}),
        (['VOLUME ["/data"]'], {"Volumes": {"/data": {}}}),
        (["USER 1000:1000", "STOPSIGNAL=SIGINT"], {"User": "1000:1000", "StopSignal": "SIGINT"}),
        (["workdir /srv"], {"WorkingDir": "/srv"}),
    ],
)  # fmt: skip
def test_an_instruction_edits_the_config(changes: list[str], expected: dict[str, Any]) -> None:
    run: dict[str, Any] = {}
    apply_changes(run, changes)
    assert run == expected


@pytest.mark.parametrize(
    "change",
    [
        "", "CMD", "FROM scratch", "CMD [1]", "CMD [", "ENV", "ENV A", "ENV =x", "LABEL =x",
        "EXPOSE eighty", "EXPOSE 70000", "EXPOSE 80/icmp", "VOLUME data", "VOLUME /a/../b",
        "VOLUME [1]", "VOLUME [",
        'ENV A="open',
    ],
)  # fmt: skip
def test_a_wrong_instruction_is_named_and_changes_nothing(change: str) -> None:
    run = {"Env": ["KEEP=1"]}
    with pytest.raises(InvalidInputError) as caught:
        apply_changes(run, ["ENV NEW=1", change])
    assert run == {"Env": ["KEEP=1"]}
    assert caught.value.message.count(". ") == 0


def test_what_other_names_are_set_to_stays() -> None:
    run = {"Env": ["PATH=/bin", "A=1"], "Labels": {"x": "1"}}
    apply_changes(run, ["ENV A=2", "LABEL y=2"])
    assert run == {"Env": ["PATH=/bin", "A=2"], "Labels": {"x": "1", "y": "2"}}


@pytest.mark.parametrize("change", ['CMD=["\\ud800"]', 'VOLUME=["/a\\u0000b"]'])
def test_an_escape_cannot_bring_in_what_no_config_can_hold(change: str) -> None:
    run: dict[str, object] = {}
    with pytest.raises(InvalidInputError):
        apply_changes(run, [change])
    assert run == {}
