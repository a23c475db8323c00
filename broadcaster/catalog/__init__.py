"""The catalog: records of runs, segments, recordings, clips and files, in the SQLite file ``journal.db``.

``schema`` opens and migrates the file, ``rows`` converts records to rows and back, ``writer`` commits
transactions in a thread, ``catalog`` records the steps of segments and loads them at a start.
"""

from broadcaster.catalog.catalog import Catalog
from broadcaster.catalog.records import CatalogSnapshot

__all__ = ["Catalog", "CatalogSnapshot"]
