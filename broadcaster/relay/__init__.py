"""``broadcaster relay``: serves another broadcaster's stream from a cache, without keys.

``origin`` requests from that broadcaster, within limits. ``follower`` keeps the view of its playlists up to
date, ``events`` repeats its events. ``url_map`` gives each object a path on this relay, ``segments`` serves
the objects from the cache. ``serve`` wires the parts, reports their health, and reads the options.
"""

from broadcaster.relay.serve import RelayOptions, add_options, options_of, relay

__all__ = ["RelayOptions", "add_options", "options_of", "relay"]
