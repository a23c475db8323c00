"""Many objects read at once, in order, each once, and remembered.

::

    async with Fetcher(session, at_once=8, memory=64 * 2**20, disk=folder) as fetcher:
        body = await fetcher.get(Wanted(url, size=1_200_000, sha256="..."))
        async for wanted, body in fetcher.fetch(Wanted(url) for url in urls):
            ...

Whoever asks for what is on its way waits for the same flight. An attempt ends when no bytes move; after a cut
the next one goes on where it ended, unless the object has changed. Passing faults are tried again for
``patience`` seconds since the last byte. What is final is raised at once: ``ObjectNotFound``, or
``StorageRefused`` for what may not be read, or is not what it should be. A cache that cannot be used is done
without.
"""

from broadcaster.download.cache import Place
from broadcaster.download.download import Wanted
from broadcaster.download.fetcher import Fetcher

__all__ = ["Fetcher", "Place", "Wanted"]
