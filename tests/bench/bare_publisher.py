"""The least that publishing can be: watchfiles sees a change, each new segment is read, PUT and listed.

It neither judges whether a file is whole nor keeps anything for a restart, nor compares what the bucket says.
The request is as the service's: neither signed over its bytes nor held back until the bucket says "continue".
Settings come from the environment, as the service's do; for each segment a line of JSON tells when it was
listed.
"""

import asyncio
import sys
from collections import defaultdict, deque
from functools import partial
from pathlib import Path

import botocore.handlers
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from watchfiles import awatch

from broadcaster.config import load
from tests.bench.service_events import Note


async def main(path: Path) -> None:
    """Publish until killed what the playlists list from now on."""
    settings = load()
    note = Note(path, settings.hls_dir)
    config = AioConfig(
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path", "payload_signing_enabled": False},
    )
    listed: defaultdict[str, deque[str]] = defaultdict(partial(deque[str], maxlen=10))
    playlists: dict[str, str] = {}
    known = set(_listed(settings.hls_dir))  # by path: all variants have the same names
    async with get_session().create_client(
        "s3",
        config=config,
        region_name="auto",
        endpoint_url=settings.s3_endpoint,
        aws_access_key_id=settings.access_key_id.get_secret_value(),
        aws_secret_access_key=settings.secret_access_key.get_secret_value(),
    ) as client:
        client.meta.events.unregister("before-call.s3", botocore.handlers.add_expect_header)

        async def publish(segment: Path) -> None:
            body = segment.read_bytes()  # noqa: ASYNC240 - it is in memory
            variant, key = segment.parent.name, f"bare/{segment.parent.name}/{segment.name}"
            await client.put_object(Bucket=settings.bucket, Key=key, Body=body)
            listed[variant].append(f"#EXTINF:2,\n{settings.public_url}/{key}\n")
            playlists[variant] = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n" + "".join(listed[variant])
            note.published(variant, segment.name)

        async with asyncio.TaskGroup() as group:
            async for _ in awatch(settings.hls_dir, step=1, debounce=1):
                for segment in _listed(settings.hls_dir):
                    if segment not in known:
                        known.add(segment)
                        group.create_task(publish(segment))


def _listed(folder: Path) -> list[Path]:
    return [
        playlist.parent / line
        for playlist in folder.glob("*/stream.m3u8")
        for line in playlist.read_text().splitlines()
        if line.endswith(".ts")
    ]


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
