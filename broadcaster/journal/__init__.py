"""What must outlive the process, in SQLite: what is on its way, what is listed, what is to be deleted.

``database`` opens the file and its schema, ``journal`` writes, ``recall`` reads it all back at a start.
"""

from broadcaster.journal.journal import Journal
from broadcaster.journal.recall import PendingSegment, Recalled

__all__ = ["Journal", "PendingSegment", "Recalled"]
