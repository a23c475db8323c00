"""HTTP serving for the viewers' and the admin listener: listeners, limits of connections, static files."""

from broadcaster.http.server import address_of, listening, listening_sockets, raise_file_limit, serving

__all__ = ["address_of", "listening", "listening_sockets", "raise_file_limit", "serving"]
