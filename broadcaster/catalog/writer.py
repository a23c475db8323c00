"""Transactions, one after another, in a thread of their own.

A full disk is no reason to stop a stream: what cannot be written waits in memory, in order, and ``fault``
says so. What a killed process loses of it is the price of a full disk alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sqlite3
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self, TypeVar

from broadcaster.catalog.rows import Statement
from broadcaster.errors import CatalogError

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY = 5.0  # seconds; what is newer may be lost to a power cut

T = TypeVar("T")


class Writer:
    """Writes to ``connection``: inside ``async with`` in a thread of its own, else at once.

    ``fault`` is why it cannot be written, which a restart would suffer from; None while it can. ``told``
    counts the transactions.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.fault: str | None = None
        self.told = self._written = self._synced = 0
        self._connection = connection
        self._unsaved: deque[Sequence[Statement]] = deque()  # one transaction each
        self._checkpoint_at = time.monotonic()
        self._thread: ThreadPoolExecutor | None = None
        self._writing: asyncio.Task[None] | None = None  # the latest

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catalog")
        return self

    async def __aexit__(self, *_: object) -> None:
        thread, self._thread = self._thread, None
        if thread:
            await asyncio.to_thread(thread.shutdown)

    @property
    def settled(self) -> float:
        """How many transactions a power cut cannot take back; all, while none can be written."""
        return math.inf if self.fault else self._synced

    def write(
        self, *statements: Statement, then: Callable[[], None] = lambda: None, sync: bool = False
    ) -> None:
        """Make a transaction of them, and ``then`` go on, in the order of calls.

        ``sync`` sees to it that all up to here outlives a power cut.
        """
        if statements:
            self._unsaved.append(statements)
            self.told += 1
        if self._thread is None:
            self._flush(sync=sync)
            then()
        else:
            flush = partial(self._flush, sync=sync)
            flushed = asyncio.get_running_loop().run_in_executor(self._thread, flush)
            self._writing = asyncio.create_task(_after(flushed, then), name="catalog")

    async def written(self) -> None:
        """Wait until all that was told before has been written, or was tried to be, and shown."""
        if self._writing:
            await asyncio.shield(self._writing)

    async def ask(self, question: Callable[[], T]) -> T | None:
        """The answer, once all is written; None while that cannot be, or nothing can be read."""
        if self._thread is None:
            return self._ask(question)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, question)

    async def read(self, question: Callable[[], T]) -> T:
        """The answer, once all is written; raises CatalogError while that cannot be."""
        if (answer := await self.ask(question)) is None:
            raise CatalogError("the journal cannot be read now")
        return answer

    def save(self) -> None:
        """Write what could not be written before; now and then, see to it that all is on the disk.

        Raises what has gone wrong meanwhile with a statement itself.
        """
        now = time.monotonic()
        if self._writing and self._writing.done():
            self._writing.result()
        if self._unsaved:
            self.write()
        elif self._thread and now - self._checkpoint_at > CHECKPOINT_EVERY:
            self._checkpoint_at = now
            self._thread.submit(self._checkpoint)

    def _ask(self, question: Callable[[], T]) -> T | None:
        self._flush()
        if self._unsaved:
            return None
        try:
            return question()
        except sqlite3.OperationalError as error:
            logger.warning("the journal cannot be read, nothing is deleted now: %s", error)
            return None

    def _flush(self, *, sync: bool = False) -> None:
        try:
            while self._unsaved:
                self.transact(self._unsaved[0])
                self._forget_first()
            if sync:
                self._checkpoint()
        except sqlite3.OperationalError as error:
            if self.fault is None:
                logger.error("the journal cannot be written, which a restart would suffer from: %s", error)
            self.fault = str(error)
            return
        except Exception:
            self._forget_first()  # it would fail again, and keep the file from being closed in order
            raise
        if self.fault:
            logger.info("the journal is written again")
            self.fault = None

    def transact(self, statements: Sequence[Statement]) -> None:
        """Write them at once, in a question; raises sqlite3.Error, ValueError, OverflowError."""
        try:
            self._connection.execute("BEGIN")
            for statement, values in statements:
                self._connection.execute(statement, values)
            self._connection.execute("COMMIT")
        except BaseException:  # a value that no row can hold, too
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _forget_first(self) -> None:
        self._unsaved.popleft()
        self._written += 1

    def _checkpoint(self) -> None:
        with contextlib.suppress(sqlite3.OperationalError):  # the next transaction will say so
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._synced = self._written


async def _after(flushed: Awaitable[None], then: Callable[[], None]) -> None:
    await flushed
    then()
