"""Puts an Owncast live stream into Cloudflare R2 and serves live playlists that point at it."""
