"""Commits transactions one after another in a thread.

While the disk cannot be written, transactions wait in memory in their order and ``fault`` holds the error:
the stream goes on. They are lost only if the process is killed meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Self, TypeVar

from broadcaster.catalog.rows import Statement
from broadcaster.errors import CatalogError

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY = 5.0  # seconds; what is newer may be lost to a power cut
# Errors of a statement itself, which would fail again. All others are errors of the disk or the machine.
OF_A_STATEMENT = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
    sqlite3.ProgrammingError,
)
SQLITE_ERROR = 1  # the result code of SQL that makes no sense; its exception is an OperationalError

T = TypeVar("T")


class Transaction:
    """A queued transaction. Awaiting it returns after its commit, and raises the error of this transaction.

    While the disk cannot be written, a transaction stays in memory, and awaiting it returns after the first
    attempt.
    """

    def __init__(
        self,
        statements: Sequence[Statement] = (),
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        sync: bool = False,
    ) -> None:
        self.statements, self.sync = statements, sync
        self.is_tried = False  # by the thread that writes
        self._loop = loop
        self._done = loop.create_future() if loop else None
        self._error: BaseException | None = None

    def __await__(self) -> Generator[Any, None, None]:
        if self._done:
            yield from asyncio.shield(self._done).__await__()
        self.check()

    def check(self) -> None:
        """Raise the error of the transaction, if it has failed."""
        if self._error:
            raise self._error

    def tried(self, error: Exception | None = None) -> None:
        """The first attempt is over; called by the thread that writes."""
        if self.is_tried:
            return
        self.is_tried = True
        if self._loop is None:
            self._settle(error)
        else:  # in the order of these calls
            self._loop.call_soon_threadsafe(self._settle, error)

    def _settle(self, error: BaseException | None) -> None:
        self._error = error
        if self._done and not self._done.done():
            self._done.set_result(None)


class Writer:
    """Writes to ``connection``: inside ``async with`` in a thread of its own, else at once.

    ``fault`` is why it cannot be written, which a restart would suffer from; None while it can. ``told``
    counts the transactions.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.fault: str | None = None
        self.told = self._written = self._synced = 0
        self._connection = connection
        self._queue: deque[Transaction] = deque()
        self._checkpoint_at = time.monotonic()
        self._thread: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner: int | None = None  # the thread that alone uses the connection

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catalog")
        await self._loop.run_in_executor(self._thread, self._own)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._thread:
                await asyncio.to_thread(self._thread.shutdown)
        finally:
            self._thread = self._loop = self._owner = None

    def _own(self) -> None:
        self._owner = threading.get_ident()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection: inside ``async with`` for the thread that writes, never for the event loop.

        Raises RuntimeError in any other thread.
        """
        if self._owner not in (None, threading.get_ident()):
            raise RuntimeError("the journal is used outside the thread that writes it")
        return self._connection

    @property
    def settled(self) -> float:
        """How many transactions a power cut cannot take back; all, while none can be written."""
        return math.inf if self.fault else self._synced

    def write(self, *statements: Statement, sync: bool = False) -> Transaction:
        """Queue a transaction of these statements.

        ``sync`` sees to it that all up to here outlives a power cut. Outside ``async with`` it is written at
        once, and its error is raised here.
        """
        transaction = Transaction(statements, self._loop, sync=sync)
        self.told += bool(statements)
        self._queue.append(transaction)
        if self._thread is None:
            self._write(transaction)
            transaction.check()
        else:
            self._thread.submit(self._write, transaction)
        return transaction

    async def written(self) -> None:
        """Wait until the first attempt of everything that was queued before is over."""
        if self._thread is None:
            self._flush()
        else:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._flush)

    async def ask(self, question: Callable[[], T]) -> T | None:
        """The answer, once all is written; None while that cannot be, or nothing can be read."""
        try:
            return await self.read(question)
        except CatalogError:
            return None

    async def read(self, question: Callable[[], T]) -> T:
        """The answer, once all is written; raises CatalogError while that cannot be."""
        if self._thread is None:
            return self._read(question)
        work = partial(self._read, question)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def save(self) -> None:
        """Write what could not be written before; now and then, see to it that all is on the disk."""
        now = time.monotonic()
        if self._thread is None:
            self._flush()
        elif self._queue:
            self._thread.submit(self._flush)
        elif now - self._checkpoint_at > CHECKPOINT_EVERY:
            self._checkpoint_at = now
            self._thread.submit(self._checkpoint)

    def transact(self, statements: Sequence[Statement]) -> None:
        """Write them at once, in a question; raises sqlite3.Error, ValueError, OverflowError."""
        connection = self.connection
        try:
            connection.execute("BEGIN")
            for statement, values in statements:
                connection.execute(statement, values)
            connection.execute("COMMIT")
        except BaseException:  # a value that no row can hold, too
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _read(self, question: Callable[[], T]) -> T:
        if not self._flush():
            raise CatalogError("the journal cannot be read now")
        try:
            return question()
        except sqlite3.Error as error:
            if _is_of_a_statement(error):
                raise
            logger.warning("the journal cannot be read, nothing is deleted now: %s", error)
            raise CatalogError("the journal cannot be read now") from None

    def _write(self, transaction: Transaction) -> None:
        try:
            self._flush()
        finally:
            transaction.tried()  # it may wait in memory

    def _flush(self) -> bool:
        """Write the queue in order; returns whether the disk took it all. Each error is its transaction's."""
        while self._queue:
            transaction, error = self._queue[0], None
            try:
                if transaction.statements:
                    self.transact(transaction.statements)
            except Exception as raised:  # noqa: BLE001 - it is raised where the transaction is awaited
                if not _is_of_a_statement(raised):
                    self._note_fault(raised)
                    return False
                logger.error("a transaction cannot be written: %s: %s", type(raised).__name__, raised)
                error = raised  # it would fail again, and keep the file from being closed in order
            self._queue.popleft()
            self._written += bool(transaction.statements)
            if transaction.sync:
                self._checkpoint()
            transaction.tried(error)
        if self.fault:
            logger.info("the journal is written again")
            self.fault = None
        return True

    def _note_fault(self, error: Exception) -> None:
        if self.fault is None:
            logger.error("the journal cannot be written, which a restart would suffer from: %s", error)
        self.fault = str(error) or type(error).__name__

    def _checkpoint(self) -> None:
        with contextlib.suppress(sqlite3.OperationalError):  # the next transaction will say so
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._synced = self._written


def _is_of_a_statement(error: Exception) -> bool:
    """Whether the same transaction would fail again on a healthy disk."""
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", None) == SQLITE_ERROR
    return isinstance(error, OF_A_STATEMENT) or not isinstance(error, sqlite3.Error | MemoryError)
