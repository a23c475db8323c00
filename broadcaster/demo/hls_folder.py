"""What Owncast itself does in its HLS folder: it makes it anew, cleans it up, and closes its playlists.

The rest is ffmpeg's, through the receiver.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

PLAYLIST = "stream.m3u8"
CLIP = "offline.ts"
CLIP_SECONDS = 8
KEEP_BEYOND_PLAYLIST = 10  # segments that Owncast's cleanup leaves besides those listed
FOLDER_MODE = 0o750
FILE_MODE = 0o644
PRIVATE_MODE = 0o600
ENDING = f"#EXT-X-DISCONTINUITY\n#EXTINF:{CLIP_SECONDS}.000000,\n{CLIP}\n#EXT-X-ENDLIST\n"
NOTHING_BUT_THE_CLIP = (
    "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:0\n"
    f"#EXT-X-TARGETDURATION:{CLIP_SECONDS}\n#EXTINF:{CLIP_SECONDS}.000,\n{CLIP}\n#EXT-X-ENDLIST\n"
)


class HlsFolder:
    """The folder ``path``, written to as Owncast does; with ``older``, as its older versions did."""

    def __init__(self, path: Path, *, older: bool) -> None:
        self._path = path
        self._older = older

    def empty(self) -> None:
        """Remove the folder itself and make it anew, as at Owncast's start and 5 minutes after an end."""
        if self._path.exists():
            shutil.rmtree(self._path)
        _make(self._path)

    def prepare(self, variants: int) -> None:
        """Make the folders of a transcoder that starts: in the place of all that was there, unless older."""
        if not self._older:
            self.empty()
        for folder in self._folders(variants):
            _make(folder)

    def clean_up(self, variants: int, playlist_size: int) -> None:
        """Remove all but the newest segments, as each minute while a stream is on."""
        for folder in self._folders(variants):
            newest_first = sorted(folder.glob("*.ts"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
            for path in newest_first[playlist_size + KEEP_BEYOND_PLAYLIST :]:
                path.unlink()

    def close_playlists(self, variants: int, clip: Path) -> None:
        """Append ``clip`` and ENDLIST to each variant's playlist.

        The new playlist is made beside ``clip`` and moved over the old one: both files are for their owner's
        eyes alone. Older versions wrote in place.
        """
        for folder in self._folders(variants):
            playlist = folder / PLAYLIST
            shutil.copyfile(clip, folder / CLIP)
            (folder / CLIP).chmod(FILE_MODE if self._older else PRIVATE_MODE)
            if not playlist.exists():
                playlist.write_text(NOTHING_BUT_THE_CLIP)
            elif self._older:
                with playlist.open("a") as file:
                    file.write(ENDING)
            else:
                self._replace(playlist, playlist.read_text() + ENDING, clip.parent)

    @staticmethod
    def _replace(playlist: Path, text: str, beside: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix=f"tmp-stream-{playlist.parent.name}.m3u8", dir=beside)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(name).replace(playlist)

    def _folders(self, variants: int) -> list[Path]:
        return [self._path / str(index) for index in range(variants)]


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)  # whatever the umask
