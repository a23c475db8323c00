"""What both listeners share.

``listener`` serves an application, within the bounds of ``connections``; ``health`` and ``dashboard`` are
routes of both.
"""

from broadcaster.web.dashboard import Dashboard
from broadcaster.web.file_limit import raise_file_limit
from broadcaster.web.listener import address_of, bound, listening, serving

__all__ = ["Dashboard", "address_of", "bound", "listening", "raise_file_limit", "serving"]
