"""Faults of blocking reload and delta updates."""

from tests.conformance import blocking, delta
from tests.conformance.faulty_server import Behaviour, Reply
from tests.conformance.seeds import Fault, rewritten
from tests.conformance.subject import State


def is_delta(reply: Reply) -> bool:
    """Whether segments are skipped."""
    return reply.skip


BLOCKING = (
    Fault(
        "waits when the number is listed",
        blocking.listed_numbers_are_answered_at_once,
        Behaviour(waits=lambda _: True),
        "always came with the next segment",
    ),
    Fault(
        "refuses numbers that rolled off",
        blocking.listed_numbers_are_answered_at_once,
        Behaviour(refuses=lambda ahead: ahead > 2 or ahead < -25),
        "200 expected, 400 seen",
    ),
    Fault(
        "never waits",
        blocking.the_next_number_is_waited_for,
        Behaviour(waits=lambda _: False),
        " ends at 1",
    ),
    Fault(
        "wakes up late",
        blocking.the_next_number_is_waited_for,
        Behaviour(wake_up=1.5),
        "s after the segment was listed",
    ),
    Fault(
        "waits for one segment only",
        blocking.the_number_after_next_is_waited_for,
        Behaviour(waits=lambda ahead: ahead == 1),
        " ends at 1",
    ),
    Fault(
        "refuses last + 2",
        blocking.the_number_after_next_is_waited_for,
        Behaviour(refuses=lambda ahead: ahead > 1),
        "200 expected, 400 seen",
    ),
    Fault(
        "waits for any number",
        blocking.too_far_ahead_is_refused_at_once,
        Behaviour(refuses=lambda _: False, patience=0.5),
        "last + 1000: 400 expected, {503} seen",
    ),
    Fault(
        "waits for last + 3",
        blocking.too_far_ahead_is_refused_at_once,
        Behaviour(refuses=lambda ahead: ahead > 3),
        "last + 3: 400 expected, {200} seen",
    ),
    Fault(
        "refuses late",
        blocking.too_far_ahead_is_refused_at_once,
        Behaviour(refusal=1.5),
        "seconds later than without",
    ),
    Fault(
        "ignores a lone part",
        blocking.a_part_without_a_number_is_refused,
        Behaviour(checks_part=False),
        "400 expected, 200 seen",
    ),
    Fault(
        "ignores garbage",
        blocking.garbage_is_refused,
        Behaviour(checks_number=False),
        "'abc'}: 400 expected, 200 seen",
    ),
    Fault(
        "refuses unknown parameters",
        blocking.unknown_parameters_are_ignored,
        Behaviour(parameters="_HLS_.*|conformance"),
        "200 expected, 400 seen",
    ),
    Fault(
        "waits too long",
        blocking.waiting_ends_in_503,
        Behaviour(patience=6),
        "later than 5.0 s",
        State.PAUSED,
    ),
    Fault(
        "gives up too soon",
        blocking.waiting_ends_in_503,
        Behaviour(patience=0.5),
        "before 1.5 s",
        State.PAUSED,
    ),
    Fault(
        "gives up with a 200",
        blocking.waiting_ends_in_503,
        Behaviour(patience=2, vain=None),
        "503 expected, 200 seen",
        State.PAUSED,
    ),
    Fault(
        "waits after the end",
        blocking.an_ended_playlist_ignores_directives,
        Behaviour(heeds_end=False),
        "s later than without the query",
        State.ENDED,
    ),
    Fault(
        "refuses after the end",
        blocking.an_ended_playlist_ignores_directives,
        Behaviour(heeds_end=False, waits=lambda _: False),
        "200 expected, 400 seen",
        State.ENDED,
    ),
    Fault(
        "skips after the end",
        blocking.an_ended_playlist_ignores_directives,
        Behaviour(
            heeds_end=False,
            waits=lambda _: False,
            refuses=lambda _: False,
            checks_number=False,
            checks_part=False,
        ),
        "not the finished playlist",
        State.ENDED,
    ),
)

DELTA = (
    Fault(
        "always skips",
        delta.nothing_is_skipped_unasked,
        Behaviour(skips=lambda *_: True),
        "EXT-X-SKIP without _HLS_skip",
    ),
    Fault(
        "skips numbered answers",
        delta.nothing_is_skipped_unasked,
        Behaviour(skips=lambda _, kind: kind == "blocking"),
        "EXT-X-SKIP in answer to _HLS_msn alone",
    ),
    Fault(
        "skips without saying so",
        delta.nothing_is_skipped_unasked,
        Behaviour(skip_boundary=0),
        "EXT-X-SKIP without CAN-SKIP-UNTIL",
    ),
    Fault(
        "never skips", delta.a_long_playlist_is_skipped, Behaviour(skips=lambda *_: False), "no EXT-X-SKIP"
    ),
    Fault(
        "declares too low a version",
        delta.a_delta_update_declares_version_9,
        rewritten("VERSION:9", "VERSION:8"),
        "EXT-X-VERSION 8",
    ),
    Fault("skips too much", delta.the_skip_boundary_is_kept, Behaviour(keeps=5), "only 5.000 s of 6.000 s"),
    Fault(
        "leaves a number out of updates",
        delta.a_delta_update_has_its_numbers,
        rewritten("#EXT-X-DISCONTINUITY-SEQUENCE.*\n", "", of=is_delta),
        "no EXT-X-DISCONTINUITY-SEQUENCE",
    ),
    Fault(
        "counts what is skipped as rolled off",
        delta.a_delta_update_has_its_numbers,
        rewritten("(DISCONTINUITY-SEQUENCE:)", r"\g<1>9", of=is_delta),
        "EXT-X-DISCONTINUITY-SEQUENCE 9",
    ),
    Fault(
        "miscounts what it skips",
        delta.merging_gives_the_full_playlist,
        rewritten("(SKIPPED-SEGMENTS=)", r"\g<1>1"),
        "the update ends at number",
    ),
    Fault(
        "leaves times out of updates",
        delta.merging_gives_the_full_playlist,
        rewritten("#EXT-X-PROGRAM-DATE-TIME.*\n", "", of=is_delta),
        "is merged to",
    ),
    Fault(
        "promises less in updates",
        delta.merging_gives_the_full_playlist,
        rewritten("CAN-BLOCK-RELOAD=YES,", "", of=is_delta),
        "EXT-X-SERVER-CONTROL: ",
    ),
    Fault(
        "skips plain answers only",
        delta.a_blocking_delta_update_is_whole,
        Behaviour(skips=lambda value, kind: value == "YES" and kind == "plain"),
        "no EXT-X-SKIP",
    ),
)
