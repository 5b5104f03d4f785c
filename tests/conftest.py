"""What every test gets: a home of its own, and the meaning of the markers."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator

import hypothesis
import pytest

from tests.support import homes, programs

# Examples are not kept between runs: the checkout may belong to another user.
hypothesis.settings.register_profile("kstore", database=None)
hypothesis.settings.load_profile("kstore")

_WRONG_USER = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    is_root = os.geteuid() == 0
    for item in items:
        if item.get_closest_marker("root") and not is_root:
            _skip_for_user(item, "needs root")
        elif item.get_closest_marker("unprivileged") and is_root:
            _skip_for_user(item, "needs a user other than root")


def _skip_for_user(item: pytest.Item, reason: str) -> None:
    item.stash[_WRONG_USER] = True
    item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns the skip of a ``peer`` test into a failure where peers are required."""
    report = yield
    expected = hasattr(report, "wasxfail") or item.stash.get(_WRONG_USER, False)
    if (
        report.skipped
        and not expected
        and item.get_closest_marker("peer")
        and programs.peers_are_required()
    ):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped where peers are required: {reason}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """See :func:`tests.support.homes.move_into`."""
    with pytest.MonkeyPatch.context() as patch:
        homes.move_into(tmp_path_factory.mktemp("home"), patch)
        yield


@pytest.fixture
def require_program() -> Callable[[str], str]:
    """See :func:`tests.support.programs.require_program`."""
    return programs.require_program
