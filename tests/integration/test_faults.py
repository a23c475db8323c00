"""A bucket that misbehaves in every way there is, behind a proxy that makes it do so."""

import hashlib
import os
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.faults.fault_proxy import Fault, FaultProxy
from tests.support.judges.watcher import watching
from tests.support.length import SOAK, seconds
from tests.support.servers.end_to_end import EndToEnd, end_to_end, take_inventory
from tests.support.servers.owncast_receiver import SegmentKey
from tests.support.servers.service import Service, running_service
from tests.support.waiting import eventually

OUTAGE = seconds(300, 40)  # segments of two seconds
FIRST = 20  # segments before it
MIB = 2**20


@pytest.mark.takes(70)
async def test_every_fault_of_a_bucket(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """One stream meets every fault in turn: each is reported, each passes, and nothing is lost."""
    async with (
        FaultProxy(port_of(bucket)) as proxy,
        end_to_end(tmp_path, bucket, segment_seconds=1, R2_ENDPOINT_URL=proxy.url) as on,
    ):
        await on.owncast.go_live()
        await on.watcher.until_number("0", 3)
        for fault in Fault:
            if fault is not Fault.NONE:
                await meet(fault, proxy, on)
        await on.owncast.stop_streaming()
        assert await on.is_settled()
        await on.check_zeros()


async def meet(fault: Fault, proxy: FaultProxy, on: EndToEnd) -> None:
    """The fault, until it is noticed, and for two segments more; then the way back."""
    began = time.monotonic()
    failed, worked = count(on.service, " uploads fail "), count(on.service, " uploads work again")
    await proxy.switch(fault)
    if fault is Fault.SLOW:  # bytes move: nothing fails, but segments are late
        await on.service.until_health(http=503)
    else:
        await said_more(on.service, " uploads fail ", failed)
    if fault is Fault.HANG:
        await check_long_fault(on)
    if fault is Fault.DENIED:
        await check_permanent_fault(on)
    await on.owncast.wait_for_segments(on.owncast_segments() + 2)
    assert await proxy.met() or fault is Fault.REFUSE
    lasted = time.monotonic() - began
    await proxy.switch(Fault.NONE)
    if fault is not Fault.SLOW:
        await said_more(on.service, " uploads work again", worked)
    await on.service.until_health(http=200, backlog=0)
    print(f"{fault.name}: for {lasted:.1f} s, made good in {time.monotonic() - began - lasted:.1f} s")


async def check_long_fault(on: EndToEnd) -> None:
    """Past 10 s: health says why and for how long, metrics show what waits, playlists are still there."""
    health = await on.service.until_health(http=503)
    frozen = r"VIEWERS FROZEN for \d+ s: the bucket does not get the segments \("
    assert re.match(frozen, str(health["reason"]))
    assert "no answer within" in str(health["reason"])
    await eventually(lambda: backlog_metric(on.service), lambda waiting: waiting >= 2 * 8)
    before = {variant: on.watcher.versions[variant][-1] for variant in ("0", "1")}
    async with aiohttp.ClientSession() as session:
        for variant, playlist in before.items():
            url = f"{on.service.address}/live/{variant}/playlist.m3u8"
            async with session.get(url) as response:
                assert response.status == 200
                assert playlist.segments[-1].uri in await response.text()


async def check_permanent_fault(on: EndToEnd) -> None:
    """Someone must act: health says so, the log in one line, however many segments fail."""
    await eventually(  # the first to fail may have been cut off when the fault began
        on.service.health,
        lambda health: health["http"] == 503 and "AccessDenied" in str(health["reason"]),
    )
    await on.owncast.wait_for_segments(on.owncast_segments() + 3)
    lines = on.service.log.read_text().splitlines()
    assert [" ERROR " in line for line in lines if "AccessDenied" in line] == [True]


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the test above has each fault")
@pytest.mark.takes(10)
async def test_minutes_without_a_bucket(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Three variants wait for minutes, ten at full length: memory stays, and all that waits gets through."""
    hls = tmp_path / "hls"
    owncast = Folder(hls)
    owncast.write(0)
    owncast.list_variants()
    async with (
        FaultProxy(port_of(bucket)) as proxy,
        running_service(
            tmp_path, hls, bucket, R2_ENDPOINT_URL=proxy.url, BROADCASTER_RETENTION="keep"
        ) as service,
        watching(service.address) as watcher,
    ):
        for number in range(1, FIRST):
            owncast.write(number)
            for variant in ("0", "1", "2"):
                await watcher.until_number(variant, number + 1)
        assert service.child
        process = psutil.Process(service.child.pid)
        before = process.memory_info().rss
        await proxy.switch(Fault.HANG)
        middle, end = FIRST + OUTAGE // 2, FIRST + OUTAGE
        peak = await write_unseen(owncast, range(FIRST, middle), service, process)
        await proxy.switch(Fault.REFUSE)
        peak = max(peak, await write_unseen(owncast, range(middle, end), service, process))
        waiting = await backlog_metric(service)
        assert waiting == OUTAGE * 3
        await proxy.switch(Fault.NONE)
        peak_of_drain = await drain(service, process)
    found = await take_inventory(bucket, owncast.finished)
    print(
        f"\n{waiting:.0f} segments waited; memory grew by {(peak - before) / MIB:.1f} MiB at most, "
        f"{(peak_of_drain - before) / MIB:.1f} in the drain"
    )
    assert max(peak, peak_of_drain) - before < 30 * MIB
    assert (found.missing, found.different, watcher.violations, watcher.missing) == (set(), [], [], [])


async def write_unseen(owncast: "Folder", numbers: range, service: Service, process: psutil.Process) -> int:
    """Write segments as fast as the service takes note of them; returns its largest memory, in bytes."""
    peak = 0
    for number in numbers:
        owncast.write(number)
        await service.until_health(backlog=(number + 1 - FIRST) * 3)
        peak = max(peak, process.memory_info().rss)
    return peak


async def drain(service: Service, process: psutil.Process) -> int:
    """Wait until nothing is on its way any more; returns the service's largest memory, in bytes."""
    peak = 0

    async def drained() -> bool:
        nonlocal peak
        peak = max(peak, process.memory_info().rss)
        return (await service.health())["backlog"] == 0  # the encoder brings nothing more, which is a failure

    await eventually(drained)
    return peak


class Folder:
    """An HLS folder with three variants of two-second segments, kept as clean as Owncast keeps it."""

    PACKETS = (2400, 1300, 500)  # 450, 245 and 94 kB: 1.8, 1 and 0.4 Mbit/s
    LISTED, KEPT = 10, 20  # segments

    def __init__(self, root: Path) -> None:
        self.finished: dict[SegmentKey, str] = {}
        self._root = root
        self._writers = [HlsWriter(root / str(index)) for index in range(len(self.PACKETS))]

    def write(self, number: int) -> None:
        for writer, packets in zip(self._writers, self.PACKETS, strict=True):
            body = os.urandom(188 * packets)
            name = writer.name(number)
            (writer.folder / name).write_bytes(body)
            self.finished[writer.encoder, writer.folder.name, name] = hashlib.sha256(body).hexdigest()
            writer.playlist(range(max(0, number + 1 - self.LISTED), number + 1))
            (writer.folder / writer.name(number - self.KEPT)).unlink(missing_ok=True)

    def list_variants(self) -> None:
        variants = [f"#EXT-X-STREAM-INF:BANDWIDTH=1\n{index}/stream.m3u8\n" for index in range(3)]
        (self._root / "stream.m3u8").write_text("#EXTM3U\n" + "".join(variants))


def port_of(bucket: SeaweedBucket) -> int:
    port = urlsplit(bucket.endpoint_url).port
    assert port
    return port


def count(service: Service, text: str) -> int:
    return service.log.read_text().count(text)


async def said_more(service: Service, text: str, than: int) -> None:
    """Wait until the log has it more often."""
    await eventually(lambda: count(service, text), lambda found: found > than)


async def backlog_metric(service: Service) -> float:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{service.admin_address}/metrics") as response,
    ):
        lines = (await response.text()).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("broadcaster_backlog_segments "))
