"""When a stream goes live, what is served, and how it ends."""

import gzip
from datetime import timedelta

import pytest

from broadcaster.catalog.records import StreamSnapshot
from broadcaster.events import (
    Event,
    SegmentLost,
    SegmentPublished,
    StreamEnded,
    StreamStarted,
    VariantsListed,
)
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, Rendition, Variant, parse
from broadcaster.ipc.messages import State
from broadcaster.stream.rollover import LONGEST_ROOM, ROOM
from tests.support.fakes.channel import Channel
from tests.support.fakes.pipeline_parts import START, stored_segment
from tests.support.fakes.viewers_channel import ViewersChannel
from tests.support.judges.playlist_rules import violations

MEGABIT = 1_000_000


class Stage:
    """A channel whose clock stands still until the test moves it."""

    def __init__(self, target_duration: int | None = None) -> None:
        self.now = START
        self.events: list[Event] = []
        self.shown = ViewersChannel()
        self.channel = Channel(
            6, lambda: self.now, self.events.append, target_duration, show=self.shown.follow
        )
        self.previous: dict[str, MediaPlaylist] = {}

    def publish(  # noqa: PLR0913 - what segments differ by
        self,
        variant: str,
        number: int,
        *,
        run: int = 0,
        seconds: float = 2.0,
        target: int = 2,
        size: int = 250_000,
    ) -> None:
        time = START + timedelta(seconds=number * 2)
        segment = stored_segment(
            f"https://b/{variant}/{run}-{number}.ts",
            number=number,
            variant=variant,
            run=run,
            seconds=seconds,
            target_duration=target,
            time=time,
            size=size,
        )
        self.channel.expect(variant)
        self.channel.publish(segment)
        for name in ("0", "1"):
            if self.shown.snapshot(name):
                playlist = self.media(name)
                assert not violations(self.previous.get(name), playlist)
                self.previous[name] = playlist

    def describe(self, *names: str, present: str | None = None) -> None:
        """The multivariant playlist names these, and the folder has a place for those of ``present``."""
        variants = tuple(
            Variant(name, MEGABIT * (index + 2), codecs="avc1") for index, name in enumerate(names)
        )
        there = frozenset(names if present is None else present)
        self.channel.list_variants(VariantsListed(MultivariantPlaylist(variants), there))

    def media(self, variant: str) -> MediaPlaylist:
        version = self.shown.snapshot(variant)
        assert version
        assert gzip.decompress(version.full.gzipped) == version.full.body
        playlist = parse(version.full.body.decode())
        assert isinstance(playlist, MediaPlaylist)
        return playlist

    def main(self) -> MediaPlaylist | MultivariantPlaylist | None:
        return parse(self.shown.main.full.body.decode()) if self.shown.main else None


def test_nothing_is_served_until_all_variants_are_known() -> None:
    """The idle clip's multivariant playlist is not believed; the stream's makes it go live, whole."""
    stage = Stage()
    stage.describe("0", present="01")
    stage.publish("0", 0)
    assert stage.main() is None
    stage.publish("1", 0)
    assert stage.channel.state is State.STARTING
    stage.describe("1", "0")
    main = stage.main()
    assert isinstance(main, MultivariantPlaylist)
    assert [(variant.uri, variant.bandwidth) for variant in main.variants] == [
        ("1/playlist.m3u8", 2 * MEGABIT),
        ("0/playlist.m3u8", 3 * MEGABIT),
    ]
    assert main.independent_segments
    assert StreamStarted(("0", "1"), 2, "r0", START) in stage.events


def test_waits_for_every_listed_variant() -> None:
    """A variant that is listed but has no segment yet is waited for."""
    stage = Stage()
    stage.describe("0", "1")
    stage.publish("0", 0)
    assert stage.main() is None
    stage.publish("1", 0)
    assert stage.channel.state is State.LIVE


def test_does_not_wait_for_ever() -> None:
    """Without a word on the variants, the stream goes live after two target durations, bandwidth measured."""
    stage = Stage()
    stage.publish("0", 0)
    stage.publish("1", 0)
    stage.channel.tick(1000.0)
    stage.channel.tick(1003.9)
    assert stage.main() is None
    stage.channel.tick(1004.0)
    main = stage.main()
    assert isinstance(main, MultivariantPlaylist)
    assert [(variant.uri, variant.bandwidth) for variant in main.variants] == [
        ("0/playlist.m3u8", 2**20),
        ("1/playlist.m3u8", 2**20 + 1),
    ]


def test_bandwidth_is_never_less_than_what_was_listed() -> None:
    """Owncast tells the bandwidth of its idle clip: what is measured counts, in steps."""
    stage = Stage()
    low, high = Variant("0", 50_000, average_bandwidth=40_000), Variant("1", 50_000)
    stage.channel.list_variants(VariantsListed(MultivariantPlaylist((low, high)), frozenset("01")))
    bandwidths = list[list[int]]()
    for number, bits in enumerate((1_000_000, 1_040_000, 1_060_000)):
        for variant in "01":
            stage.publish(variant, number, size=bits // 4)
        main = stage.main()
        assert isinstance(main, MultivariantPlaylist)
        assert all(variant.average_bandwidth is None for variant in main.variants)
        bandwidths.append([variant.bandwidth for variant in main.variants])
    # In steps of a quarter of an octave, and never the same twice: players distinguish variants by it.
    assert bandwidths == [[2**20, 2**20 + 1], [2**20, 2**20 + 1], [1_246_975, 1_246_976]]
    stage.publish("0", 3, size=50_000, seconds=0.04)  # the last of a run: one picture
    assert stage.main() == main


def test_waits_for_what_is_on_its_way() -> None:
    """However long an upload takes, a stream does not start without a variant that has segments."""
    stage = Stage()
    stage.channel.expect("0")
    stage.channel.expect("1")
    stage.publish("0", 0)
    stage.channel.tick(1000.0)
    stage.channel.tick(2000.0)
    assert stage.main() is None
    stage.publish("1", 0)
    stage.channel.tick(2001.0)
    assert stage.channel.state is State.LIVE


def test_codecs_that_some_variants_lack_are_left_out() -> None:
    """Players would take a variant without CODECS, beside others with, for sound alone."""
    stage = Stage()
    stage.describe("0", present="01")
    stage.publish("0", 0)
    stage.publish("1", 0)
    for now in (1000.0, 1004.0):
        stage.channel.tick(now)
    main = stage.main()
    assert isinstance(main, MultivariantPlaylist)
    assert [(variant.bandwidth, variant.codecs) for variant in main.variants] == [
        (2 * MEGABIT, None),
        (2**20, None),
    ]


def test_one_variant_is_served_as_its_media_playlist() -> None:
    """With one variant, the main playlist is the media playlist, and follows it."""
    stage = Stage()
    stage.describe("0")
    for number in range(3):
        stage.publish("0", number)
        assert stage.shown.main is stage.shown.snapshot("0")
    assert len(stage.media("0").segments) == 3


def test_target_duration_is_common_and_fixed() -> None:
    """All variants share the largest TARGETDURATION seen at the start, and keep it."""
    stage = Stage()
    stage.publish("0", 0, target=2)
    stage.publish("1", 0, target=4)
    stage.describe("0", "1")
    stage.publish("0", 1, target=7)  # announced, of segments that are not here yet
    assert stage.media("0").target_duration == stage.media("1").target_duration == 4
    assert stage.channel.target_duration == 4


def test_configured_target_duration_wins() -> None:
    """The operator's TARGETDURATION makes room for long segments."""
    stage = Stage(target_duration=9)
    stage.describe("0")
    stage.publish("0", 0)
    stage.publish("0", 1, seconds=8.4)
    assert stage.media("0").target_duration == 9
    assert not stage.media("0").segments[1].gap


def test_restart_of_the_encoder_is_a_discontinuity_in_every_variant() -> None:
    """Numbers go on across a new run, and the discontinuity numbers of the variants agree."""
    stage = Stage()
    stage.describe("0", "1")
    for run in range(2):
        for number in range(2):
            for variant in ("0", "1"):
                stage.publish(variant, 2 * run + number, run=run)
    for variant in ("0", "1"):
        playlist = stage.media(variant)
        assert playlist.media_sequence == 1
        assert [segment.discontinuity for segment in playlist.segments] == [False, False, True, False]


def test_a_variant_that_comes_later_is_added() -> None:
    """A variant of a later run gets a playlist whose discontinuity number agrees with the others."""
    stage = Stage()
    stage.describe("0", "2")
    for variant in ("0", "2"):
        stage.publish(variant, 0)
        stage.publish(variant, 1, run=1)
    stage.describe("0", "1", "2")
    stage.publish("1", 1, run=1)
    main = stage.main()
    assert isinstance(main, MultivariantPlaylist)
    assert len(main.variants) == 3
    assert stage.media("1").discontinuity_sequence == 1


def test_the_main_playlist_never_changes_its_kind() -> None:
    """A second variant beside an only one ends the stream and begins another under the same URLs."""
    stage = Stage()
    stage.describe("0")
    stage.publish("0", 0)
    stage.publish("1", 1)
    assert stage.media("0").ended
    stage.describe("0", "1")
    stage.publish("0", 1)
    for now in (1000.0, 1010.0):
        stage.channel.tick(now)
    assert isinstance(stage.main(), MultivariantPlaylist)
    assert stage.media("0").media_sequence == 2


def test_numbers_never_fall_under_the_main_address() -> None:
    """Whichever variant is the only one: a player knows the main address, not the variant's name."""
    stage = Stage()
    last = 0
    for run, name in enumerate(("0", "1", "0")):
        stage.previous.clear()
        stage.describe(name)
        for number in range(20 * run, 20 * run + 9):
            stage.publish(name, number, run=run)
        main = stage.main()
        assert isinstance(main, MediaPlaylist)
        assert main.media_sequence > last
        assert main.discontinuity_sequence + main.segments[0].discontinuity == run
        last = main.last
        stage.channel.end()


def test_a_variant_that_is_no_longer_made_does_not_stay() -> None:
    """When a new run has fewer variants, the playlists end and those that are left begin anew."""
    stage = Stage()
    stage.describe("0", "1")
    stage.publish("0", 0)
    stage.publish("1", 0)
    stage.describe("0")
    assert not stage.media("1").ended
    stage.publish("0", 1, run=1)
    assert stage.media("1").ended
    for now in (1000.0, 1003.0):
        stage.channel.tick(now)
    assert stage.shown.snapshot("1") is None
    assert isinstance(stage.main(), MediaPlaylist)
    assert [segment.discontinuity for segment in stage.media("0").segments] == [True]


def test_a_variant_that_stands_still_does_not_stay() -> None:
    """Where the folder tells nothing, one that brings nothing for long is left out, and not waited for."""
    stage = Stage()
    stage.describe("0", "1", "2")
    for variant in "012":
        stage.publish(variant, 0)
    for number in range(1, 12):
        for variant in "02":
            stage.publish(variant, number)
    assert stage.channel.state is State.LIVE
    stage.publish("0", 12)
    assert stage.media("1").ended
    stage.publish("2", 12)
    for now in (1000.0, 1003.0):
        stage.channel.tick(now)
    assert sorted(stage.channel.view.playlists) == ["0", "2"]


def test_a_variant_that_stands_still_after_the_clock_was_set_back() -> None:
    """It is seen by the times of the new run alone, whatever those of the run before were."""
    stage = Stage()
    stage.describe("0", "1")
    for variant in "01":
        stage.publish(variant, 1000)
    for number in range(12):
        stage.publish("0", number, run=1)
    assert stage.media("1").ended


@pytest.mark.parametrize("variants", ["0", "012"])
def test_a_longer_level_and_another_variant_at_once(variants: str) -> None:
    """Whichever comes first is listed whole, and the next playlists have the room that it needs."""
    stage = Stage()
    stage.describe(*variants[:-1] or "0")
    for variant in variants[:-1] or "0":
        stage.publish(variant, 0)
    now = "01" if variants == "0" else variants
    stage.describe(*now)
    for variant in reversed(now):
        stage.publish(variant, 10, run=1, seconds=5.0, target=5)
    for moment in (1000.0, 1003.0):
        stage.channel.tick(moment)
    assert not [event for event in stage.events if isinstance(event, SegmentLost)]
    assert sorted(stage.channel.view.playlists) == sorted(now)
    assert stage.channel.target_duration == 5


def test_a_variant_whose_segments_are_on_their_way_does_not_stand_still() -> None:
    """A backlog is no reason to leave a variant out, and neither is a long pause between two runs."""
    stage = Stage()
    stage.describe("0", "1")
    stage.publish("0", 0)
    stage.publish("1", 0)
    stage.channel.expect("1")
    for number in range(1, 20):
        stage.publish("0", number)
    stage.publish("1", 1)
    stage.publish("0", 100, run=1)
    stage.publish("1", 100, run=1)
    stage.publish("0", 101, run=1)
    assert stage.channel.state is State.LIVE


def test_the_idle_clip_changes_nothing() -> None:
    """Its transcoder writes its own multivariant playlist over the stream's: no variant is lost by that."""
    stage = Stage()
    stage.describe("0", "1")
    for number in range(3):
        stage.publish("0", number)
        stage.publish("1", number)
        stage.describe("0", present="01")
    main = stage.main()
    assert isinstance(main, MultivariantPlaylist)
    assert [variant.bandwidth for variant in main.variants] == [2 * MEGABIT, 3 * MEGABIT]
    stage.publish("0", 10, run=1)
    stage.publish("1", 10, run=1)
    assert stage.channel.state is State.LIVE


def test_known_variants_are_not_waited_for_again() -> None:
    """The next stream goes live with the variants of the last, whatever the multivariant playlist says."""
    stage = Stage()
    stage.describe("0", "1")
    stage.publish("0", 0)
    stage.publish("1", 0)
    stage.channel.end()
    stage.describe("0", present="01")
    stage.publish("0", 10, run=1)
    assert stage.media("0").ended
    stage.publish("1", 10, run=1)
    assert not stage.media("0").ended


def test_the_variants_of_another_broadcasters_stream_are_known() -> None:
    """After a takeover these go live at once, though no multivariant playlist names them."""
    known = StreamSnapshot(expected=frozenset("01"))
    channel = Channel(6, lambda: START, list[Event]().append, memory=known)
    states = []
    for variant in "01":
        channel.expect(variant)
        channel.publish(stored_segment(f"live/r0/{variant}/0.ts", variant=variant))
        states.append(channel.state)
    assert states == [State.STARTING, State.LIVE]


def test_a_place_in_the_folder_is_waited_for() -> None:
    """Owncast makes a folder for each variant first: one that is still empty will have its segments."""
    stage = Stage()
    stage.describe("0")
    stage.publish("0", 0)
    stage.channel.end()
    stage.describe("0", present="01")
    stage.publish("0", 10, run=1)
    stage.channel.tick(1000.0)
    assert stage.media("0").ended
    stage.publish("1", 10, run=1)
    stage.describe("0", "1")
    assert isinstance(stage.main(), MultivariantPlaylist)


def test_a_longer_segment_is_listed_whole_and_makes_room_for_more() -> None:
    """It ends the playlists and begins the next, with room for all that vary as far: no picture is lost."""
    stage = Stage()
    stage.describe("0")
    lasted = [3, 3, 4, 3, 6, 3, 8]
    for number, seconds in enumerate(lasted):
        stage.publish("0", 4 * number, seconds=seconds, target=max(lasted[: number + 1]))
        if stage.channel.state is not State.LIVE:
            assert stage.media("0").ended
            assert stage.media("0").target_duration == 3
            stage.channel.tick(1000.0)
            stage.channel.tick(1004.4)
            assert stage.media("0").ended
            stage.channel.tick(1004.5)
    assert not [event for event in stage.events if isinstance(event, SegmentLost)]
    assert [event.going_on for event in stage.events if isinstance(event, StreamEnded)] == [True]
    assert stage.media("0").target_duration == ROOM
    assert [segment.duration.total_seconds() for segment in stage.media("0").segments] == lasted[2:]


def test_a_longer_latency_level_is_one_short_end() -> None:
    """A new run whose segments are longer needs new playlists, with the TARGETDURATION that it announces."""
    stage = Stage()
    stage.describe("0", "1")
    for variant in "01":
        stage.publish(variant, 0)
    for variant in "01":
        stage.publish(variant, 10, run=1, seconds=5.0, target=5)
    for now in (1000.0, 1003.0):
        stage.channel.tick(now)
    for variant in "01":
        assert stage.media(variant).target_duration == 5
        assert [segment.discontinuity for segment in stage.media(variant).segments] == [True]
    assert sum(isinstance(event, StreamEnded) for event in stage.events) == 1


def test_a_shorter_latency_level_changes_nothing() -> None:
    """Shorter segments fit into the TARGETDURATION that players know."""
    stage = Stage()
    stage.describe("0")
    stage.publish("0", 0, seconds=4.0, target=4)
    stage.publish("0", 10, run=1, seconds=2.0, target=2)
    assert stage.media("0").target_duration == 4
    assert len(stage.media("0").segments) == 2


def test_no_player_could_follow_a_segment_of_minutes() -> None:
    """One that is longer than any TARGETDURATION we would announce becomes gaps, which is said."""
    stage = Stage()
    stage.describe("0")
    stage.publish("0", 0)
    stage.publish("0", 1, seconds=LONGEST_ROOM + 1, target=61)
    assert stage.channel.state is State.LIVE
    assert sum(isinstance(event, SegmentLost) for event in stage.events) == 1
    assert all(segment.gap for segment in stage.media("0").segments[1:])


def test_a_run_that_falls_back_stops_nothing() -> None:
    """Whatever a source says of its runs, discontinuity numbers never fall."""
    stage = Stage()
    stage.describe("0")
    for run in (0, 1, 0):
        stage.publish("0", len(stage.events), run=run)
    assert [segment.discontinuity for segment in stage.media("0").segments] == [False, True, False]


def test_end_and_next_stream() -> None:
    """After the end the playlists stay finished until the next stream has begun; numbers go on."""
    stage = Stage()
    stage.describe("0", "1")
    for number in range(8):
        stage.publish("0", number)
        stage.publish("1", number)
    stage.channel.end()
    assert stage.media("0").ended
    assert stage.previous["0"].segments == stage.media("0").segments
    stage.previous = {name: stage.media(name) for name in ("0", "1")}
    stage.describe("0", "1")
    stage.publish("0", 20, run=1)
    assert stage.media("0").ended
    stage.publish("1", 20, run=1)
    assert stage.media("0").media_sequence == 9
    assert stage.media("1").media_sequence == 9
    assert [segment.discontinuity for segment in stage.media("0").segments] == [True]
    assert stage.channel.state is State.LIVE


def test_publish_delay_is_measured_from_the_finished_file() -> None:
    """The delay runs from the file's completion to its listing."""
    stage = Stage()
    stage.describe("0")
    stage.now = START + timedelta(seconds=0.25)
    stage.publish("0", 0)
    (event,) = [event for event in stage.events if isinstance(event, SegmentPublished)]
    assert event.delay == 0.25


def test_each_version_has_its_own_validator() -> None:
    """The validator changes with the bytes and only with them."""
    stage = Stage()
    stage.describe("0")
    stage.publish("0", 0)
    first = stage.shown.main
    stage.publish("0", 1)
    second = stage.shown.main
    assert first
    assert second
    assert first.full.etag != second.full.etag


def test_runs() -> None:
    """The latest encoder runs are known in their order, once they are listed; not more than matter."""
    stage = Stage()
    assert list(stage.channel.view.runs) == []
    stage.publish("0", 0)
    assert list(stage.channel.view.runs) == []
    stage.describe("0")
    assert list(stage.channel.view.runs) == ["r0"]
    for run in range(1, 20):
        stage.publish("0", run, run=run)
    assert list(stage.channel.view.runs) == [f"r{run}" for run in range(4, 20)]


def test_sound_with_a_playlist_of_its_own() -> None:
    """A rendition is waited for, and named as such; a variant names its group only while that is there."""
    stage = Stage()
    variants = (Variant("0", 1000, audio="aac"), Variant("1", 2000, audio="aac"))
    renditions = (Rendition("aac", "English", "sound", default=True), Rendition("aac", "Here", None))
    playlist = MultivariantPlaylist(variants, renditions=renditions)
    stage.channel.list_variants(VariantsListed(playlist, frozenset({"0", "1", "sound"})))
    stage.publish("0", 0)
    stage.publish("1", 0)
    assert stage.main() is None
    stage.publish("sound", 0)
    main = stage.main()
    assert isinstance(main, MultivariantPlaylist)
    assert [variant.uri for variant in main.variants] == ["0/playlist.m3u8", "1/playlist.m3u8"]
    assert {variant.audio for variant in main.variants} == {"aac"}
    assert [variant.bandwidth for variant in main.variants] == [
        2**21,
        2**21 + 1,
    ]  # a megabit each, and the sound's
    assert [rendition.uri for rendition in main.renditions] == ["sound/playlist.m3u8", None]
    assert isinstance(stage.media("sound"), MediaPlaylist)


def test_a_change_of_the_multivariant_playlist_wakes_no_reader_of_media_playlists() -> None:
    """Who waits for a segment is not woken by another bit rate in the multivariant playlist."""
    stage = Stage()
    stage.describe("0", "1")
    stage.publish("0", 0)
    stage.publish("1", 0)
    before, main = stage.shown.snapshot("0"), stage.shown.main
    stage.describe("1", "0")
    assert stage.shown.snapshot("0") is before
    assert before
    assert not before.superseded.is_set()
    assert stage.shown.main is not main
