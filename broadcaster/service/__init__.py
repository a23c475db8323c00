"""Wiring: ``parts`` makes what works on the stream, ``gauges`` shows how it stands, ``serve`` runs it all."""

from broadcaster.service.components import bucket_of
from broadcaster.service.serve import serve

__all__ = ["bucket_of", "serve"]
