"""``broadcaster check``: finds out why a stream would not get through, and says what to do about it.

``report`` has verdicts and findings, ``doctor`` runs checks, ``plan`` says which and in which order.
``survey`` and ``folders`` look at this machine, ``owncast`` at Owncast, ``bucket`` and ``uplink`` at the
bucket, ``public`` at what viewers get of it; ``repair`` is ``--fix``, ``terminal`` the command.
"""

from broadcaster.check.http import origin
from broadcaster.check.terminal import check

__all__ = ["check", "origin"]
