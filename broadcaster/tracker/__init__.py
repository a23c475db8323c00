"""A WebTorrent tracker without its socket: messages in, messages out.

Browsers that watch the same stream find each other here: the tracker passes a peer's offers to other peers,
and their answers back; then WebRTC connects the browsers. ``protocol`` reads and writes messages, ``tracker``
applies limits and rules.
"""
