"""The machine: decides what is listed, and when a stream begins, rolls over and ends.

Pure: no asyncio, no clock, no SQL, no I/O; a contract of ``make lint`` holds that.
``StreamMachine.handle(event, now)`` returns effects in order: write rows, show a view, notify observers.
``broadcaster.upload.pipeline`` completes each effect before it begins the next. So whatever viewers see was
written before, and after a failed write nothing is shown.

=============  ===================================================================================
``state``      the states of a stream and of a segment: two tables
``model``      events, effects, and the limits that the operator has set
``machine``    ``StreamMachine``, which keeps the state of the stream, of its segments and of the source
``playlists``  media playlists, multivariant playlist and PROGRAM-DATE-TIME; the DVR depth
``rollover``   when playlists end and new ones begin, and when the new ones are complete
=============  ===================================================================================
"""

from broadcaster.stream.machine import StreamMachine
from broadcaster.stream.model import Effect, EncoderStatus, EncoderWatch, Event, Instant, StreamLimits, Tick

__all__ = [
    "Effect",
    "EncoderStatus",
    "EncoderWatch",
    "Event",
    "Instant",
    "StreamLimits",
    "StreamMachine",
    "Tick",
]
