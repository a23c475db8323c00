"""Recordings as one file, which the operator uploads: each object from its first part until it is deleted."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from enum import StrEnum

from broadcaster.catalog.rows import insert, to_microseconds
from broadcaster.catalog.view_rows import upload_of
from broadcaster.catalog.views import FileUpload
from broadcaster.catalog.writer import Transaction, Writer
from broadcaster.errors import NotPossible

SELECT = "SELECT * FROM files WHERE "
REMOVE = "UPDATE files SET step = 'removed' WHERE recording = :recording AND step = :step"
TELL = "UPDATE recordings SET revision = revision + 1 WHERE id = :recording"


# As long as the bucket has not been told of a change, its index may name what was there before.
UNNAMED = """
step = 'removed' AND NOT EXISTS (SELECT 1 FROM recordings WHERE id = files.recording AND written < revision)
"""


class FileStep(StrEnum):
    """How far an object has come. A recording has at most one of each, apart from what is removed."""

    UPLOADING = "uploading"
    STORED = "stored"
    REMOVED = "removed"  # it is to be deleted


class Files:
    """The pages of the book that tell of them; what is asked raises CatalogError when that cannot be done."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def uploading(self, recording: str | None = None) -> list[FileUpload]:
        """What is on its way to a recording: nothing, or one; without a name, of all."""
        which = "step = 'uploading' AND recording = ifnull(:recording, recording)"
        return await self._read(which, recording=recording)

    async def begin(self, upload: FileUpload) -> None:
        """An upload begins, in the place of any other; raises NotPossible when its recording is gone."""
        row = {**asdict(upload), "begun": to_microseconds(upload.begun), "step": FileStep.UPLOADING}

        def question() -> bool:
            known = "SELECT 1 FROM recordings WHERE id = :recording"
            if not self._writer.connection.execute(known, row).fetchone():
                return False
            self._writer.transact([(REMOVE, row), insert("files", row)])
            return True

        if not await self._writer.read(question):
            raise NotPossible("the recording is gone")

    async def store(self, upload: FileUpload, etag: str) -> bool:
        """The bucket has it: it is the recording's, in the place of any other. False when it was given up."""
        values = {"recording": upload.recording, "key": upload.key, "etag": etag, "step": FileStep.STORED}
        stored = "UPDATE files SET step = 'stored', etag = :etag WHERE key = :key"

        def question() -> bool:
            known = "SELECT 1 FROM files WHERE key = :key AND step = 'uploading'"
            if not self._writer.connection.execute(known, values).fetchone():
                return False
            self._writer.transact([(REMOVE, values), (stored, values), (TELL, values)])
            return True

        return await self._writer.read(question)

    def remove(self, recording: str, step: FileStep) -> Transaction:
        """Give up what is on its way to the recording, or what it has."""
        values = {"recording": recording, "step": step}
        return self._writer.write((REMOVE, values), (TELL, values))

    async def removed(self, begun_before: datetime) -> list[FileUpload]:
        """What is to be deleted, and is named nowhere; uploads begun before that time are given up."""
        before = to_microseconds(begun_before)
        late = "UPDATE files SET step = 'removed' WHERE step = 'uploading' AND begun < :before"
        await self._writer.write((late, {"before": before}))
        return await self._read(UNNAMED)

    def forget(self, upload: FileUpload) -> Transaction:
        """Nothing is left of it."""
        delete = "DELETE FROM files WHERE key = :key AND step = 'removed'"
        return self._writer.write((delete, {"key": upload.key}))

    async def _read(self, which: str, **values: str | None) -> list[FileUpload]:
        def question() -> list[FileUpload]:
            return [upload_of(row) for row in self._writer.connection.execute(SELECT + which, values)]

        return await self._writer.read(question)
