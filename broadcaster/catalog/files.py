"""Single-file versions of recordings that an operator uploads, from the first part to the deletion."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from broadcaster.catalog.recordings import RetentionPolicy
from broadcaster.catalog.records import MultipartUpload
from broadcaster.catalog.rows import BIN_OVER, Row, Statement, insert, to_microseconds, upload_of
from broadcaster.catalog.writer import Transaction, TransactionWriter
from broadcaster.errors import NotPossible

# A recording has at most one file in each step, apart from removed files.
ABANDON = "UPDATE files SET step = 'removed' WHERE recording = :recording AND step = 'uploading'"
DELETE = """
UPDATE files SET step = 'removed', deleted = :at WHERE recording = :recording AND step = 'stored'
"""
STORE = "UPDATE files SET step = 'stored', etag = :etag WHERE key = :key"
RESTORE = "UPDATE files SET step = 'stored', deleted = NULL WHERE key = :key"
CHANGED = "UPDATE recordings SET revision = revision + 1 WHERE id = :recording"
# Until a change is in the bucket, the index there may name the file that was there before.
REMOVABLE = f"""
step = 'removed' AND (deleted IS NULL OR {BIN_OVER})
    AND NOT EXISTS (SELECT 1 FROM recordings WHERE id = files.recording AND written < revision)
"""  # noqa: S608 - a constant


class FileTable:
    """The files of the catalog. Reads raise CatalogError while the disk fails."""

    def __init__(self, writer: TransactionWriter, policy: RetentionPolicy) -> None:
        self._writer, self._policy = writer, policy

    async def uploading(self, recording: str | None = None) -> list[MultipartUpload]:
        """The uploads under way: one at most for a recording; of all recordings without an ID."""
        condition = "step = 'uploading' AND recording = ifnull(:recording, recording)"
        return await self._where(condition, {"recording": recording})

    async def begin(self, upload: MultipartUpload) -> None:
        """Begin an upload, which replaces any other; raises NotPossible when its recording is gone."""
        row: Row = {**asdict(upload), "begun": to_microseconds(upload.begun), "step": "uploading"}
        known = "SELECT 1 FROM recordings WHERE id = :recording"
        if not await self._write_if(known, row, (ABANDON, row), insert("files", row)):
            raise NotPossible("the recording is gone")

    async def store(self, upload: MultipartUpload, etag: str) -> bool:
        """Note that the upload is complete; the former file goes into the bin. False if it was abandoned."""
        values: Row = {"recording": upload.recording, "key": upload.key, "etag": etag, "at": self._policy.now}
        known = "SELECT 1 FROM files WHERE key = :key AND step = 'uploading'"
        return await self._write_if(known, values, (DELETE, values), (STORE, values), (CHANGED, values))

    def abandon(self, recording: str) -> Transaction:
        """Abandon the upload of a recording."""
        return self._writer.write((ABANDON, {"recording": recording}))

    def delete(self, recording: str, *, at_once: bool = False) -> Transaction:
        """Move the file of a recording into the bin for a day, or delete it ``at_once``."""
        values: Row = {"recording": recording, "at": 0 if at_once else self._policy.now}
        return self._writer.write((DELETE, values), (CHANGED, values))

    async def bin(self) -> list[MultipartUpload]:
        """The files in the bin, the latest first."""
        return await self._where(
            "deleted > 0 AND recording IN (SELECT id FROM recordings) ORDER BY deleted DESC"
        )

    async def restore(self, file: MultipartUpload) -> None:
        """Take a file out of the bin; the recording's present file goes into it. Raises NotPossible."""
        values: Row = {"recording": file.recording, "key": file.key, "at": self._policy.now}
        known = "SELECT 1 FROM files WHERE key = :key AND deleted > 0"
        if not await self._write_if(known, values, (DELETE, values), (RESTORE, values), (CHANGED, values)):
            raise NotPossible("it is not in the bin any more")

    def empty(self, file: MultipartUpload) -> Transaction:
        """Delete a file from the bin."""
        update = "UPDATE files SET deleted = 0 WHERE key = :key AND deleted > 0"
        return self._writer.write((update, {"key": file.key}))

    async def removed(self, begun_before: datetime) -> list[MultipartUpload]:
        """The files to delete from the bucket; uploads begun before that time are abandoned.

        They leave the bin first: once the bucket has deleted a file, it cannot be restored.
        """
        bounds: Row = {**self._policy.bounds()}
        late = "UPDATE files SET step = 'removed' WHERE step = 'uploading' AND begun < :before"
        over = f"UPDATE files SET deleted = 0 WHERE deleted > 0 AND {REMOVABLE}"  # noqa: S608 - a constant
        await self._writer.write((late, {"before": to_microseconds(begun_before)}), (over, bounds))
        return await self._where(REMOVABLE, bounds)

    def forget(self, upload: MultipartUpload) -> Transaction:
        """Forget a file that the bucket has deleted."""
        delete = "DELETE FROM files WHERE key = :key AND step = 'removed'"
        return self._writer.write((delete, {"key": upload.key}))

    async def _where(self, condition: str, values: Row | None = None) -> list[MultipartUpload]:
        query = f"SELECT * FROM files WHERE {condition}"  # noqa: S608 - a constant
        return await self._writer.select(query, values or {}, upload_of)

    async def _write_if(self, query: str, values: Row, *statements: Statement) -> bool:
        """Commit the statements if the query finds a row; returns whether it did."""

        def question() -> bool:
            if not self._writer.connection.execute(query, values).fetchone():
                return False
            self._writer.transact(statements)
            return True

        return await self._writer.read(question)
