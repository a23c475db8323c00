"""The doors of a private event open: viewers get a stream that begins then, and nothing of before."""

from datetime import timedelta

from broadcaster.events import Event, SegmentPublished, StreamEnded, StreamStarted, VariantsListed
from broadcaster.hls import MultivariantPlaylist, Variant
from broadcaster.ipc.messages import State
from broadcaster.stream import model
from broadcaster.stream.machine import LATE_VARIANT
from tests.support.fakes.channel import Channel
from tests.support.fakes.pipeline_parts import START, stored_segment

SECONDS = timedelta(seconds=2)


class Rehearsal:
    """A stream of two variants whose segments are complete when they end."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.channel = Channel(6, lambda: START, self.events.append)
        variants = (Variant("0", 1000), Variant("1", 2000))
        self.channel.list_variants(VariantsListed(MultivariantPlaylist(variants), frozenset("01")))

    def publish(self, variant: str, *numbers: float) -> None:
        for number in numbers:
            begin = START + number * SECONDS
            url = f"https://b/{variant}/{number}.ts"
            segment = stored_segment(
                url, number=int(number), variant=variant, time=begin, completed=begin + SECONDS
            )
            self.channel.publish(segment)

    def open_doors(self, number: float) -> None:
        """When this segment begins."""
        self.channel._handle(model.DoorsOpened(START + number * SECONDS))  # noqa: SLF001 - as the pipeline does

    def state(self) -> State:
        return self.channel.state

    def seen(self) -> dict[str, list[str]]:
        """What viewers can play: the names of segments by variant; a gap has none."""
        return {
            name: [(segment.uri or "").rpartition("/")[2] for segment in version.playlist.segments]
            for name, version in self.channel.view.playlists.items()
        }


def test_viewers_see_what_began_after_the_opening() -> None:
    """Variants that come to the opening one after the other are waited for; then all begins anew."""
    stage = Rehearsal()
    for number in range(4):
        stage.publish("0", number)
        stage.publish("1", number)
    assert stage.state() is State.LIVE
    stage.open_doors(4.5)
    assert stage.state() is State.STARTING
    assert stage.seen() == {}
    stage.publish("0", 4, 5)
    stage.publish("1", 4)
    assert stage.seen() == {}
    stage.publish("1", 5)
    assert stage.seen() == {"0": ["5.ts"], "1": ["5.ts"]}
    stage.publish("0", 6)
    stage.publish("1", 6)
    assert stage.seen() == {"0": ["5.ts", "6.ts"], "1": ["5.ts", "6.ts"]}
    starts = [event for event in stage.events if isinstance(event, StreamStarted | StreamEnded)]
    assert [type(event) for event in starts] == [StreamStarted, StreamEnded, StreamStarted]
    assert sum(isinstance(event, SegmentPublished) for event in stage.events) == 14


def test_a_variant_that_brings_nothing_more() -> None:
    """It is waited for a while; what comes of it later is a gap if it is of before."""
    stage = Rehearsal()
    stage.publish("0", 0, 1)
    stage.publish("1", 0, 1)
    stage.open_doors(2)
    stage.publish("0", 2, 3)
    stage.channel.tick(LATE_VARIANT - 1)
    assert stage.seen() == {}
    stage.channel.tick(LATE_VARIANT + 1)
    stage.publish("1", 1.5)
    stage.channel.tick(2 * LATE_VARIANT)
    stage.channel.tick(3 * LATE_VARIANT)
    assert stage.seen() == {"0": ["2.ts", "3.ts"], "1": [""]}


def test_doors_that_open_before_all_variants_are_there() -> None:
    """Nothing of the stream that was starting is seen."""
    stage = Rehearsal()
    stage.publish("0", 0, 1)
    stage.open_doors(2)
    assert stage.seen() == {}
    stage.publish("1", 0, 1)
    assert stage.seen() == {}
    stage.publish("0", 2)
    stage.publish("1", 2)
    assert stage.seen() == {"0": ["2.ts"], "1": ["2.ts"]}


def test_what_has_ended_before_is_not_seen() -> None:
    """A rehearsal that was over stays hidden until the stream begins."""
    stage = Rehearsal()
    for variant in "01":
        stage.publish(variant, 0, 1)
    stage.channel.end()
    assert stage.state() is State.ENDED
    stage.open_doors(5)
    assert stage.state() is State.OFFLINE
    assert stage.seen() == {}
    for variant in "01":
        stage.publish(variant, 7)
    assert stage.seen() == {"0": ["7.ts"], "1": ["7.ts"]}


def test_doors_that_open_before_anything_comes() -> None:
    """A first segment that began before the opening is not seen."""
    stage = Rehearsal()
    stage.open_doors(0.5)
    for variant in "01":
        stage.publish(variant, 0)
    assert stage.seen() == {}
    for variant in "01":
        stage.publish(variant, 1)
    assert stage.seen() == {"0": ["1.ts"], "1": ["1.ts"]}
