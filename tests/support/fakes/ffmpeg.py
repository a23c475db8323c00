"""In the place of ffmpeg, where it matters what it is asked, and not what it makes of that."""

from datetime import timedelta

from broadcaster.errors import PictureError
from broadcaster.recordings.frame_grabber import Ffmpeg


class FakeFfmpeg(Ffmpeg):
    """Says what it was given."""

    def __init__(self) -> None:
        super().__init__("")
        self.broken = False
        self.asked = 0

    async def frame(self, media: bytes, at: timedelta | None = None) -> bytes:
        self.asked += 1
        if self.broken:
            raise PictureError("broken")
        return f"{len(media)} bytes at {at}".encode()
