"""Blocking playlist reload (§6.2.5.2)."""

import time

from tests.conformance.asking import (
    FAR_AHEAD,
    LATE,
    at_once,
    blocking_playlist,
    is_at_once,
    refused,
    timed_out,
    without_and_with,
)
from tests.conformance.subject import Subject
from tests.conformance.verdicts import Violation, require

SEGMENTS_LATE = 1.5  # target durations within which a segment is due after the last (§6.2.1)


async def listed_numbers_are_answered_at_once(subject: Subject) -> None:
    """A number that is listed, or was, gets the current playlist, not the next one (§6.2.5.2)."""
    current = await blocking_playlist(subject)
    for number in (current.last, current.media_sequence, max(current.media_sequence - 1, 0)):
        await _is_answered_at_once(subject, number)


async def the_next_number_is_waited_for(subject: Subject) -> None:
    """The answer comes as soon as the number is there, and contains it (§6.2.5.2)."""
    await _is_waited_for(subject, 1)


async def the_number_after_next_is_waited_for(subject: Subject) -> None:
    """Up to two numbers beyond the last one may be asked for (§6.2.5.2)."""
    await _is_waited_for(subject, 2)


async def too_far_ahead_is_refused_at_once(subject: Subject) -> None:
    """More than two numbers beyond the last one is a 400, and nothing waits (§6.2.5.2)."""
    for ahead in (FAR_AHEAD, 3):
        await _is_refused_at_once(subject, ahead)


async def a_part_without_a_number_is_refused(subject: Subject) -> None:
    """``_HLS_part`` without ``_HLS_msn`` is a 400 (§6.2.5.2)."""
    await refused(subject, {"_HLS_part": 0})


async def garbage_is_refused(subject: Subject) -> None:
    """A number that is no decimal integer is a 400 (§6.2.5.2: a decimal-integer)."""
    for garbage in ("abc", "-1", "1.5", "0x10"):
        await refused(subject, {"_HLS_msn": garbage})


async def unknown_parameters_are_ignored(subject: Subject) -> None:
    """Players add parameters of their own against caches; only ``_HLS_`` ones mean something (§6.2.5)."""
    current = (await subject.ask_origin()).playlist
    answer = await subject.ask({"_": time.time_ns(), "session": "a b&c", "HLS_msn": "x"})
    require(answer.status == 200, f"200 expected, {answer.status} seen")
    require(answer.playlist.last >= current.last, "an older playlist than without the parameters")
    if current.can_block:
        numbered = await subject.ask({"_HLS_msn": current.last, "cache-buster": "1"})
        require(numbered.status == 200, f"with _HLS_msn: 200 expected, {numbered.status} seen")


async def waiting_ends_in_503(subject: Subject) -> None:
    """Nothing comes: 503 after 3 target durations, not before a segment can still come (§6.2.5.2)."""
    answer = await timed_out(subject)
    longest = subject.patience + 2 * subject.promptly
    require(answer.seconds <= longest, f"given up after {answer.seconds:.1f} s, later than {longest:.1f} s")
    shortest = SEGMENTS_LATE * subject.target_duration
    require(answer.seconds >= shortest, f"given up after {answer.seconds:.1f} s, before {shortest:.1f} s")


async def an_ended_playlist_ignores_directives(subject: Subject) -> None:
    """After ENDLIST nothing is waited for, refused or skipped (§6.2.5)."""
    plain = (await subject.ask()).playlist
    last = plain.last
    for query in (
        {"_HLS_msn": last + 1},
        {"_HLS_msn": last + FAR_AHEAD},
        {"_HLS_msn": "abc"},
        {"_HLS_part": 0},
        {"_HLS_skip": "YES"},
    ):
        _, answer = await at_once(subject, query)
        require(answer.status == 200, f"{query}: 200 expected, {answer.status} seen")
        require(answer.text == plain.text, f"{query}: not the finished playlist")


async def _is_answered_at_once(subject: Subject, number: int) -> None:
    """Asked at the same time without and with the number: another version comes between only by chance."""
    for _ in subject.attempts:
        plain, answer = await at_once(subject, {"_HLS_msn": number})
        require(answer.status == 200, f"_HLS_msn={number}: 200 expected, {answer.status} seen")
        if answer.playlist.last <= plain.playlist.last:
            return
    raise Violation(f"the answer to _HLS_msn={number}, which is listed, always came with the next segment")


async def _is_waited_for(subject: Subject, ahead: int) -> None:
    """The answer without the number shows that no other version came between."""
    for _ in subject.attempts:
        number = (await blocking_playlist(subject)).last + ahead
        plain, answer = await without_and_with(subject, {"_HLS_msn": number})
        arrived = time.monotonic()
        require(answer.status == 200, f"_HLS_msn={number}: 200 expected, {answer.status} seen")
        last = answer.playlist.last
        require(last >= number, f"the answer to _HLS_msn={number} ends at {last}")
        if plain.playlist.last == number - ahead:
            late = arrived - await subject.seen(number)
            require(late < subject.promptly, f"the answer came {late:.1f} s after the segment was listed")
            return
    raise Violation("segments come faster than they can be asked for")


async def _is_refused_at_once(subject: Subject, ahead: int) -> None:
    """Another version between the two requests makes the number less far ahead, by chance."""
    statuses = list[int]()
    for _ in subject.attempts:
        number = (await blocking_playlist(subject)).last + ahead
        plain, answer = await without_and_with(subject, {"_HLS_msn": number})
        statuses.append(answer.status)
        if answer.status == 400 and is_at_once(subject, plain, answer):
            return
        require(statuses.count(400) < LATE, f"last + {ahead}: answered seconds later than without")
    raise Violation(f"last + {ahead}: 400 expected, {set(statuses)} seen")
