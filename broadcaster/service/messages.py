"""What viewers are told of an event."""

from __future__ import annotations

from broadcaster.events import Event, SegmentPublished, StreamEnded, StreamStarted
from broadcaster.feed import Ended, Listed, Started


def message_of(event: Event) -> Listed | Started | Ended | None:
    """For the audience process, if they are told anything."""
    match event:
        case SegmentPublished(segment=segment, published=published):
            return Listed(
                variant=segment.variant,
                sequence=segment.number or 0,
                run=segment.run.id,
                url=segment.url,
                map_url=segment.map_url,
                duration=segment.duration,
                time=segment.time,
                size=segment.size,
                sha256=segment.sha256,
                gap=segment.gap,
                completed=segment.completed,
                noticed=segment.noticed,
                uploaded=segment.uploaded,
                published=published,
            )
        case StreamStarted(variants, target_duration, run, at):
            return Started(variants, target_duration, run, at)
        case StreamEnded(at, going_on):
            return Ended(at, going_on)
    return None
