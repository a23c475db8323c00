"""What is on, decided in one place: what is listed, and when a stream begins, rolls over and ends.

Pure: no asyncio, no clock, no SQL, no I/O; a contract of ``make lint`` holds that. ``Stream.handle(event,
now)`` returns effects: write these rows, show this view, notify observers of this, in order. One owner,
``broadcaster.upload.pipeline``, executes them in that order and completes each before it begins the next.
So whatever viewers see was written before, and a failed write is the owner's, which then shows nothing.

=========================  ========================================================================
``state``                  the states of a stream and of a segment: two tables
``model``                  events, effects, and the limits that the operator has set
``machine``                ``Stream``, which keeps everything that is on
``playlists``              what is listed, and how long what is listed no more has to stay readable
``timeline``               PROGRAM-DATE-TIME in order, whatever the encoder's clock does
``rollover``               when playlists end and new ones begin, and when those are complete
``multivariant_builder``   the multivariant playlist, of what the source says and what was measured
``health``                 what is known of the source, and of the gaps that viewers see
=========================  ========================================================================

A segment is EXPECTED while the spool takes its file, FOUND while it waits for its upload, UPLOADING, then
STORED or a GAP until all segments before it in its variant have had their turn. In its turn it is LISTED, or
HELD until a stream that starts is complete. All of these steps are kept in ``Stream``, and nowhere else.
"""

from broadcaster.stream.machine import Stream
from broadcaster.stream.model import Effect, EncoderStatus, Event, Instant, Limits, Tick

__all__ = ["Effect", "EncoderStatus", "Event", "Instant", "Limits", "Stream", "Tick"]
