"""A large file into a bucket with R2's rules, over faults and kills, by the command that operators run.

In ``make soak`` it is killed at twenty moments.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from broadcaster.admin_client import MOST, upload_recording_file
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import find_program
from broadcaster.doctor.repair import may_upload
from broadcaster.errors import AdminError
from broadcaster.guest import open_browser
from broadcaster.recordings.file_uploads import Uploads
from broadcaster.service.health import Outcome
from tests.support.length import seconds
from tests.support.servers.r2_rules import MIB, SMALLEST, Fault
from tests.support.servers.upload_fixture import UploadFixture, make_file, upload_desk
from tests.support.waiting import eventually

KILLS = seconds(20, 2)
PARTS = seconds(48, 6)


@pytest.fixture
async def admin(tmp_path: Path, bucket: SeaweedBucket) -> AsyncIterator[UploadFixture]:
    async with upload_desk(tmp_path, bucket) as made:
        yield made


async def start(admin: UploadFixture, file: Path, *more: str) -> asyncio.subprocess.Process:
    """``broadcaster recordings upload``, from a machine that has nothing but the token."""
    token = file.with_name("token")
    token.write_text(admin.token)
    where = ("--service", admin.address, "--token-file", str(token))
    return await asyncio.create_subprocess_exec(
        *(find_program("broadcaster"), "recordings", "upload", admin.recording, str(file), *where, *more),
        env={"PATH": os.environ["PATH"]},
        cwd=file.parent,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.takes(12)
async def test_killed_at_any_moment(admin: UploadFixture, tmp_path: Path) -> None:
    """It goes on where it stood: the same bytes, and of each kill no more than a part per worker twice."""
    path = tmp_path / "best.mp4"
    digest = make_file(path, (PARTS - 1) * SMALLEST + MIB)
    moments = sorted(random.Random(4).sample(range(1, PARTS), KILLS))
    for parts in moments:
        child = await start(admin, path)
        await admin.front.until(parts + admin.front.arrived.total() - len(admin.front.arrived))
        child.kill()
        await child.wait()
    child = await start(admin, path, "--rate", "800000")
    _, complaints = await child.communicate()
    assert (child.returncode, complaints) == (0, b"")
    assert await admin.digest() == digest
    twice = admin.front.arrived.total() - PARTS
    print(f"{KILLS} kills, {PARTS} parts, {twice} sent twice; {admin.front.arrived.total()} in all")
    assert len(admin.front.arrived) == PARTS
    assert twice <= KILLS * MOST
    # Once more: what is there is not sent again.
    sent = admin.front.arrived.total()
    assert await (await start(admin, path)).wait() == 0
    assert admin.front.arrived.total() == sent


async def test_faults_of_parts(
    admin: UploadFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A 500, no answer, other bytes, a completion without an answer: all is tried again until it is right."""
    monkeypatch.setattr("broadcaster.bucket.body.ANSWER", 1.0)
    monkeypatch.setattr("broadcaster.admin_client.FIRST_PAUSE", 0.1)
    monkeypatch.setattr("broadcaster.admin_client.MAX_PAUSE", 0.2)
    path = tmp_path / "best.mp4"
    digest = make_file(path, 4 * SMALLEST + 1)
    admin.front.faults = {
        1: [Fault.ERROR, Fault.ERROR],
        2: [Fault.HANG],
        3: [Fault.OTHER_BYTES],
        5: [Fault.ERROR],
        0: [Fault.LOST],
    }
    seen: list[tuple[float, float]] = []
    await upload_recording_file(
        admin.address, admin.token, admin.recording, path, progress=lambda *done: seen.append(done)
    )
    assert not any(admin.front.faults.values())
    assert await admin.digest() == digest
    assert max(seen) == seen[-1] == (1, path.stat().st_size)
    assert "X-Amz" not in caplog.text
    assert admin.token not in caplog.text


async def test_an_address_is_for_one_part_alone(admin: UploadFixture) -> None:
    """Neither another part, nor another length, nor another object can be put with it."""
    (recording,) = await admin.stream.recordings()
    uploads = Uploads(admin.store, admin.stream.catalog, "live", lambda: None, part=SMALLEST)
    key = (await uploads.begin(recording, "a.mp4", SMALLEST + 3))["key"]
    url = await uploads.part_url(recording, key, 2)
    async with aiohttp.ClientSession() as session:
        for address, body, expected in (
            (url.replace("partNumber=2", "partNumber=1"), b"abc", 403),
            (url.replace(".mp4", ".ts"), b"abc", 403),
            (url, b"abcd", 403),
            (url, b"abc", 200),
        ):
            async with session.put(URL(address, encoded=True), data=body) as response:
                assert response.status == expected
    assert "X-Amz-Expires=900" in url


async def test_the_doctor_tells_whether_the_dashboard_may(admin: UploadFixture) -> None:
    """It asks the bucket as the dashboard's browser does; where nobody is allowed, it says what to do."""
    address = f"{admin.front.url}/{admin.bucket.bucket}/live/files/a"
    async with open_browser("https://watch.example.com") as browser:
        assert (await may_upload(browser, address, admin.address)).outcome is Outcome.OK
        found = await may_upload(browser, f"{admin.address}/health", admin.address)
    assert (found.outcome, "--uploads" in found.remedy) == (Outcome.WARNING, True)


async def test_what_ends_it(admin: UploadFixture, tmp_path: Path) -> None:
    """A wrong token, no such recording, nobody there, and an upload that was cancelled have their errors."""
    path = tmp_path / "best.mp4"
    make_file(path, SMALLEST)
    for address, token, recording, message in (
        (admin.address, "x", admin.recording, "the operator's token is needed"),
        (admin.address, admin.token, "x", "there is no such recording"),
        ("http://127.0.0.1:9", admin.token, admin.recording, "does not answer at http://127.0.0.1:9"),
    ):
        with pytest.raises(AdminError, match=message):
            await upload_recording_file(address, token, recording, path)
    admin.front.faults[1] = [Fault.ERROR] * 100
    sending = asyncio.create_task(
        upload_recording_file(admin.address, admin.token, admin.recording, path, rate=10_000_000)
    )
    files = admin.stream.catalog.files
    (found,) = await eventually(files.uploading)
    uploads = [upload async for upload in admin.store.uploads(f"live/files/{admin.recording}", deadline=60)]
    assert [(key, name) for key, name, _ in uploads] == [(found.key, found.upload)]
    await files.abandon(admin.recording)
    for _ in range(2):
        await admin.store.abort(found.key, found.upload, deadline=60)
    assert await admin.store.parts(found.key, found.upload, deadline=60) is None
    with pytest.raises(AdminError, match="this upload is over"):
        await sending
