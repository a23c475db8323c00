"""Delta updates (§6.2.5.1)."""

import asyncio
from typing import NamedTuple

from tests.conformance.asking import SKIP, blocking_playlist
from tests.conformance.subject import NOTHING, Query, Subject
from tests.conformance.text import Entry, Playlist
from tests.conformance.verdicts import NotApplicable, Violation, require

SKIP_VERSION = 9  # §8
# What a delta update repeats unchanged.
KEPT_TAGS = (
    "EXT-X-TARGETDURATION",
    "EXT-X-SERVER-CONTROL",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-INDEPENDENT-SEGMENTS",
)


class Update(NamedTuple):
    """A version as a whole and as an update, and the version that a player had before."""

    before: Playlist
    full: Playlist
    delta: Playlist


async def nothing_is_skipped_unasked(subject: Subject) -> None:
    """EXT-X-SKIP answers ``_HLS_skip`` alone, and only where CAN-SKIP-UNTIL says so (§4.4.3.8, §6.2.5.1)."""
    plain = (await subject.ask_origin()).playlist
    require(not plain.has("EXT-X-SKIP"), "EXT-X-SKIP without _HLS_skip")
    if plain.can_block:
        numbered = (await subject.ask_origin({"_HLS_msn": plain.last})).playlist
        require(not numbered.has("EXT-X-SKIP"), "EXT-X-SKIP in answer to _HLS_msn alone")
    if plain.skip_boundary is None:
        asked = (await subject.ask_origin(SKIP)).playlist
        require(not asked.has("EXT-X-SKIP"), "EXT-X-SKIP without CAN-SKIP-UNTIL")


async def a_long_playlist_is_skipped(subject: Subject) -> None:
    """Who advertises CAN-SKIP-UNTIL leaves out what lies before the skip boundary (§6.2.5.1)."""
    update = await _update(subject)
    require(update.delta.skipped, "no EXT-X-SKIP, though the playlist goes back beyond the skip boundary")


async def a_delta_update_declares_version_9(subject: Subject) -> None:
    """EXT-X-SKIP needs EXT-X-VERSION 9 (§8)."""
    version = (await _update(subject)).delta.number("EXT-X-VERSION", 1)
    require(version >= SKIP_VERSION, f"EXT-X-VERSION {version}")


async def the_skip_boundary_is_kept(subject: Subject) -> None:
    """No segment within CAN-SKIP-UNTIL seconds of the end is left out (§6.2.5.1)."""
    delta = (await _update(subject)).delta
    boundary = delta.skip_boundary or 0
    if delta.skipped:
        require(delta.seconds >= boundary, f"only {delta.seconds:.3f} s of {boundary:.3f} s are left")


async def a_delta_update_has_its_numbers(subject: Subject) -> None:
    """MEDIA-SEQUENCE and DISCONTINUITY-SEQUENCE are there, as in the full playlist (§4.4.5.2)."""
    _, full, delta = await _update(subject)
    for tag in ("EXT-X-MEDIA-SEQUENCE", "EXT-X-DISCONTINUITY-SEQUENCE"):
        require(delta.has(tag), f"no {tag}")
        require(delta.number(tag) == full.number(tag), f"{tag} {delta.value(tag)}, in full {full.value(tag)}")


async def merging_gives_the_full_playlist(subject: Subject) -> None:
    """An earlier version and the update make exactly the full playlist (§6.2.5.1, §6.3.7)."""
    _is_whole(await _update(subject))


async def a_blocking_delta_update_is_whole(subject: Subject) -> None:
    """``_HLS_msn`` and ``_HLS_skip`` together: the update to the version that was waited for (§6.2.5.1)."""
    await blocking_playlist(subject)
    update = await _update(subject, blocking=True)
    require(update.delta.skipped, "no EXT-X-SKIP in the answer to a blocking request")
    _is_whole(update)


async def _update(subject: Subject, *, blocking: bool = False) -> Update:
    """Both answers from one version; raises NotApplicable where nothing is advertised or to be skipped."""
    for _ in subject.attempts:
        before = await subject.new_version()
        boundary = before.skip_boundary
        if boundary is None:
            raise NotApplicable("CAN-SKIP-UNTIL is not advertised")
        if before.seconds < boundary + 2 * before.target_duration:
            raise NotApplicable(f"the playlist has {before.seconds:.0f} s, too little to be skipped")
        wanted: Query = {"_HLS_msn": before.last + 1} if blocking else NOTHING
        answers = await asyncio.gather(subject.ask_origin(wanted), subject.ask_origin({**wanted, **SKIP}))
        full, delta = (answer.playlist for answer in answers)
        if full.last == delta.last:
            return Update(before, full, delta)
    raise Violation(f"the update ends at number {delta.last}, the full playlist at {full.last}")


def _is_whole(update: Update) -> None:
    before, full, delta = update
    for tag in KEPT_TAGS:
        require(delta.value(tag) == full.value(tag), f"{tag}: {delta.value(tag)}, in full {full.value(tag)}")
    merged = _merged(before, delta)
    for ours, theirs in zip(merged, full.entries, strict=False):
        require(ours == theirs, f"segment {theirs.number} is merged to {ours}, in full it is {theirs}")
    require(len(merged) == len(full.entries), f"{len(merged)} segments merged, {len(full.entries)} in full")


def _merged(before: Playlist, delta: Playlist) -> list[Entry]:
    """What a player makes of an update (§6.3.7)."""
    known = {entry.number: entry for entry in before.entries}
    numbers = range(delta.media_sequence, delta.media_sequence + delta.skipped)
    if missing := [number for number in numbers if number not in known]:
        raise Violation(f"number {missing[0]} is skipped, though the version before did not have it")
    skipped = [known[number] for number in numbers]
    carried = skipped[-1].carried if skipped else {}
    rest = [
        Entry(entry.number, entry.uri, entry.tags, {**carried, **entry.carried}) for entry in delta.entries
    ]
    return skipped + rest
