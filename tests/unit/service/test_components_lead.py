"""How long a leader with a standby may show viewers the stream."""

import math
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broadcaster.service.components import LISTED_WITHIN, TAKEOVER, Components

LONG_AGO, JUST_NOW, LATER = -1000.0, TAKEOVER, TAKEOVER - LISTED_WITHIN - 1  # seconds until it is over


@pytest.mark.parametrize(
    ("standby", "left", "listed", "leads", "expected"),
    [
        (False, LONG_AGO, True, 7.0, None),  # alone, it never waits for the lease
        (True, LONG_AGO, True, 7.0, 7.0),
        (True, LONG_AGO, False, 7.0, 7.0),  # no stream is on: 404
        (True, LONG_AGO, True, -math.inf, 0.0),  # in doubt, or another one leads
        (True, JUST_NOW, False, 7.0, 0.0),  # 503: what the former leader had listed comes soon
        (True, JUST_NOW, True, 7.0, 7.0),
        (True, JUST_NOW, True, -math.inf, 0.0),
        (True, LATER, False, 7.0, 7.0),  # it does not come
    ],
)
def test_how_long_the_stream_is_shown(
    *, standby: bool, left: float, listed: bool, leads: float, expected: float | None
) -> None:
    """While it surely leads, and after a takeover in mid-stream not before there are playlists."""
    found: Any = SimpleNamespace(
        _settings=SimpleNamespace(standby=standby),
        _returns_by=time.monotonic() + left,
        pipeline=SimpleNamespace(view=SimpleNamespace(playlists={"0": 1} if listed else {})),
        lease=SimpleNamespace(leads_until=leads),
    )
    assert Components.leads_until(cast("Components", found)) == expected


@pytest.mark.parametrize(
    ("until", "epoch", "expected"),
    [
        (None, 7, 7),  # alone
        (9.0, 7, 7),
        (0.0, 7, None),  # after a takeover in mid-stream: an empty view would be 404 at the edge
        (0.0, None, None),
    ],
)
def test_the_epoch_of_the_edge(until: float | None, epoch: int | None, expected: int | None) -> None:
    """The edge shows what the former leader has pushed until there are new playlists."""
    found: Any = SimpleNamespace(leads_until=lambda: until, lease=SimpleNamespace(epoch=epoch))
    assert Components.edge_epoch(cast("Components", found)) == expected
