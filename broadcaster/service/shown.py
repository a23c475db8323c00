"""Which recordings and clips viewers may be shown, and where these are in the bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urljoin

from broadcaster.catalog.index import of_clip, summary
from broadcaster.catalog.views import Clip, Part, Recording, Visibility
from broadcaster.config import Settings
from broadcaster.delivery.recorder import Show
from broadcaster.feed import File
from broadcaster.feed import Recording as Shown
from broadcaster.service.audience import AudienceProcess

SIGNED = "/recordings/"  # where the service itself has the playlists of a private bucket
# The newest of each kind: the process that serves viewers has them in its memory.
MOST = 2000


def showing(settings: Settings, audience: Callable[[], AudienceProcess | None]) -> Show | None:
    """What the recorder tells of all that the bucket has; None where viewers are shown nothing of it."""
    is_public = settings.urls == "public"
    base = f"{settings.public_url}/{settings.prefix}/recordings/" if is_public else SIGNED

    def show(
        recordings: Sequence[Recording], parts: Mapping[str, Sequence[Part]], clips: Sequence[Clip]
    ) -> None:
        if process := audience():
            process.show_recordings(shown(recordings, parts, clips, base))

    return show if settings.has_pages else None


def shown(
    recordings: Sequence[Recording], parts: Mapping[str, Sequence[Part]], clips: Sequence[Clip], base: str
) -> dict[str, Shown]:
    """All but the hidden ones, by their paths; ``base`` is the public address of the folder of recordings."""
    # What viewers make has a bound of its own, and takes no place from what the operator has made.
    ours, theirs = ([one for one in clips if one.viewer is viewer] for viewer in (False, True))
    kinds = (_recordings(recordings, parts, base), _clips(ours, base), _clips(theirs, base))
    newest = (sorted(kind, key=lambda one: one.started, reverse=True)[:MOST] for kind in kinds)
    return {one.path: one for kind in newest for one in kind}


def _recordings(
    recordings: Sequence[Recording], parts: Mapping[str, Sequence[Part]], base: str
) -> Iterator[Shown]:
    for one in recordings:
        if one.visibility is not Visibility.HIDDEN:
            told = summary(one, parts.get(one.id, ()))
            yield Shown(
                one.folder,
                one.title,
                one.started,
                one.ended,
                one.duration.total_seconds(),
                tuple(urljoin(base, part) for part in told["parts"]),
                poster=_poster(told["poster"], base),
                listed=one.visibility is Visibility.LISTED,
                file=_file(told["file"], base),
            )


def _file(told: Mapping[str, Any] | None, base: str) -> File | None:
    if not told or base == SIGNED:  # nobody signs it, nor a poster
        return None
    return File(urljoin(base, told["url"]), told["size"], told["type"])


def _poster(path: str | None, base: str) -> str | None:
    return urljoin(base, path) if path and base != SIGNED else None


def _clips(clips: Sequence[Clip], base: str) -> Iterator[Shown]:
    for one in clips:
        told = of_clip(one)
        poster = _poster(told["poster"], base)
        playlist = urljoin(base, told["playlist"])
        length = (one.end - one.begin).total_seconds()
        yield Shown(
            one.id, one.title, one.begin, one.end, length, (playlist,), poster, listed=False, clip=True
        )
