"""Single-file versions of recordings that an operator uploads, from the first part to the deletion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum

from broadcaster.catalog.recordings import Expiry
from broadcaster.catalog.references import FileUpload, upload_of
from broadcaster.catalog.rows import BIN_OVER, Row, insert, to_microseconds
from broadcaster.catalog.writer import Transaction, Writer
from broadcaster.errors import NotPossible

SELECT = "SELECT * FROM files WHERE "
GIVE_UP = "UPDATE files SET step = 'removed' WHERE recording = :recording AND step = 'uploading'"
# It can be had back for a day.
DELETE = """
UPDATE files SET step = 'removed', deleted = :at WHERE recording = :recording AND step = 'stored'
"""
RESTORE = "UPDATE files SET step = 'stored', deleted = NULL WHERE key = :key"
TELL = "UPDATE recordings SET revision = revision + 1 WHERE id = :recording"


# As long as the bucket has not been told of a change, its index may name what was there before.
UNNAMED = f"""
step = 'removed' AND (deleted IS NULL OR {BIN_OVER})
    AND NOT EXISTS (SELECT 1 FROM recordings WHERE id = files.recording AND written < revision)
"""  # noqa: S608 - a constant


class FileStep(StrEnum):
    """How far an object has come. A recording has at most one of each, apart from what is removed."""

    UPLOADING = "uploading"
    STORED = "stored"
    REMOVED = "removed"  # it is to be deleted


class Files:
    """The pages of the book that tell of them; what is asked raises CatalogError when that cannot be done."""

    def __init__(self, writer: Writer, clock: Callable[[], datetime], expiry: Expiry) -> None:
        self._writer = writer
        self._clock, self._expiry = clock, expiry

    async def uploading(self, recording: str | None = None) -> list[FileUpload]:
        """What is on its way to a recording: nothing, or one; without a name, of all."""
        which = "step = 'uploading' AND recording = ifnull(:recording, recording)"
        return await self._read(which, recording=recording)

    async def begin(self, upload: FileUpload) -> None:
        """An upload begins, in the place of any other; raises NotPossible when its recording is gone."""
        row: Row = {**asdict(upload), "begun": to_microseconds(upload.begun), "step": FileStep.UPLOADING}

        def question() -> bool:
            known = "SELECT 1 FROM recordings WHERE id = :recording"
            if not self._writer.connection.execute(known, row).fetchone():
                return False
            self._writer.transact([(GIVE_UP, row), insert("files", row)])
            return True

        if not await self._writer.read(question):
            raise NotPossible("the recording is gone")

    async def store(self, upload: FileUpload, etag: str) -> bool:
        """The bucket has it: it is the recording's, in the place of any other, which goes into the bin.

        False when it was given up.
        """
        values: Row = {"recording": upload.recording, "key": upload.key, "etag": etag, "at": self._now()}
        stored = "UPDATE files SET step = 'stored', etag = :etag WHERE key = :key"

        def question() -> bool:
            known = "SELECT 1 FROM files WHERE key = :key AND step = 'uploading'"
            if not self._writer.connection.execute(known, values).fetchone():
                return False
            self._writer.transact([(DELETE, values), (stored, values), (TELL, values)])
            return True

        return await self._writer.read(question)

    def give_up(self, recording: str) -> Transaction:
        """Give up what is on its way to the recording."""
        return self._writer.write((GIVE_UP, {"recording": recording}))

    def delete(self, recording: str, *, at_once: bool = False) -> Transaction:
        """Put the recording's file into the bin, from where it goes after a day, or ``at_once``."""
        values: Row = {"recording": recording, "at": 0 if at_once else self._now()}
        return self._writer.write((DELETE, values), (TELL, values))

    async def bin(self) -> list[FileUpload]:
        """What was deleted or replaced, and can be had back."""
        return await self._read(
            "deleted > 0 AND recording IN (SELECT id FROM recordings) ORDER BY deleted DESC"
        )

    async def restore(self, file: FileUpload) -> None:
        """Take it out of the bin, in the place of the one that its recording has, which goes into it.

        Raises NotPossible when it is gone.
        """
        values: Row = {"recording": file.recording, "key": file.key, "at": self._now()}

        def question() -> bool:
            known = "SELECT 1 FROM files WHERE key = :key AND deleted > 0"
            if not self._writer.connection.execute(known, values).fetchone():
                return False
            self._writer.transact([(DELETE, values), (RESTORE, values), (TELL, values)])
            return True

        if not await self._writer.read(question):
            raise NotPossible("it is not in the bin any more")

    def empty(self, file: FileUpload) -> Transaction:
        """Let it wait in the bin no longer."""
        return self._writer.write(
            ("UPDATE files SET deleted = 0 WHERE key = :key AND deleted > 0", {"key": file.key})
        )

    async def removed(self, begun_before: datetime) -> list[FileUpload]:
        """What is to be deleted, and is named nowhere; uploads begun before that time are given up.

        It leaves the bin first: the bucket may have deleted what nobody has heard of.
        """
        bounds = self._expiry.bounds()
        late = "UPDATE files SET step = 'removed' WHERE step = 'uploading' AND begun < :before"
        over = f"UPDATE files SET deleted = 0 WHERE deleted > 0 AND {UNNAMED}"  # noqa: S608 - a constant
        await self._writer.write((late, {"before": to_microseconds(begun_before)}), (over, {**bounds}))
        return await self._read(UNNAMED, **bounds)

    def forget(self, upload: FileUpload) -> Transaction:
        """Nothing is left of it."""
        delete = "DELETE FROM files WHERE key = :key AND step = 'removed'"
        return self._writer.write((delete, {"key": upload.key}))

    def _now(self) -> int:
        return to_microseconds(self._clock())

    async def _read(self, which: str, **values: str | int | None) -> list[FileUpload]:
        def question() -> list[FileUpload]:
            return [upload_of(row) for row in self._writer.connection.execute(SELECT + which, values)]

        return await self._writer.read(question)
