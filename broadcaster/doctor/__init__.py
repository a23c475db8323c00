"""The doctor, ``broadcaster check``: checks settings, machine, folders, bucket and public addresses.

``report`` has the result types and runs checks, ``terminal`` the command and the order of the checks.
``machine`` and ``folders`` check this machine and Owncast, ``bucket`` the bucket and the uplink, ``public``
the viewers' addresses (with ``--public`` the service behind its proxy too), ``repair`` is ``--fix`` and
``--uploads``.
"""

from broadcaster.doctor.machine import startup_warnings
from broadcaster.doctor.terminal import check

__all__ = ["check", "startup_warnings"]
