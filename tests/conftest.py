"""Real servers for the tests that need them."""

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.pacing import Pace
from tests.support.servers.shared_bucket import OneBucket, one_bucket

UNIT_TESTS = Path(__file__).parent / "unit"
PACE = pytest.StashKey[Pace]()
LONGEST = 600  # seconds of a test, on the slowest machine

# A machine that is busy is no fault of what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneBucket]:
    """A real S3 server, which the tests of this worker use one after another."""
    with one_bucket(tmp_path_factory.mktemp("bucket")) as server:
        yield server


@pytest.fixture
def bucket(bucket_server: OneBucket) -> Iterator[SeaweedBucket]:
    """An empty bucket that anybody may read. It may be suspended; to kill it, start one of your own."""
    with bucket_server.lent() as bucket:
        yield bucket


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, so that no worker begins one when the others are done.

    Those with a browser, which compute, are spread among those that wait.
    """
    places: dict[str, float] = {}  # by name: how much of its kind, of one whole, comes before it
    for of_kind in (True, False):
        kind = sorted((item for item in items if uses_browser(item) is of_kind), key=takes, reverse=True)
        before, whole = 0.0, sum(map(takes, kind))
        for item in kind:
            places[item.nodeid] = before / whole
            before += takes(item)
    items.sort(key=lambda item: places[item.nodeid])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported stays: the garbage collector looks through it once, and not during each test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test beside others that waits for what never comes fails, and does not hold up all of them."""
    if "PYTEST_XDIST_TESTRUNUID" not in os.environ:
        return (yield)

    def give_up(*_: object) -> NoReturn:
        raise TimeoutError(f"{item.nodeid} is not done after {LONGEST} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LONGEST)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pytest_configure(config: pytest.Config) -> None:
    if run := os.environ.get("PYTEST_XDIST_TESTRUNUID"):
        config.stash[PACE] = Pace(run)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test with servers that runs beside others begins when the machine can bear it."""
    if PACE in item.config.stash and UNIT_TESTS not in item.path.parents:
        item.config.stash[PACE].begin()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """After the fixtures' end."""
    try:
        return (yield)
    finally:
        if PACE in item.config.stash:
            item.config.stash[PACE].end()


def takes(item: pytest.Item) -> float:
    """Seconds, as its mark says; most of those without one take a few."""
    mark = item.get_closest_marker("takes")
    return float(mark.args[0]) if mark else 5.0


def uses_browser(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and "chromium_path" in item.fixturenames
