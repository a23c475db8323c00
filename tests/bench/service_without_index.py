"""The service as ``service_events`` runs it, which does not look for key frames."""

import asyncio
import sys
from pathlib import Path
from unittest.mock import patch

from broadcaster.upload import uploader
from tests.bench import service_events

if __name__ == "__main__":
    with patch.object(uploader, "_iframe_of", lambda *_: None):
        asyncio.run(service_events.main(Path(sys.argv[1])))
