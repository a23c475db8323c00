"""The real process is killed with what odd playlists leave in its catalog, and starts again."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.fakes.hls_writer import PACKET
from tests.support.length import SOAK
from tests.support.servers.service import running_service
from tests.support.waiting import eventually
from tests.unit.source.test_scanner_odd_playlists import TABLE

if TYPE_CHECKING:
    from pathlib import Path

    from broadcaster.demo.bucket import SeaweedBucket

DISCOVERED = re.compile(r'^broadcaster_segments_discovered_total\{variant="(\d+)"\}', re.MULTILINE)
AT_ONCE = 15  # inputs, each as a quality of one stream
CASES = [name for name, (_, expected) in TABLE.items() if expected]  # those that leave something
GROUPS = [CASES[n : n + AT_ONCE] for n in range(0, len(CASES), AT_ONCE)]
DURATIONS, NUMBERS = (
    [name for name in CASES if name.startswith(kind)] for kind in ("duration ", "sequence ")
)
FEW = [DURATIONS[: AT_ONCE // 2] + NUMBERS[: AT_ONCE // 2]]


@pytest.mark.takes(10)
@pytest.mark.parametrize("cases", GROUPS if SOAK else FEW, ids=lambda cases: cases[0])
async def test_a_killed_process_starts_with_odd_inputs_in_its_catalog(
    tmp_path: Path, bucket: SeaweedBucket, cases: list[str]
) -> None:
    """After each of two kills it starts, with all that it had noticed, and its own log has no traceback."""
    hls = tmp_path / "hls"
    master = "#EXTM3U\n"
    for index, case in enumerate(cases):
        write(hls / str(index), TABLE[case][0])
        master += f"#EXT-X-STREAM-INF:BANDWIDTH={1000 + index}\n{index}/stream.m3u8\n"
    (hls / "stream.m3u8").write_text(master)

    def noticed(state: Path = tmp_path / "state") -> dict[str, int]:
        with closing(sqlite3.connect(state / "journal.db")) as journal:
            return dict(journal.execute("SELECT variant, count(*) FROM segments GROUP BY variant"))

    def is_written() -> bool:
        """Whether all is in the catalog, by a copy of it: nobody else may read it while the service runs."""
        (tmp_path / "copy").mkdir(exist_ok=True)
        for path in (tmp_path / "state").glob("journal.db*"):
            shutil.copy(path, tmp_path / "copy")
        with suppress(sqlite3.DatabaseError):  # it was written to meanwhile
            return len(noticed(tmp_path / "copy")) == len(cases)
        return False

    async with running_service(tmp_path, hls, bucket) as service, aiohttp.ClientSession() as session:

        async def discovered() -> set[str]:
            async with session.get(f"{service.admin_address}/metrics") as answer:
                return set(DISCOVERED.findall(await answer.text()))

        await eventually(discovered, lambda found: len(found) == len(cases))
        await eventually(is_written)
        await service.kill()
        first = noticed()
        assert len(first) == len(cases)
        for _ in range(2):
            await service.start()
            await service.kill()
            again = noticed()
            assert all(again[variant] >= count for variant, count in first.items())
        await service.start()
        assert await service.stop() == 0
    assert "Traceback" not in service.log.read_text()


def write(folder: Path, playlist: str | bytes) -> None:
    """A playlist and the files that it lists."""
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"s{number}.ts").write_bytes(PACKET * 3)
    (folder / "stream.m3u8").write_bytes(playlist.encode() if isinstance(playlist, str) else playlist)
