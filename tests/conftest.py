"""Real servers for the tests that need them."""

from collections.abc import Iterator

import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.one_bucket import OneBucket, one_bucket


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
    """The longest tests first, so that no worker begins one when the others are done."""
    items.sort(key=takes, reverse=True)


def takes(item: pytest.Item) -> float:
    """Seconds, as its mark says."""
    mark = item.get_closest_marker("takes")
    return float(mark.args[0]) if mark else 0.0
