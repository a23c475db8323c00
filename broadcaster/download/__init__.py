"""Reads many objects over HTTP at once, in order, each once, with a cache.

::

    async with Fetcher(session, at_once=8, memory=64 * 2**20, disk=folder) as fetcher:
        body = await fetcher.get(FetchRequest(url, size=1_200_000, sha256="..."))

Requests for an object that is being fetched share that fetch. An attempt ends when no bytes arrive; the next
attempt resumes it, unless the object has changed. Transient failures are retried until no byte has arrived
for ``patience`` seconds. Permanent failures are raised at once: ``ObjectNotFound``, or ``StorageRefused`` for
an object that may not be read or has the wrong size or SHA-256. If the cache on disk fails, it is not used.
"""

from broadcaster.download.cache import StoredObject
from broadcaster.download.download import FetchRequest
from broadcaster.download.fetcher import Fetcher

__all__ = ["FetchRequest", "Fetcher", "StoredObject"]
