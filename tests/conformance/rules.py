"""The rules of a live playlist, by itself and from version to version."""

import asyncio
import math
import re
from itertools import pairwise
from typing import TypeVar
from urllib.parse import urljoin

from yarl import URL

from broadcaster.errors import PlaylistError
from broadcaster.hls import MediaPlaylist, parse
from tests.conformance.subject import IDENTITY, Subject
from tests.conformance.text import Playlist
from tests.conformance.verdicts import NotApplicable, Violation, require
from tests.support.judges.playlist_rules import violations

T = TypeVar("T")

VERSIONS = 4  # that are compared
MOST_ASKED_FOR = 20  # segments of a playlist
SHORTEST_TARGET_DURATIONS = 3  # §6.2.2
FEWEST_SEGMENTS = 6  # AS 8.11
HOLD_BACK, SKIP_BOUNDARY = 3, 6  # target durations at least (§4.4.3.8)
# What each tag needs for an EXT-X-VERSION (§8), so far as a live playlist of whole segments has it.
NEEDED_VERSIONS = {
    "EXT-X-BYTERANGE": 4,
    "EXT-X-I-FRAMES-ONLY": 4,
    "EXT-X-MAP": 6,
    "EXT-X-GAP": 8,
    "EXT-X-DEFINE": 8,
    "EXT-X-SKIP": 9,
}


async def a_playlist_is_well_formed(subject: Subject) -> None:
    """UTF-8 without a byte order mark, #EXTM3U first, whole lines (§4.1)."""
    for url in {subject.url, *subject.media_urls}:
        answer = await subject.ask(url=url)
        require(answer.playlist.lines, "an empty body")
        require(answer.text.startswith(("#EXTM3U\n", "#EXTM3U\r\n")), "no #EXTM3U first")
        require("�" not in answer.text, "not UTF-8")
        require(answer.text.endswith("\n"), "the last line is torn")


async def versions_follow_the_rules(subject: Subject) -> None:
    """Lines are appended, the oldest segments removed, and nothing else changes (§6.2.1, §6.2.2, AS 8.4).

    TARGETDURATION is constant and no EXTINF above it; MEDIA-SEQUENCE never falls; a number keeps its URI;
    PROGRAM-DATE-TIME is there and rises; DISCONTINUITY-SEQUENCE counts the tags that rolled off.
    """
    versions = [_parsed(version) for version in await subject.versions_seen(VERSIONS)]
    found = violations(None, versions[0])
    for before, after in pairwise(versions):
        found += violations(before, after)
    require(not found, "; ".join(dict.fromkeys(found[:3])))


async def the_discontinuity_sequence_is_there(subject: Subject) -> None:
    """EXT-X-DISCONTINUITY-SEQUENCE in every live playlist (AS 8.17)."""
    for playlist in await _media_playlists(subject):
        playlist.number("EXT-X-DISCONTINUITY-SEQUENCE")


async def a_sliding_window_is_long_enough(subject: Subject) -> None:
    """Once segments are removed: 3 target durations (§6.2.2) and 6 segments (AS 8.11) stay."""
    for version in await _sliding(subject):
        shortest = SHORTEST_TARGET_DURATIONS * version.target_duration
        require(version.seconds >= shortest, f"{version.seconds:.3f} s are listed, less than {shortest} s")
        require(len(version.entries) >= FEWEST_SEGMENTS, f"only {len(version.entries)} segments are listed")


async def a_sliding_window_has_no_type(subject: Subject) -> None:
    """EXT-X-PLAYLIST-TYPE would promise that nothing is ever removed (§4.4.3.5)."""
    for version in await _sliding(subject):
        require(not version.has("EXT-X-PLAYLIST-TYPE"), "EXT-X-PLAYLIST-TYPE, but segments are removed")


async def the_version_covers_what_is_used(subject: Subject) -> None:
    """EXT-X-VERSION is at least what the tags need (§8)."""
    for playlist in await _media_playlists(subject):
        _require_version(playlist)


async def server_control_is_generous_enough(subject: Subject) -> None:
    """HOLD-BACK is at least 3 target durations, CAN-SKIP-UNTIL at least 6 (§4.4.3.8)."""
    for playlist in await _media_playlists(subject):
        if not playlist.has("EXT-X-SERVER-CONTROL"):
            raise NotApplicable("no EXT-X-SERVER-CONTROL")
        for attribute, least in (("HOLD-BACK", HOLD_BACK), ("CAN-SKIP-UNTIL", SKIP_BOUNDARY)):
            seconds = playlist.seconds_of("EXT-X-SERVER-CONTROL", attribute)
            shortest = least * playlist.target_duration
            require(
                seconds is None or seconds >= shortest, f"{attribute} {seconds} s, less than {shortest} s"
            )


async def variants_agree(subject: Subject) -> None:
    """On TARGETDURATION, SERVER-CONTROL and the current discontinuity number (§6.2.4)."""
    if len(subject.media_urls) < 2:
        raise NotApplicable("there is one variant")
    for _ in subject.attempts:
        playlists = await _media_playlists(subject)
        for tag in ("EXT-X-TARGETDURATION", "EXT-X-SERVER-CONTROL"):
            values = {playlist.value(tag) for playlist in playlists}
            require(len(values) == 1, f"{tag}: {values}")
        numbers = {_discontinuities(playlist) for playlist in playlists}
        if len(numbers) == 1:
            return
        await subject.new_version()  # one may be ahead for a moment
    raise Violation(f"discontinuity numbers: {numbers}")


async def listed_segments_answer(subject: Subject) -> None:
    """A segment that is listed is completely available (§6.2.1): 200, and no redirect."""
    await subject.new_version()
    for url, playlist in zip(subject.media_urls, await _media_playlists(subject), strict=True):
        uris = _spread([entry.uri for entry in playlist.entries if not entry.is_gap])
        urls = (URL(urljoin(str(url), uri), encoded=True) for uri in uris)  # a signed one as it is spelled
        answers = await asyncio.gather(*(subject.ask(url=url) for url in urls))
        for uri, answer in zip(uris, answers, strict=True):
            require(answer.status == 200, f"{uri} answers {answer.status}")
            require(answer.body, f"{uri} is empty")


async def bandwidth_is_the_peak(subject: Subject) -> None:
    """BANDWIDTH is no less than any segment takes that lasts half a target duration or more (§4.4.6.2)."""
    main = (await subject.ask(url=subject.url)).playlist
    if not main.variants:
        raise NotApplicable("there is one variant")
    for uri, bandwidth in zip(main.variants, main.bandwidths, strict=True):
        url = subject.url.join(URL(uri))
        playlist = (await subject.ask_origin(url=url)).playlist
        long = [
            entry
            for entry in playlist.entries
            if not entry.is_gap and entry.seconds >= playlist.target_duration / 2
        ]
        for entry in _spread(long):
            answer = await subject.ask(url=URL(urljoin(str(url), entry.uri), encoded=True))
            bits = 8 * len(answer.body) / entry.seconds
            require(bits <= bandwidth, f"{entry.uri} takes {bits:.0f} bit/s, BANDWIDTH is {bandwidth}")


async def iframe_playlists_are_well_formed(subject: Subject) -> None:
    """Key frames alone, each as a range of bytes (§4.4.3.6), in a version that has those (§8)."""
    for playlist in (await _iframe_playlists(subject)).values():
        require(playlist.has("EXT-X-I-FRAMES-ONLY"), "no EXT-X-I-FRAMES-ONLY in an I-frame playlist")
        _require_version(playlist)
        for entry in playlist.entries:
            require(entry.is_gap or entry.byte_range, f"no EXT-X-BYTERANGE for {entry.uri}")
            longest = playlist.target_duration + 0.5
            require(entry.seconds < longest, f"EXTINF {entry.seconds} s is above TARGETDURATION (4.4.3.1)")


async def iframes_are_key_frames(subject: Subject) -> None:
    """The range of bytes is a key frame: packets, whose tables lie before it, or the head of a fragment."""
    for url, playlist in (await _iframe_playlists(subject)).items():
        listed = [entry for entry in playlist.entries if not entry.is_gap]
        require(listed, "an I-frame playlist without an I-frame")
        for entry in (listed[0], listed[-1]):
            length, offset = entry.byte_range or (0, 0)
            headers = {**IDENTITY, "Range": f"bytes={offset}-{offset + length - 1}"}
            answer = await subject.ask(url=URL(urljoin(str(url), entry.uri), encoded=True), headers=headers)
            require(answer.status == 206, f"{entry.uri}: 206 expected for a range, {answer.status} seen")
            require(len(answer.body) == length, f"{entry.uri}: {len(answer.body)} of {length} bytes")
            body, packet = answer.body, 188
            if body[4:8] == b"moof":  # the picture's data follows: its codec is in the map
                after = int.from_bytes(body[:4])
                require(body[after + 4 : after + 8] == b"mdat", f"{entry.uri}: no media in the range")
                continue
            require(offset, f"{entry.uri}: the range has the tables in it (4.4.3.6)")
            whole = length % packet == 0 and {*body[::packet]} == {0x47}
            require(whole, f"{entry.uri}: the range is not of whole transport packets")
            require(body[1] & 0x40, f"{entry.uri}: the range does not begin with a picture")
            # H.264's or HEVC's; no other bytes of a picture look so.
            found = re.search(rb"\x00\x00\x01(?:[\x05%Ee]|[ -+])", body)
            require(found, f"{entry.uri}: there is no key frame in the range")


async def _iframe_playlists(subject: Subject) -> dict[URL, Playlist]:
    main = (await subject.ask(url=subject.url)).playlist
    if not main.iframe_playlists:
        raise NotApplicable("no EXT-X-I-FRAME-STREAM-INF")
    urls = [subject.url.join(URL(uri)) for uri in main.iframe_playlists]
    return {url: (await subject.ask_origin(url=url)).playlist for url in urls}


async def _media_playlists(subject: Subject) -> list[Playlist]:
    answers = await asyncio.gather(*(subject.ask_origin(url=url) for url in subject.media_urls))
    return [answer.playlist for answer in answers]


async def _sliding(subject: Subject) -> list[Playlist]:
    """Versions from which segments were removed; raises NotApplicable where there are none."""
    versions = await subject.versions_seen(VERSIONS)
    sliding = [after for before, after in pairwise(versions) if after.media_sequence > before.media_sequence]
    if not sliding:
        raise NotApplicable("no segment was removed while it was watched")
    return sliding


def _require_version(playlist: Playlist) -> None:
    needed = max((least for tag, least in NEEDED_VERSIONS.items() if playlist.has(tag)), default=1)
    if any("." in tag for entry in playlist.entries for tag in entry.tags if tag.startswith("#EXTINF")):
        needed = max(needed, 3)
    declared = playlist.number("EXT-X-VERSION", 1)
    require(declared >= needed, f"EXT-X-VERSION {declared}, {needed} is needed")


def _parsed(version: Playlist) -> MediaPlaylist:
    if version.has("EXT-X-KEY") or version.has("EXT-X-BYTERANGE"):
        raise NotApplicable("versions with EXT-X-KEY or EXT-X-BYTERANGE are not compared")
    try:
        playlist = parse(version.text)
    except PlaylistError as error:
        raise Violation(f"the playlist {error}") from None
    if not isinstance(playlist, MediaPlaylist):
        raise Violation("a multivariant playlist in the place of a media playlist")
    return playlist


def _discontinuities(playlist: Playlist) -> int:
    tags = sum("#EXT-X-DISCONTINUITY" in entry.tags for entry in playlist.entries)
    return playlist.number("EXT-X-DISCONTINUITY-SEQUENCE", 0) + tags


def _spread(uris: list[T]) -> list[T]:
    """The first, the last, and some between."""
    step = max(1, math.ceil(len(uris) / MOST_ASKED_FOR))
    return [*uris[:-1:step], *uris[-1:]]
