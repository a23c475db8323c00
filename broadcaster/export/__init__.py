"""``broadcaster export``: a recording, a clip or the live window as one file; nothing is encoded again.

``playlists`` finds out what there is to be read, ``plan`` is what of it is wanted and is kept until the file
is there, ``remux`` puts it into the file, with the times of ``timeline``; ``work`` does it all, in a folder
beside the file from which the next attempt goes on.
"""

from broadcaster.export.options import add_options, request_of
from broadcaster.export.work import export

__all__ = ["add_options", "export", "request_of"]
