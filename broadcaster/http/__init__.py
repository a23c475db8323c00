"""HTTP serving that the viewers' and the admin listener share.

``server`` listens and serves an application, ``connections`` limits its connections, and ``static`` serves
files from memory.
"""

from broadcaster.http.server import address_of, bound, listening, raise_file_limit, serving

__all__ = ["address_of", "bound", "listening", "raise_file_limit", "serving"]
