"""A recording in a folder: runs of an encoder as segments with their playlist; and what a file has."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import av

from broadcaster.demo.encoder import ffmpeg


@dataclass(frozen=True)
class EncodedRecording:
    """``packets`` and ``seconds`` are those of each run; ``frame`` is how long a picture is shown."""

    folder: Path
    names: list[str]
    packets: list[dict[str, int]]
    seconds: list[float]
    frame: float

    @property
    def playlist(self) -> Path:
        return self.folder / "playlist.m3u8"


def encoded_recording(  # noqa: PLR0913 - each makes it larger or smaller in another way
    folder: Path,
    *,
    runs: int,
    segments: int,
    segment_seconds: int,
    fps: int,
    repeated: int = 1,
    kbps: int = 100,
    size: str = "160x90",
    sample_rate: int = 48_000,
) -> EncodedRecording:
    """Encode a run's beginning, repeat it, cut it into segments, and take it for each of the runs."""
    folder.mkdir(parents=True)
    begin = segments * segment_seconds // repeated
    run(
        *(
            "-f",
            "lavfi",
            "-i",
            f"testsrc2=size={size}:rate={fps}",
            "-f",
            "lavfi",
            "-i",
            f"sine=sample_rate={sample_rate}",
        ),
        *("-t", str(begin), "-c:v", "libx264", "-preset", "ultrafast", "-g", str(fps * segment_seconds)),
        *("-keyint_min", str(fps * segment_seconds), "-sc_threshold", "0", "-bf", "2", "-b:v", f"{kbps}k"),
        *("-minrate", f"{kbps}k", "-maxrate", f"{kbps}k", "-bufsize", f"{kbps}k", "-nal-hrd", "cbr"),
        *("-c:a", "aac", "-b:a", "24k", str(folder / "begin.mkv")),
    )
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{segment_seconds + 1}"]
    names: list[str] = []
    packets: list[dict[str, int]] = []
    lengths: list[float] = []
    for number in range(runs):
        (folder / str(number)).mkdir()
        run(
            *("-stream_loop", str(repeated - 1), "-i", str(folder / "begin.mkv"), "-c", "copy"),
            *("-output_ts_offset", str(1000 * number), "-f", "hls", "-hls_time", str(segment_seconds)),
            *("-hls_list_size", "0", "-hls_segment_filename", str(folder / str(number) / "%d.ts")),
            str(folder / f"{number}.m3u8"),
        )
        lines += ["#EXT-X-DISCONTINUITY"] if number else []
        for line in (folder / f"{number}.m3u8").read_text().splitlines():
            if line.startswith("#EXTINF"):
                lines.append(line)
            elif not line.startswith("#"):
                names.append(f"{number}/{line}")
                lines.append(names[-1])
        whole = b"".join((folder / name).read_bytes() for name in names if name.startswith(f"{number}/"))
        (folder / "run.ts").write_bytes(whole)
        found = times(folder / "run.ts")
        packets.append(found.counts)
        lengths.append(found.seconds)
    (folder / "playlist.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    return EncodedRecording(folder, names, packets, lengths, 1 / fps)


def run(*options: str) -> None:
    subprocess.run([*ffmpeg(), "-v", "error", "-y", *options], check=True)


@dataclass(frozen=True)
class Times:
    """Packets, and decoding times in seconds, in order, by kind."""

    seconds: float
    counts: dict[str, int]
    decoding: dict[str, list[float]]


def times(file: Path) -> Times:
    """What a file has."""
    decoding: dict[str, list[float]] = {}
    with av.open(str(file)) as container:
        for packet in container.demux():
            if packet.dts is not None and packet.size:
                seconds = float(packet.dts * packet.time_base)
                decoding.setdefault(packet.stream.type, []).append(seconds)
        duration = (container.duration or 0) / av.time_base
    return Times(duration, {kind: len(found) for kind, found in decoding.items()}, decoding)
