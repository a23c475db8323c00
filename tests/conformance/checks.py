"""Every check, by the state of the stream in which it can be made."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.conformance import blocking, caching, delta, rules, transport, validators
from tests.conformance.subject import State, Subject
from tests.conformance.verdicts import NotApplicable, Outcome, Verdict, Violation

Check = Callable[[Subject], Awaitable[None]]
LONGEST_TARGET_DURATIONS = 60  # that a check may take

# Whenever there is a playlist.
ALWAYS: tuple[Check, ...] = (
    caching.answers_vary_by_encoding_alone,
    validators.the_etag_is_strong,
    validators.an_unchanged_playlist_is_304,
    validators.a_304_has_the_headers_of_the_200,
    validators.the_date_is_right,
    transport.gzip_is_answered,
    transport.gzip_is_not_forced,
    transport.the_media_type_is_right,
    transport.head_is_get_without_the_body,
    transport.any_page_may_read_a_playlist,
    transport.any_page_may_read_a_304,
    transport.any_page_may_read_a_404,
    transport.a_player_learns_the_age,
    rules.a_playlist_is_well_formed,
    rules.the_discontinuity_sequence_is_there,
    rules.the_version_covers_what_is_used,
    rules.server_control_is_generous_enough,
    rules.variants_agree,
    rules.listed_segments_answer,
    rules.bandwidth_is_the_peak,
    rules.iframe_playlists_are_well_formed,
    rules.iframes_are_key_frames,
)
# While the playlist may go on.
UNENDED: tuple[Check, ...] = (
    blocking.listed_numbers_are_answered_at_once,
    blocking.too_far_ahead_is_refused_at_once,
    blocking.a_part_without_a_number_is_refused,
    blocking.garbage_is_refused,
    blocking.unknown_parameters_are_ignored,
    delta.nothing_is_skipped_unasked,
    caching.a_plain_playlist_is_kept_shortly,
    caching.too_far_ahead_is_not_kept,
    caching.a_malformed_request_is_not_kept_long,
    caching.an_unknown_variant_is_not_kept_long,
    transport.any_page_may_read_a_refusal,
)
CHECKS: dict[State, tuple[Check, ...]] = {
    State.LIVE: (
        *UNENDED,
        blocking.the_next_number_is_waited_for,
        blocking.the_number_after_next_is_waited_for,
        delta.a_long_playlist_is_skipped,
        delta.a_delta_update_declares_version_9,
        delta.the_skip_boundary_is_kept,
        delta.a_delta_update_has_its_numbers,
        delta.merging_gives_the_full_playlist,
        delta.a_blocking_delta_update_is_whole,
        caching.a_blocking_answer_is_kept_longer,
        validators.the_etag_changes_with_the_bytes,
        validators.last_modified_is_fresh,
        rules.versions_follow_the_rules,
        rules.a_sliding_window_is_long_enough,
        rules.a_sliding_window_has_no_type,
        *ALWAYS,
    ),
    State.PAUSED: (
        *UNENDED,
        blocking.waiting_ends_in_503,
        caching.a_vain_wait_is_hardly_kept,
        transport.any_page_may_read_a_503,
        *ALWAYS,
    ),
    State.ENDED: (blocking.an_ended_playlist_ignores_directives, *ALWAYS),
    State.OFFLINE: (
        caching.before_a_stream_nothing_is_stored,
        transport.any_page_may_read_a_404_before_a_stream,
    ),
}


def name_of(check: Check) -> str:
    """Theme and rule, as they are printed."""
    theme = check.__module__.rpartition(".")[2]
    return f"{theme}: {getattr(check, '__name__', '').replace('_', ' ')}"


async def run_check(check: Check, subject: Subject) -> Verdict:
    """One check's verdict."""
    try:
        async with asyncio.timeout(LONGEST_TARGET_DURATIONS * subject.target_duration + subject.delay):
            await check(subject)
    except NotApplicable as reason:
        return Verdict(name_of(check), Outcome.NOT_APPLICABLE, str(reason))
    except Violation as violation:
        return Verdict(name_of(check), Outcome.FAILED, str(violation))
    except TimeoutError:
        return Verdict(name_of(check), Outcome.FAILED, "it did not come to an end")
    return Verdict(name_of(check), Outcome.OK)


async def run_all(subject: Subject) -> list[Verdict]:
    """All checks that the stream's state allows, at the same time: most of them wait for segments."""
    return await asyncio.gather(*(run_check(check, subject) for check in CHECKS[subject.state]))
