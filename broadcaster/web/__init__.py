"""What the world sees: small text over HTTP.

``playlists`` answers players, ``app`` puts all routes together.
"""

from broadcaster.web.app import Health, HealthReport, make_app, make_runner

__all__ = ["Health", "HealthReport", "make_app", "make_runner"]
