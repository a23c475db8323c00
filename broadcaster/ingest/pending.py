"""A segment that a playlist lists and that has not been reported yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from broadcaster.catalog.records import Run, Segment, SourceFile
from broadcaster.hls import MediaSegment
from broadcaster.ingest.completeness import CompletenessCheck, Look
from broadcaster.ingest.transport_stream import media_duration


@dataclass(slots=True)
class Pending:
    """A listed segment that has not been reported yet."""

    segment: MediaSegment
    run: Run
    sequence: int
    name: str
    target_duration: int
    independent: bool
    noticed: datetime
    since: float  # monotonic
    check: CompletenessCheck | None  # None: the name itself is wrong
    map_check: CompletenessCheck | None
    first: bool  # listed when the playlist was first seen: may be gone already
    unlisted: bool  # found by its file: how long it lasts is measured
    looked_since: float = math.inf  # monotonic
    looked: tuple[float, Look, Look] | None = None  # when, at the segment, at its map

    def look(self, now: float) -> tuple[Look, Look]:
        """Look at its files, once for each ``now``: at the segment and at its map."""
        if self.looked is None or self.looked[0] != now:
            self.looked_since = min(self.looked_since, now)
            look = self.check.look(now) if self.check else Look(None)
            self.looked = (now, look, self.map_check.look(now) if self.map_check else Look(None))
        return self.looked[1:]

    def reported(
        self,
        variant: str,
        follows: datetime | None,
        file: SourceFile | None,
        map_file: SourceFile | None,
        fault: str | None,
    ) -> Segment:
        """What is reported of it; ``follows`` is where the segment before it in its run has ended."""
        measured = media_duration(file.path) if self.unlisted and file else None
        duration = measured or self.segment.duration
        time = None if self.unlisted and follows else self.segment.program_date_time
        # For writers without PROGRAM-DATE-TIME: go on from the last segment, or from the file's time.
        time = time or follows or (file.modified if file else self.noticed) - duration
        return Segment(
            variant=variant,
            run=self.run,
            sequence=self.sequence,
            uri=self.segment.uri,
            name=self.name,
            duration=duration,
            program_date_time=time,
            target_duration=self.target_duration,
            independent=self.independent,
            noticed=self.noticed,
            file=file,
            fault=fault,
            map_file=map_file,
        )
