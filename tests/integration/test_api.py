"""What a running service answers and tells fits docs/openapi.json and docs/events.schema.json."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broadcaster import __version__
from broadcaster.demo.bucket import SeaweedBucket
from tests.api_schemas import check_answer, check_event
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.servers.service import Service, running_service
from tests.support.waiting import eventually


class Operator:
    """Asks a service as its operator, and holds each answer against the description."""

    def __init__(self, service: Service, token: str, session: aiohttp.ClientSession) -> None:
        self._base = service.admin_address
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session = session

    async def ask(self, method: str, path: str, **body: Any) -> tuple[int, Any]:  # noqa: ANN401
        options: dict[str, Any] = {"headers": self._headers, **({"json": body} if body else {})}
        async with self._session.request(method, self._base + path, **options) as response:
            answer = await response.json() if response.content_type.endswith("json") else None
        check_answer(method, path, response.status, answer)
        return response.status, answer


async def read_events(session: aiohttp.ClientSession, service: Service) -> AsyncIterator[str]:
    """The names of events as they come, each held against the schema."""
    async with session.get(f"{service.address}/live/events") as response:
        name = ""
        async for line in response.content:
            field, _, value = line.decode().strip().partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                check_event(name, json.loads(value))
                yield name


@pytest.mark.takes(10)
async def test_answers_fit_their_description(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Of a stream from its start to its recording, its clip, and their way through the bin and back."""
    hls = tmp_path / "hls"
    writer = HlsWriter(hls / "0")
    settings = {"BROADCASTER_RECORDINGS": "keep", "BROADCASTER_END_GRACE_SECONDS": "1"}
    async with (
        running_service(tmp_path, hls, bucket, **settings) as service,
        aiohttp.ClientSession() as session,
    ):
        events: list[str] = []

        async def listen() -> None:
            async for name in read_events(session, service):
                events.append(name)  # noqa: PERF401 - the test looks at them meanwhile

        listening = asyncio.create_task(listen())
        await eventually(lambda: "state" in events)
        writer.write(range(8))
        await eventually(lambda: "ended" in events)
        assert {"state", "starting", "segment", "started", "ended"} <= {*events}
        listening.cancel()
        operator = Operator(service, (tmp_path / "state/operator-token").read_text(), session)
        await walk_through(operator)
        async with session.get(f"{service.admin_address}/metrics") as response:
            assert f'broadcaster_build_info{{version="{__version__}"}} 1.0' in await response.text()


async def walk_through(operator: Operator) -> None:
    """Each request of the API."""
    (recording,) = (await operator.ask("GET", "/api/recordings"))[1]["recordings"]
    path = f"/api/recordings/{recording['id']}"
    assert (await operator.ask("GET", path))[0] == 200
    assert (await operator.ask("PATCH", path, title="An evening", keepDays=2))[1]["title"] == "An evening"
    end = recording["started"].replace("+00:00", "Z")
    assert (await operator.ask("POST", "/api/clips", begin=end, end=end))[0] == 409
    status, clip = await operator.ask("POST", "/api/clips", last=6)
    assert status == 201
    assert (await operator.ask("PATCH", f"/api/clips/{clip['id']}", title="A goal"))[0] == 200
    assert len((await operator.ask("GET", "/api/clips"))[1]["clips"]) == 1
    upload = (await operator.ask("POST", f"{path}/file/upload", name="a.mp4", size=5))[1]
    assert (await operator.ask("POST", f"{path}/file/upload/part", key=upload["key"], number=1))[0] == 200
    whole = {"key": upload["key"], "etag": f"{'0' * 32}-1"}
    assert (await operator.ask("POST", f"{path}/file/upload/complete", **whole))[0] == 409
    assert (await operator.ask("GET", f"{path}/file"))[1]["upload"]["key"] == upload["key"]
    assert (await operator.ask("DELETE", f"{path}/file/upload"))[0] == 200
    assert (await operator.ask("DELETE", f"{path}/file"))[0] == 200
    for address in (path, f"/api/clips/{clip['id']}"):
        assert (await operator.ask("DELETE", address))[0] == 202
    binned = (await operator.ask("GET", "/api/bin"))[1]
    assert [len(binned[kind]) for kind in ("recordings", "clips", "files")] == [1, 1, 0]
    assert (await operator.ask("POST", f"/api/bin/{recording['id']}/restore"))[0] == 202
    assert (await operator.ask("DELETE", f"/api/bin/{clip['id']}"))[0] == 202
    assert (await operator.ask("DELETE", "/api/bin/none"))[0] == 404
    status, swept = await operator.ask("POST", "/api/recordings/sweep?dry-run=1")
    assert status == 200, swept
    assert swept["deleted"] is False
    assert (await operator.ask("POST", "/api/recordings/rebuild"))[1]["failed"] == 0
