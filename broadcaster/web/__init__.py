"""What the world sees: small text over HTTP; and what the operator sees, on a listener of its own.

``playlists`` answers players, with ``directives`` and ``waiting`` for blocking reloads; ``bulletin`` tells
pages of events, ``beacon`` adds up what they report, ``page`` serves them. ``app`` puts the public routes
together, ``operator`` the operator's; ``traffic`` counts.
"""

from broadcaster.web.app import PublicOptions, make_public_app, make_runner
from broadcaster.web.bulletin import Bulletin
from broadcaster.web.health import Health, HealthReport
from broadcaster.web.operator import make_operator_app

__all__ = [
    "Bulletin",
    "Health",
    "HealthReport",
    "PublicOptions",
    "make_operator_app",
    "make_public_app",
    "make_runner",
]
