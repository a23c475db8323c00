"""A WebTorrent tracker without its socket: messages in, messages out.

Browsers that watch the same stream find each other here: a peer's offers are handed to others, and their
answers back to it; then they talk to each other over WebRTC. ``swarm_ids`` says which swarms are ours,
``messages`` reads and writes the protocol, ``limits`` and ``addresses`` bound everything, ``swarms`` holds
the peers, and ``tracker`` applies the rules.
"""

from broadcaster.tracker.limits import Limits, Refusal, Refused
from broadcaster.tracker.protocol import MAX_MESSAGE_BYTES, info_hash, stream_index
from broadcaster.tracker.tracker import Action, Close, Send, Tracker

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Action",
    "Close",
    "Limits",
    "Refusal",
    "Refused",
    "Send",
    "Tracker",
    "info_hash",
    "stream_index",
]
