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
from typing import Any, Self, TypeVar

from broadcaster.aio import OwnThread
from broadcaster.catalog.rows import Row, Statement
from broadcaster.errors import CatalogError

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY = 5.0  # seconds; a power cut may take back later transactions
# Errors of a statement itself, which would fail again. All others are errors of the disk or the machine.
OF_A_STATEMENT = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
    sqlite3.ProgrammingError,
)
SQLITE_ERROR = 1  # the result code of invalid SQL; its exception is an OperationalError

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
        self._is_tried = False
        self._loop = loop
        self._done = asyncio.Event() if loop else None
        self._error: BaseException | None = None

    def __await__(self) -> Generator[Any, None, None]:
        if self._done:
            yield from self._done.wait().__await__()
        self.check()

    def check(self) -> None:
        """Raise the error of the transaction, if it has failed."""
        if self._error:
            raise self._error

    def note_attempt(self, error: Exception | None = None) -> None:
        """Note the end of an attempt; called in the thread that writes. Only the first attempt counts."""
        if self._is_tried:
            return
        self._is_tried = True
        if self._loop is None:
            self._finish(error)
        else:  # in the order of these calls
            self._loop.call_soon_threadsafe(self._finish, error)

    def _finish(self, error: BaseException | None) -> None:
        self._error = error
        if self._done:
            self._done.set()


class TransactionWriter:
    """Writes to ``connection``: inside ``async with`` in a thread of its own, else at once.

    ``fault`` is the error of writes, None while they work. ``queued`` is the number of transactions so far.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.fault: str | None = None
        self.queued = self._flushed = self._durable = 0  # transactions
        self._connection = connection
        self._queue: deque[Transaction] = deque()
        self._checkpoint_at = time.monotonic()
        self._thread: OwnThread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner: int | None = None  # the thread that alone uses the connection

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = OwnThread("catalog")
        self._owner = await self._thread.call(threading.get_ident)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._thread:
                await self._thread.call(lambda: None)  # all that was queued before
        finally:
            self._thread = self._loop = self._owner = None

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection: inside ``async with`` for the thread that writes, never for the event loop.

        Raises RuntimeError in any other thread.
        """
        if self._owner not in (None, threading.get_ident()):
            raise RuntimeError("the catalog is used outside the thread that writes it")
        return self._connection

    @property
    def durable(self) -> float:
        """Number of transactions that a power cut cannot take back; infinite while the disk fails."""
        return math.inf if self.fault else self._durable

    def write(self, *statements: Statement, sync: bool = False) -> Transaction:
        """Queue a transaction of these statements.

        ``sync`` makes it and all earlier transactions durable. Outside ``async with`` it is written at once,
        and its error is raised here.
        """
        transaction = Transaction(statements, self._loop, sync=sync)
        self.queued += bool(statements)
        self._queue.append(transaction)
        if self._thread is None:
            self._write(transaction)
            transaction.check()
        else:
            self._thread.submit(self._write, transaction)
        return transaction

    async def flush(self) -> None:
        """Wait until all transactions that were queued before have been tried."""
        if self._thread is None:
            self._flush()
        else:
            await self._thread.call(self._flush)

    async def read(self, question: Callable[[], T]) -> T:
        """The result of ``question``, after all queued writes; raises CatalogError while the disk fails."""
        if self._thread is None:
            return self._read(question)
        return await self._thread.call(self._read, question)

    async def select(self, query: str, values: Row, record: Callable[[sqlite3.Row], T]) -> list[T]:
        """The records of a query; raises CatalogError while the disk fails."""
        return await self.read(lambda: [record(row) for row in self.connection.execute(query, values)])

    def maintain(self) -> None:
        """Try failed writes again; every 5 seconds make all transactions durable."""
        now = time.monotonic()
        if self._thread is None:
            self._flush()
        elif self._queue:
            self._thread.submit(self._flush)
        elif now - self._checkpoint_at > CHECKPOINT_EVERY:
            self._checkpoint_at = now
            self._thread.submit(self._checkpoint)

    def transact(self, statements: Sequence[Statement]) -> None:
        """Commit at once, inside ``read``; raises sqlite3.Error, ValueError, OverflowError."""
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
            raise CatalogError("the catalog cannot be read now")
        try:
            return question()
        except sqlite3.Error as error:
            if _is_of_a_statement(error):
                raise
            logger.warning("the catalog cannot be read, nothing is deleted now: %s", error)
            raise CatalogError("the catalog cannot be read now") from None

    def _write(self, transaction: Transaction) -> None:
        try:
            self._flush()
        finally:
            transaction.note_attempt()  # it may still wait in memory

    def _flush(self) -> bool:
        """Write the queue in order; returns whether the disk took all."""
        while self._queue:
            transaction, error = self._queue[0], None
            try:
                if transaction.statements:
                    self.transact(transaction.statements)
            except Exception as raised:  # noqa: BLE001 - it is raised where the transaction is awaited
                if not _is_of_a_statement(raised):
                    if self.fault is None:
                        logger.error(
                            "the catalog cannot be written; a restart now would lose data: %s", raised
                        )
                    self.fault = str(raised) or type(raised).__name__
                    return False
                logger.error("a transaction cannot be written: %s: %s", type(raised).__name__, raised)
                error = raised  # it would fail again, and block all later transactions
            self._queue.popleft()
            self._flushed += bool(transaction.statements)
            if transaction.sync:
                self._checkpoint()
            transaction.note_attempt(error)
        if self.fault:
            logger.info("the catalog is written again")
            self.fault = None
        return True

    def _checkpoint(self) -> None:
        with contextlib.suppress(sqlite3.OperationalError):  # the next transaction reports the fault
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._durable = self._flushed


def _is_of_a_statement(error: Exception) -> bool:
    """Whether the same transaction would fail again on a healthy disk."""
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", None) == SQLITE_ERROR
    return isinstance(error, OF_A_STATEMENT) or not isinstance(error, sqlite3.Error | MemoryError)
