"""A recording as who only knows the bucket finds it, and held against what the encoder finished."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp

from broadcaster.demo.encoder import ffmpeg
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, parse
from tests.conformance import rules
from tests.conformance.checks import ALWAYS
from tests.conformance.subject import State, subject_at
from tests.conformance.verdicts import NotApplicable
from tests.support.judges.playlist_rules import violations
from tests.support.servers.end_to_end import url_key
from tests.support.servers.owncast_receiver import SegmentKey

HLS_PARSER = Path(__file__).with_name("hls-parser.mjs")


@dataclass
class Found:
    """What a recording lists: its media playlists by address, and the SHA-256 of each segment."""

    playlists: dict[str, MediaPlaylist] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)  # of all playlists
    segments: dict[SegmentKey, str] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)  # what was answered other than 200


async def index_at(public_url: str) -> list[dict[str, Any]]:
    """The recordings that are listed; none while there is no index."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{public_url}/live/recordings/index.json") as response,
    ):
        return list(json.loads(await response.read())["recordings"]) if response.status == 200 else []


async def read(public_url: str, recording: Mapping[str, Any]) -> Found:
    """Ask for all that it leads to."""
    found = Found()
    async with aiohttp.ClientSession() as session:

        async def get(url: str) -> bytes:
            async with session.get(url) as response:
                if response.status != 200:
                    found.answers[url] = response.status
                return await response.read()

        for part in recording["parts"]:
            main = f"{public_url}/live/recordings/{part}"
            text = (await get(main)).decode()
            if main in found.answers:
                continue
            found.texts.append(text)
            playlist = parse(text)
            assert isinstance(playlist, MultivariantPlaylist)
            for variant in playlist.variants:
                url = urljoin(main, variant.uri)
                found.texts.append((await get(url)).decode())
                media = parse(found.texts[-1])
                assert isinstance(media, MediaPlaylist)
                found.playlists[url] = media
                for segment in media.segments:
                    if not segment.gap:
                        address = urljoin(url, segment.uri)
                        found.segments[url_key(address)] = hashlib.sha256(await get(address)).hexdigest()
    return found


def check(found: Found, finished: Mapping[SegmentKey, str]) -> None:
    """Every segment that the encoder finished is there once, byte for byte, and every rule is kept."""
    assert found.answers == {}
    assert sorted({*finished} - {*found.segments}) == [], f"missing of {len(finished)}"
    assert sorted({*found.segments} - {*finished}) == [], "never finished"
    assert found.segments == finished
    listed = [
        segment for playlist in found.playlists.values() for segment in playlist.segments if not segment.gap
    ]
    assert len(listed) == len(finished)
    for playlist in found.playlists.values():
        assert violations(None, playlist) == []
        assert playlist.playlist_type == "VOD"
        assert playlist.ended


async def check_rules(url: str) -> None:
    """The rules of the conformance suite that are about playlists, and not about who serves them."""
    async with subject_at(url, State.ENDED) as subject:
        for rule in ALWAYS:
            if rule.__module__ == rules.__name__ and rule is not rules.listed_segments_answer:
                with contextlib.suppress(NotApplicable):
                    await rule(subject)


async def complaints(texts: Sequence[str]) -> list[str]:
    """What another implementation, hls-parser in its strict mode, has against these playlists."""
    child = await asyncio.create_subprocess_exec(
        "node", str(HLS_PARSER), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate(json.dumps(texts).encode())
    assert child.returncode == 0
    return list(json.loads(output))


async def decoding_errors(url: str, folder: Path) -> list[str]:
    """What ffmpeg has to say when it decodes it from end to end, apart from what it says of each stream."""
    log = folder / "ffmpeg-decodes.log"
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(
            *(*ffmpeg(), "-hide_banner", "-loglevel", "error", "-i", url, "-map", "0:v", "-f", "null", "-"),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=output,
        )
        assert await child.wait() == 0
    return log.read_text(errors="replace").splitlines()


async def errors_of_mpv(url: str) -> list[str]:
    """What mpv calls an error when it plays it from end to end, as fast as it can.

    That a segment's counters of packets do not go on from another run's, it tells as a warning.
    """
    child = await asyncio.create_subprocess_exec(
        *("mpv", "--no-config", "--vo=null", "--ao=null", "--input-terminal=no", "--untimed", "--no-audio"),
        *("--msg-level=all=error,cplayer=info", url),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await child.communicate()
    assert child.returncode == 0
    assert b"(End of file)" in output
    return [line for line in output.decode(errors="replace").splitlines() if line.startswith("[")]
