"""What makes no sense in a playlist ends no process, now or after a kill."""

from pathlib import Path

import aiohttp

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.timed_media import transport_stream
from tests.support.servers.service import running_service
from tests.support.waiting import eventually

DURATIONS = ["2.000000,", "0.000000,", "2,000000,", "nan,", "0,500000,", "2.0,", "1e-9,", "2.0,"]
LAST = ["2.000000"] * 4 + ["0.500000"] + ["2.000000"] * 3  # by the playlist, or by the media


async def test_bad_values_come_back_from_the_catalog_and_end_nothing(
    tmp_path: Path, bucket: SeaweedBucket
) -> None:
    """A service that is killed with them in its catalog starts, and goes on with all of them listed."""
    folder = tmp_path / "hls" / "0"
    folder.mkdir(parents=True)

    def write(count: int) -> None:
        text = "\ufeff\n#EXTM3U\n#EXT-X-VERSION:x\n#EXT-X-TARGETDURATION:0\n"
        for number in range(count):
            path = folder / f"s{number}.ts"
            if not path.exists():
                path.write_bytes(transport_stream(1.4 + 2 * number, 2))
            text += f"#EXTINF:{DURATIONS[number]}\n{path.name}\n"
        (folder / "new").write_text(text)
        (folder / "new").rename(folder / "stream.m3u8")

    async with running_service(tmp_path, folder.parent, bucket) as service:

        async def lasting() -> list[str]:
            url = f"{service.address}/live/playlist.m3u8"
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                lines = (await response.text()).splitlines() if response.status == 200 else []
                assert "#EXT-X-DISCONTINUITY" not in lines
                assert "#EXT-X-GAP" not in lines
                return [line[8:-1] for line in lines if line.startswith("#EXTINF:")]

        write(5)
        await eventually(lasting, lambda found: found == LAST[:5])
        await service.kill()
        await service.start()
        write(8)
        await eventually(lasting, lambda found: found == LAST)
