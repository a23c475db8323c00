"""What any view lists is never deleted, and what none lists always is in the end.

Hypothesis drives the channel, the catalog and the sweeper: segments come and roll off, viewers fall behind,
or only say so, streams end, recordings are removed, clips are made and removed, the bucket fails, and the
process dies at any point.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broadcaster.bucket import ObjectStore
from broadcaster.catalog.records import complete_variants
from broadcaster.errors import NotPossible, StorageUnavailable
from broadcaster.upload.deleter import RetentionDeleter
from tests.support.fakes.catalog_fixture import CatalogFixture
from tests.support.length import seconds

T = TypeVar("T")

YEAR = timedelta(days=365)
MOST = timedelta(seconds=60), 2**40  # that is kept for those who are behind


def now(work: Coroutine[Any, Any, T]) -> T:
    """Nothing here waits for anything: what is asked of the catalog is answered at once."""
    return asyncio.run(work)


class Bucket(ObjectStore):
    """Remembers what was deleted; ``away``, it fails."""

    def __init__(self) -> None:
        self.deleted: set[str] = set()
        self.away = False
        self.meanwhile: Callable[[Sequence[str]], Awaitable[None]] | None = None

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        assert deadline > 0
        if self.away:
            raise StorageUnavailable("no answer")
        if self.meanwhile:
            await self.meanwhile(keys)
        self.deleted |= set(keys)


class References(RuleBasedStateMachine):
    """The views on one side, the bucket on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="references-"))
        self.stream = CatalogFixture(self.folder)
        self.bucket = Bucket()
        self.run = 0
        self.keep: timedelta | None = None

    def teardown(self) -> None:
        self.end()
        self.stream.furthest = 0
        self.stream.restart(timedelta())
        for recording in now(self.stream.recordings()):
            self.stream.catalog.recordings.remove(recording)
        for clip in now(self.stream.catalog.clips.all()):
            self.stream.catalog.clips.release(clip)
        self.run += 1
        self.stream.publish("0", run=self.run, count=8)
        self.bucket.away = False
        for _ in range(3):
            self.pass_time(YEAR)
            self.stream.tick()
            self.sweep()
        assert self.in_window() == self.in_window(kept=True) == self.stream.published - self.bucket.deleted
        self.stream.catalog.close()
        shutil.rmtree(self.folder)

    @rule(
        variants=st.sampled_from(["01", "01", "0"]),
        seconds=st.sampled_from([2.0, 2.0, 2.0, 90.0]),
        lost=st.sampled_from([False, False, False, True]),
        count=st.integers(1, 6),
    )
    def publish(self, variants: str, seconds: float, lost: bool, count: int) -> None:  # noqa: FBT001
        """The window goes on, or begins anew."""
        self.stream.publish(variants, run=self.run, seconds=seconds, lost=lost, count=count)

    @rule()
    def reconnect(self) -> None:
        """The encoder begins a new run."""
        self.run += 1

    @rule()
    def end(self) -> None:
        """The stream is over."""
        self.stream.channel.end()

    @initialize(keep=st.sampled_from([None, timedelta()]))
    def begin(self, keep: timedelta | None) -> None:
        """A stream is on, which is recorded or not."""
        self.keep = keep
        self.stream.most, self.stream.most_bytes = MOST
        self.stream.restart(keep)
        self.stream.publish(count=3)

    @rule(furthest=st.sampled_from([0.0, 20.0, 40.0, 1e9, float("nan")]), later=st.integers(0, 100))
    def report(self, furthest: float, later: int) -> None:
        """Somebody is so far behind live, or says so, and for so many seconds nobody else is."""
        self.stream.furthest = furthest
        self.pass_time(timedelta(seconds=later))
        self.stream.tick()

    @rule(other=st.sampled_from([False, False, True]))
    def restart(self, other: bool) -> None:  # noqa: FBT001
        """The process dies; the next one may do otherwise about recordings."""
        if other:
            self.keep = None if self.keep is not None else timedelta()
        self.stream.restart(self.keep)

    @rule(later=st.sampled_from([timedelta(seconds=20), timedelta(days=1)]))
    def pass_time(self, later: timedelta) -> None:
        """Time passes."""
        self.stream.now += later

    @rule(variants=st.sampled_from(["01", "0"]), sweep=st.booleans())
    def a_day_later(self, variants: str, sweep: bool) -> None:  # noqa: FBT001
        """All that was in the window has left it, and may go if no other view has it."""
        self.stream.publish(variants, run=self.run, count=8)
        self.pass_time(timedelta(days=1))
        if sweep:
            self.sweep()

    @rule(which=st.integers(0, 5))
    def remove_recording(self, which: int) -> None:
        """One that has ended is removed, at the operator's wish or because its time is over."""
        ended = [recording for recording in now(self.stream.recordings()) if recording.ended]
        if ended:
            self.stream.catalog.recordings.remove(ended[which % len(ended)])

    @rule(back=st.integers(1, 20), seconds=st.integers(1, 4))
    def make_clip(self, back: int, seconds: int) -> None:
        """A clip has all of its time, or there is none."""
        if back <= len(self.stream.times):
            now(self.try_to_make_clip(len(self.stream.times) - back, seconds))

    @rule(which=st.integers(0, 5))
    def remove_clip(self, which: int) -> None:
        """A clip is removed."""
        clips = now(self.stream.catalog.clips.all())
        if clips:
            self.stream.catalog.clips.release(clips[which % len(clips)])

    @rule(away=st.sampled_from([False, False, True]), meanwhile=st.booleans())
    def sweep(self, away: bool = False, meanwhile: bool = False) -> None:  # noqa: FBT001, FBT002
        """What is due is deleted, if the bucket is there; somebody may want a clip of it meanwhile."""
        self.bucket.away = away
        self.bucket.meanwhile = self.want_a_clip if meanwhile else None
        now(RetentionDeleter(self.bucket, self.stream.catalog, prefix="live").sweep())

    @invariant()
    def what_a_view_lists_is_there(self) -> None:
        """The window, what is kept for those who are behind, every recording and every clip."""
        kept = self.in_window(kept=True)
        assert self.in_window() <= kept
        assert not kept & self.bucket.deleted
        catalog = self.stream.catalog
        for parts in now(catalog.recordings.parts()).values():
            for part in parts:
                listed = {recording.key for recording in now(catalog.recordings.segments(part.number))}
                assert listed
                assert not listed & self.bucket.deleted
        for clip in now(catalog.clips.all()):
            found = now(catalog.clips.segments(clip))
            assert complete_variants(found, clip)
            assert not {item.key for item in found} & self.bucket.deleted

    async def want_a_clip(self, keys: Sequence[str]) -> None:
        await self.try_to_make_clip(int(Path(keys[0]).stem), 1)

    async def try_to_make_clip(self, count: int, seconds: int) -> None:
        """Of what was published as number ``count``."""
        begin, clips = self.stream.times[count] + timedelta(seconds=0.5), self.stream.catalog.clips
        before = await clips.all()
        try:
            clip = await clips.make("", begin, begin + timedelta(seconds=seconds))
        except NotPossible:
            assert await clips.all() == before
        else:
            assert complete_variants(await clips.segments(clip), clip)

    def in_window(self, *, kept: bool = False) -> set[str]:
        """The segments in viewers' playlists, or, with ``kept``, in those of viewers who are behind."""
        playlists = [
            (playlist.kept if kept else playlist.playlist) or playlist.playlist
            for playlist in self.stream.channel.view.playlists.values()
        ]
        return {segment.uri for playlist in playlists for segment in playlist.segments if not segment.gap}


TestReferences = References.TestCase
TestReferences.settings = settings(
    max_examples=seconds(400, 20),
    stateful_step_count=30,
)
