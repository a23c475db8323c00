"""``broadcaster check``: finds out why a stream would not get through, and says what to do about it.

``report`` has verdicts and findings, ``doctor`` runs checks, ``plan`` says which and in which order.
``machine``, ``survey`` and ``folders`` look at this machine, ``owncast`` at Owncast, ``bucket`` and
``uplink`` at the bucket, ``public`` at what viewers get of it, ``tunnel`` at what they get of the service
(``--public``); ``repair`` is ``--fix``, ``uploads`` is ``--uploads``, ``terminal`` the command.
"""

from broadcaster.doctor.machine import remarks
from broadcaster.doctor.terminal import check

__all__ = ["check", "remarks"]
