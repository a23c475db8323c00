"""What both listeners share.

``listener`` serves an application, within the bounds of ``connections``; ``health`` and ``dashboard`` are
routes of both.
"""

from broadcaster.http.dashboard import Dashboard
from broadcaster.http.server import address_of, bound, listening, raise_file_limit, serving

__all__ = ["Dashboard", "address_of", "bound", "listening", "raise_file_limit", "serving"]
