"""mpv, ffmpeg and GStreamer, as people use them to watch, record and relay."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.players.programs import PROGRAMS, Program
from tests.players.reconnect import all_show_more, on_air, shown
from tests.support.length import SOAK


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_reconnects has each playlist")
@pytest.mark.takes(40)
async def test_programs_play_on_after_the_encoder_was_away(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """The encoder is away until all have run dry: each goes on with the new run and does not end."""
    async with on_air(tmp_path, bucket) as on, AsyncExitStack() as running:
        players = []
        for name in PROGRAMS:
            players.append(player := await Program.start(tmp_path, name, on.url))
            running.push_async_callback(player.stop)
        await all_show_more(players, await shown(players))
        await on.reconnect(players)
        await all_show_more(players, await shown(players))
