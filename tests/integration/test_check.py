"""The doctor against real parts: right, and with one fault at a time, which it names with its remedy."""

import asyncio
import json
import os
import shutil
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import Child, find_program, free_ports
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.faults.fault_proxy import Fault, FaultProxy
from tests.support.faults.hanging_mount import hanging_mount
from tests.support.judges.check_command import PACKETS, examine, listening, settings_of, small_disk
from tests.support.length import SOAK
from tests.support.servers.end_to_end import object_keys
from tests.support.suspending import resume, suspend
from tests.support.waiting import PATIENCE, eventually

# SeaweedFS speaks HTTP, without a Cloudflare in front.
USUAL = {"public-protocol": "warning"}


@pytest.fixture
def stream(tmp_path: Path) -> HlsWriter:
    """A stream that is on, in the HLS folder."""
    writer = HlsWriter(tmp_path / "hls" / "0")
    for number in range(5):
        writer.segment(number, PACKETS)
    go_on(writer)
    return writer


def go_on(writer: HlsWriter) -> None:
    """The playlist has been written just now, and for ten minutes to come: a busy machine takes its time."""
    soon = time.time() + 600
    os.utime(writer.playlist(range(5)), (soon, soon))


async def test_all_is_well(tmp_path: Path, bucket: SeaweedBucket, stream: HlsWriter) -> None:
    """Against a right set-up nothing fails, for people and for programs, and nothing is left behind."""
    settings = settings_of(tmp_path, bucket)
    found = await examine(tmp_path, settings, "--json", under=())
    assert found.status == 0, found.output
    assert found.bad() == USUAL
    assert json.loads(found.output)["ok"] is True
    found.says("hls-playlists", "ok", "1 variant(s), segments of up to 2 s, 2.26 Mbit/s", "")
    found.says("uplink", "ok", "the stream makes 2.26 Mbit/s in 1 variant(s), the uplink carries", "")
    go_on(stream)
    text = await examine(tmp_path, settings, under=())
    assert text.status == 0
    assert len([line for line in text.output.splitlines() if line.startswith("ok ")]) == 29
    assert "29 ok, 1 warning, 1 skipped" in text.output
    assert await object_keys(bucket) == []
    assert not (tmp_path / "state").exists()
    assert len(list(stream.folder.iterdir())) == 6


async def test_wrong_keys_and_addresses(tmp_path: Path, bucket: SeaweedBucket, stream: HlsWriter) -> None:
    """A wrong key, secret, bucket or endpoint fails where it shows, and what needs it is skipped."""
    (port,) = free_ports(1)
    wrong = [
        (
            {"R2_ACCESS_KEY_ID": "AKIAWRONGKEY"},
            "access",
            "InvalidAccessKeyId",
            "check the access key (R2_ACCESS_KEY_ID)",
        ),
        (
            {"R2_SECRET_ACCESS_KEY": "wrong-secret-value"},
            "access",
            "SignatureDoesNotMatch",
            "check the secret (R2_SECRET_ACCESS_KEY)",
        ),
        ({"R2_BUCKET": "no-such-bucket"}, "access", "there is no such bucket", "name (R2_BUCKET)"),
        (
            {"R2_ENDPOINT_URL": f"http://127.0.0.1:{port}"},
            "endpoint",
            "refuses connections",
            "R2_ENDPOINT_URL",
        ),
        (
            {"R2_ENDPOINT_URL": "https://no-such-name.invalid"},
            "endpoint",
            "the name is not known",
            "R2_ENDPOINT_URL",
        ),
    ]
    for settings, name, message, remedy in wrong:
        go_on(stream)
        found = await examine(tmp_path, settings_of(tmp_path, bucket, **settings), "--json")
        assert found.status == 1, found.output
        found.says(name, "failed", message, remedy)
        assert found.bad() == {name: "failed", **USUAL}
        for needing in ("put", "uplink", "public-object", "delete"):
            found.says(needing, "skipped", "needs ", "")


async def test_wrong_settings(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """A missing or malformed setting ends it with status 2, as ``run``, and is named."""
    for name, value in [
        ("R2_BUCKET", ""),
        ("R2_PREFIX", "../x"),
        ("BROADCASTER_PORT", "http"),
        ("R2_ENDPOINT_URL", f"{bucket.endpoint_url}/{bucket.bucket}"),
    ]:
        settings = settings_of(tmp_path, bucket, **{name: value})
        found = await examine(tmp_path, settings, "--json")
        assert found.status == 2
        found.says("settings", "failed", name, ".env")
        assert (await examine(tmp_path, settings)).output.startswith("FAILED   settings: ")


async def test_wrong_folders(tmp_path: Path, bucket: SeaweedBucket, stream: HlsWriter) -> None:
    """No HLS folder, a foreign one, and a file where a folder should be."""
    foreign = tmp_path / "pictures"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"x")
    file = tmp_path / "file"
    file.touch()
    wrong = [
        ({"BROADCASTER_HLS_DIR": str(tmp_path / "none")}, "hls-folder", "is not there", "data/hls"),
        ({"BROADCASTER_HLS_DIR": str(foreign)}, "hls-playlists", "is not an HLS folder", "data/hls"),
        ({"BROADCASTER_STATE_DIR": str(file)}, "state-folder", "Not a directory", "choose a folder"),
    ]
    for settings, name, message, remedy in wrong:
        go_on(stream)
        found = await examine(tmp_path, settings_of(tmp_path, bucket, **settings), "--json")
        assert found.status == 1, found.output
        found.says(name, "failed", message, remedy)
        assert found.bad() == {name: "failed", **USUAL}


@pytest.mark.usefixtures("stream")
async def test_state_folder_that_cannot_be_written(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """A read-only and a full file system have different findings; another file system costs copies."""
    with small_disk(tmp_path / "read-only", "1m", read_only=True) as folder:
        found = await examine(
            tmp_path, settings_of(tmp_path, bucket, BROADCASTER_STATE_DIR=str(folder)), "--json"
        )
        found.says("state-folder", "failed", "Read-only file system", "not mounted read-only")
    with small_disk(tmp_path / "small", "1m") as folder:
        settings = settings_of(tmp_path, bucket, BROADCASTER_STATE_DIR=str(folder))
        roomy = await examine(tmp_path, settings, "--json")
        roomy.says("state-links", "warning", "another file system: every segment is copied", "file system")
        roomy.says("state-room", "failed", "1.0 MB left", "make room")
        (folder / "filler").write_bytes(bytes(2**20))
        full = await examine(tmp_path, settings, "--json")
        full.says("state-folder", "failed", "No space left on device", "make room")
    for item in (found, roomy, full):
        assert item.status == 1


@pytest.mark.parametrize(
    ("fault", "name", "message", "remedy"),
    [
        (Fault.HANG, "endpoint", "does not answer within 3 s", "firewall"),
        (Fault.REFUSE, "endpoint", "refuses connections", "nothing listens there"),
        (Fault.DENIED, "access", "AccessDenied", "the key's rights"),
        (Fault.UNAVAILABLE, "access", "ServiceUnavailable (HTTP 503)", "see whether it lasts"),
        (Fault.SLOW, "uplink", "the stream makes 2.26 Mbit/s", "lower the bit rate"),
    ],
)
async def test_network_faults(  # noqa: PLR0913, PLR0917 - a table's columns
    tmp_path: Path,
    bucket: SeaweedBucket,
    stream: HlsWriter,
    fault: Fault,
    name: str,
    message: str,
    remedy: str,
) -> None:
    """An endpoint that hangs, refuses, denies, is overloaded, or is behind 64 kbit/s."""
    async with FaultProxy(int(bucket.endpoint_url.rpartition(":")[2])) as proxy:
        await proxy.switch(fault)
        go_on(stream)
        settings = settings_of(tmp_path, bucket, R2_ENDPOINT_URL=proxy.url)
        found = await examine(tmp_path, settings, "--json", patient=False)
    assert found.status == 1
    found.says(name, "failed", message, remedy)
    assert found.bad() == {name: "failed", **USUAL}
    assert await object_keys(bucket) == []


async def test_everything_hangs(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """With neither the endpoint nor the viewers' address ever answering, it still ends."""
    suspend(bucket.child)
    try:
        found = await examine(tmp_path, settings_of(tmp_path, bucket), "--json", patient=False)
    finally:
        resume(bucket.child)
    found.says("endpoint", "failed", "does not answer within 3 s", "firewall")
    found.says("public-address", "failed", "does not answer within 3 s", "R2_PUBLIC_URL")


async def test_a_folder_that_hangs(tmp_path: Path, bucket: SeaweedBucket, stream: HlsWriter) -> None:
    """A network drive whose server is away is named, and the other checks go on."""
    with hanging_mount(stream.folder.parent):
        found = await examine(tmp_path, settings_of(tmp_path, bucket), "--json", patient=False)
    found.says("hls-folder", "failed", "no answer within 4 s", "does the file system hang?")
    found.says("hls-playlists", "skipped", "needs hls-folder", "")
    found.says("access", "ok", "the key opens", "")


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the next test has it without libfaketime")
async def test_clock_off_by_twenty_minutes(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """A machine whose clock is wrong: libfaketime shifts the doctor's, SeaweedFS's is right."""
    if not shutil.which("faketime"):
        pytest.skip("faketime is missing")
    settings = settings_of(tmp_path, bucket, FAKETIME_DONT_FAKE_MONOTONIC="1")
    for shift, words in (("+20m", "20 min ahead of"), ("-20m", "20 min behind")):
        found = await examine(tmp_path, settings, "--json", under=("faketime", "-f", shift))
        assert found.status == 1
        found.says("clock", "failed", words, "timedatectl")
        found.says("access", "skipped", "needs clock", "")


async def test_a_bucket_that_refuses_our_time(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """The same without libfaketime: a stand-in for an endpoint whose clock is 20 minutes ahead of ours."""

    async def skewed(_: web.Request) -> web.Response:
        theirs = datetime.now(UTC) + timedelta(minutes=20)
        body = "<Error><Code>RequestTimeTooSkewed</Code><Message>too large</Message></Error>"
        date = theirs.strftime("%a, %d %b %Y %H:%M:%S GMT")
        return web.Response(status=403, text=body, content_type="application/xml", headers={"Date": date})

    async with listening(skewed) as address:
        found = await examine(tmp_path, settings_of(tmp_path, bucket, R2_ENDPOINT_URL=address), "--json")
    assert found.status == 1
    found.says("clock", "failed", "20 min behind the bucket's", "timedatectl")


async def test_interrupted(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Ctrl-C in the middle: what has been put into the bucket is deleted all the same."""
    async with FaultProxy(int(bucket.endpoint_url.rpartition(":")[2])) as proxy:
        await proxy.switch(Fault.SLOW)
        settings = settings_of(tmp_path, bucket, R2_ENDPOINT_URL=proxy.url)
        child = await Child.start("check", ["broadcaster", "check"], tmp_path / "check.log", env=settings)
        await child.until(eventually(lambda: object_keys(bucket)), within=PATIENCE)
        status = await child.stop(signal.SIGINT, grace=PATIENCE)
    assert status == 1
    assert await object_keys(bucket) == []
    assert "interrupted" in child.log.read_text()


async def test_progress_on_a_terminal(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """A terminal sees what is being checked; the line gives way to the result."""
    settings = settings_of(tmp_path, bucket, R2_BUCKET="no-such-bucket")
    primary, secondary = os.openpty()
    process = await asyncio.create_subprocess_exec(
        find_program("broadcaster"),
        "check",
        env={**os.environ, **settings},
        cwd=tmp_path,
        stdout=secondary,
    )
    os.close(secondary)
    output = await asyncio.to_thread(_read_all, primary)
    assert await process.wait() == 1
    assert b"\x1b[2K...      key and bucket\r\x1b[2KFAILED   key and bucket: " in output


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        chunks: list[bytes] = []
        while True:
            try:
                chunk = file.read(65_536)
            except OSError:  # EIO: the other side is closed
                chunk = b""
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
