"""Puts an Owncast live stream into Cloudflare R2 and serves live playlists that point at it."""

__version__ = "0.1.0"  # pyproject.toml reads it here
