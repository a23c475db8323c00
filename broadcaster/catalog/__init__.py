"""The records of runs and segments, and the book of them that outlives the process.

The book is the file ``journal.db``: ``database`` opens it and knows its schema, ``copies`` keeps what it was
before a migration, ``rows`` turns records into rows and back, ``catalog`` says what is written, ``writer``
writes it, and ``load`` reads it all back at a start.
"""

from broadcaster.catalog.catalog import Catalog
from broadcaster.catalog.records import Memory

__all__ = ["Catalog", "Memory"]
