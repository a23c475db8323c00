"""What must outlive the process, in SQLite: what is on its way, what is listed, what is to be deleted.

``records`` are the facts themselves. The book of them is the file ``journal.db``: ``database`` opens it and
knows its schema, ``catalog`` writes, ``load`` reads it all back at a start.
"""

from broadcaster.catalog.catalog import Catalog
from broadcaster.catalog.load import PendingSegment, Recalled

__all__ = ["Catalog", "PendingSegment", "Recalled"]
