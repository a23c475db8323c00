"""The service as ``service_events`` runs it, without requests for the lease."""

import asyncio
import sys
from pathlib import Path
from unittest.mock import patch

from broadcaster.bucket.lease import PrefixLease
from tests.bench import service_events


async def _look(lease: PrefixLease) -> None:
    """There is no lease."""
    now = lease._steady()  # noqa: SLF001
    lease._election.note_version(now, now, lease._election.etag, lease._election.found)  # noqa: SLF001


async def _write(lease: PrefixLease) -> None:
    """It is stored."""
    lease._election.note_write(lease._steady(), str(lease._election.record.beat))  # noqa: SLF001


if __name__ == "__main__":
    with patch.multiple(PrefixLease, _look=_look, _write=_write):
        asyncio.run(service_events.main(Path(sys.argv[1])))
