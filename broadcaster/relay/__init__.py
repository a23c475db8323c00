"""``broadcaster relay``: the audience's application, fed by another broadcaster's playlists and events.

``origin`` is what is asked of that one, within bounds. ``following`` makes a view of its playlists, each of
which ``reloading`` keeps up to date; ``words`` passes on its events, ``page`` what it tells its page.
``listing`` gives each object an address here, ``media`` serves those from the cache, within the bounds
of ``sending``, ``prefetch`` fills it ahead. ``standing`` says how all is, ``desk`` shows it to the operator;
``options`` is the command line, ``serve`` wires all of it.
"""

from broadcaster.relay.serve import Options, add_options, options_of, relay

__all__ = ["Options", "add_options", "options_of", "relay"]
