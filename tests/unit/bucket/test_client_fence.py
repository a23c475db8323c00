"""Who does not lead changes nothing in the bucket, by whatever method of the client."""

import inspect
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from broadcaster.bucket import Bucket, ObjectStore
from broadcaster.errors import NotLeading

READS = {
    "note_answer",
    "size",
    "etag",
    "written",
    "objects",
    "older",
    "get",
    "check",
    "url",
    "long_lived_url",
    "parts",
    "uploads",
}
KEYS = {"put", "copy"}  # writes to a key that is never used twice
WRITES: dict[str, tuple[bool, Callable[[ObjectStore], Awaitable[Any]]]] = {
    "replace": (False, lambda store: store.replace("a", b"", etag=None, max_age=1, deadline=1)),
    "delete": (True, lambda store: store.delete(["a"], deadline=1)),
    "begin": (
        True,
        lambda store: store.begin("a", media_type="", disposition="", cache_control="", deadline=1),
    ),
    "part_url": (False, lambda store: store.part_url("a", "b", 1, 1, valid=timedelta(seconds=1))),
    "complete": (True, lambda store: store.complete("a", "b", [], deadline=1)),
    "abort": (True, lambda store: store.abort("a", "b", deadline=1)),
}
ARCHITECTURE = Path(__file__).parents[3] / "docs" / "architecture.md"


class Fence:
    """Refuses, and keeps how it was asked."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    async def ask(self, *, surely: bool = False) -> int:
        self.asked.append(surely)
        raise NotLeading("another broadcaster leads")


class NoClient:
    """A client that has no methods: a request would be an AttributeError."""


def test_each_method_is_classified() -> None:
    """Each public method of the client only reads, or is in the table of writes, in the order of the code."""
    methods = [name for name, _ in inspect.getmembers(ObjectStore, callable) if not name.startswith("_")]
    assert set(methods) == READS | KEYS | WRITES.keys()
    table = ARCHITECTURE.read_text().partition("## Who leads")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(named) == sorted(KEYS | WRITES.keys())


@pytest.mark.parametrize("name", WRITES)
async def test_who_does_not_lead(name: str) -> None:
    """The method asks the lease, and sends nothing without it."""
    store = ObjectStore(cast("Any", NoClient()), Bucket("http://127.0.0.1:9", "b", "k", "s", None))
    fence = store.fence = Fence()
    surely, call = WRITES[name]
    with pytest.raises(NotLeading):
        await call(store)
    assert fence.asked == [surely]


def test_each_answer_says_how_late_the_clock_is() -> None:
    """The Date header of an answer is compared with the clock; an answer without one changes nothing."""
    bucket = Bucket("http://127.0.0.1:9", "b", "k", "s", None)
    now = datetime(2026, 11, 25, 20, 0, 31, tzinfo=UTC)
    store = ObjectStore(cast("Any", NoClient()), bucket, lambda: now)
    assert store.clock_skew is None
    for headers in ({"date": "Wed, 25 Nov 2026 20:00:00 GMT"}, {"date": "today"}, {}):
        store.note_answer({"ResponseMetadata": {"HTTPHeaders": headers}})
        assert store.clock_skew == 30.5
