"""Wiring: ``components`` are what works on the stream, metrics and health, ``serve`` runs it all."""

from broadcaster.service.components import bucket_of
from broadcaster.service.serve import serve

__all__ = ["bucket_of", "serve"]
