"""What the world touches: a process of its own, without keys, that shows what ingest tells it.

``stream`` is what ingest said last and ``snapshot`` the bytes of it; ``playlists`` answers players, with
``directives`` and ``waiting`` for blocking reloads; ``event_stream`` tells pages of events, ``beacon``
adds up what they report, ``tracker_socket`` lets them find each other, ``page`` serves them, and ``traffic``
counts. ``app`` puts the routes together, ``__main__`` is the process.
"""
