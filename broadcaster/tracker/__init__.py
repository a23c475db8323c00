"""A WebTorrent tracker without its socket: messages in, messages out.

Browsers that watch the same stream find each other here: the tracker passes a peer's offers to other peers,
and their answers back; then WebRTC connects the browsers. ``protocol`` reads and writes messages, ``tracker``
applies limits and rules.
"""

from broadcaster.tracker.protocol import MAX_MESSAGE_BYTES, info_hash, stream_index
from broadcaster.tracker.tracker import Action, Close, Refusal, Refused, Send, Tracker, TrackerLimits

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Action",
    "Close",
    "Refusal",
    "Refused",
    "Send",
    "Tracker",
    "TrackerLimits",
    "info_hash",
    "stream_index",
]
