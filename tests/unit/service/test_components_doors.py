"""Which recordings guests may not have the addresses of."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broadcaster.access.keeper import Doors
from broadcaster.errors import CatalogError
from broadcaster.events import StreamEnded
from broadcaster.ipc.messages import State
from broadcaster.service.components import Components
from tests.support.fakes.pipeline_parts import START
from tests.support.fakes.recorder_fixture import RecorderFixture
from tests.support.waiting import eventually

HOUR = timedelta(hours=1)
NOW = START.timestamp()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[RecorderFixture]:
    made = RecorderFixture(tmp_path)
    yield made
    made.stream.catalog.close()


def parts_of(rig: RecorderFixture, doors: Doors) -> Any:  # noqa: ANN401 - a part of the components
    """What the doors have of the components."""

    async def open_doors(_: object) -> None:
        """Viewers see nothing any more."""

    found = SimpleNamespace(
        catalog=rig.stream.catalog,
        recorder=rig.recorder,
        pipeline=SimpleNamespace(open_doors=open_doors),
        keeper=SimpleNamespace(doors=doors),
        stream=SimpleNamespace(state=State.OFFLINE),
        _rehearsal=None,
        _rehearsal_changed=asyncio.Event(),
    )
    for name in ("_hide", "_hide_rehearsal", "open_doors", "close_doors", "note_rehearsal", "end_rehearsals"):
        setattr(found, name, partial(getattr(Components, name), found))
    return found


async def visible(rig: RecorderFixture) -> list[str]:
    return [found.visibility for found in await rig.stream.recordings()]


@pytest.mark.parametrize(
    ("ahead", "closed", "expected"),
    [
        (HOUR, -10, "hidden"),
        (-HOUR, -10, "hidden"),  # by the encoder's clock it has ended before they closed
        (-HOUR, 10, "listed"),
        (timedelta(), 60, "listed"),
    ],
)
async def test_a_rehearsal_is_known_whatever_the_encoders_clock_says(
    rig: RecorderFixture, ahead: timedelta, closed: int, expected: str
) -> None:
    """What was brought while the doors were closed, by this machine's clock, is hidden when they open."""
    rig.stream.encoder_is_ahead = ahead
    rig.stream.publish(count=3)
    rig.stream.channel.end()
    doors = Doors(open=True, closed=NOW + closed, opened=NOW + 100)
    await parts_of(rig, doors).open_doors(doors)
    assert await visible(rig) == [expected]


async def test_what_guests_know_is_hidden_at_once(rig: RecorderFixture) -> None:
    """A recording that goes on when the doors close has another address; if it is kept, its own one."""
    rig.stream.publish(count=3)
    await rig.recorder.write()
    (recording,) = await rig.stream.recordings()
    assert await parts_of(rig, Doors(open=True, closed=0)).close_doors() == (recording.id,)
    rig.stream.publish(count=1)
    await rig.recorder.write()
    assert not [name for name in rig.names if name.startswith(f"{recording.id}/")]
    doors = Doors(open=False, closed=NOW, hidden=(recording.id,))
    await parts_of(rig, doors).open_doors(Doors(open=True, closed=NOW))
    await rig.recorder.write()
    assert len(rig.media(f"{recording.id}/0/playlist.m3u8").segments) == 4


async def test_a_recording_that_comes_late(rig: RecorderFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was in no list at the opening is hidden at its end, also if the disk fails at first."""
    doors = Doors(open=True, closed=NOW - 10, opened=NOW + 5)
    parts = parts_of(rig, doors)
    rig.stream.publish(count=3)
    rig.stream.channel.end()
    parts.note_rehearsal(StreamEnded(START))
    with monkeypatch.context() as patched:
        patched.setattr(rig.stream.catalog.recordings, "all", fail)
        with pytest.raises(CatalogError):
            await parts.end_rehearsals()
    assert await visible(rig) == ["listed"]
    again = asyncio.create_task(parts.end_rehearsals())
    await eventually(lambda: visible(rig), lambda found: found == ["hidden"])
    again.cancel()


async def fail() -> None:
    raise CatalogError("the disk is full")
