"""What the world sees: small text over HTTP; and what the operator sees, on a listener of its own.

``playlists`` answers players, with ``directives`` and ``waiting`` for blocking reloads; ``event_stream``
tells pages of events, ``beacon`` adds up what they report, ``tracker_socket`` lets them find each other,
``page`` serves them. ``app`` puts the public routes together, ``operator`` the operator's; ``listener``
serves both, within the bounds of ``connections``; ``traffic`` counts, and ``dashboard`` shows it and the last
hour's ``history``.
"""

from broadcaster.web.app import PublicOptions, make_public_app
from broadcaster.web.connections import raise_file_limit
from broadcaster.web.dashboard import Dashboard
from broadcaster.web.event_stream import EventStream
from broadcaster.web.health import Health, HealthReport
from broadcaster.web.history import History
from broadcaster.web.listener import listening
from broadcaster.web.operator import make_operator_app
from broadcaster.web.tracker_socket import Signaling

__all__ = [
    "Dashboard",
    "EventStream",
    "Health",
    "HealthReport",
    "History",
    "PublicOptions",
    "Signaling",
    "listening",
    "make_operator_app",
    "make_public_app",
    "raise_file_limit",
]
