"""Asks the questions of one fetch in its transaction; what goes wrong names the table or query it went wrong in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from deskwatch.errors import Permanent, Reason, Retryable
from exporter.snapshot import Kind
from exporter.sql.questions import Bounds, Question, canonical, grouped, own
from exporter.sql.readonly import Page, Reading, ReadOnlyDatabase, TooManyRows


@dataclass(frozen=True, slots=True)
class Asker:
    """One fetch.

    Args:
        database: who is asked.
        reading: the open transaction.
        queries: the operator's own SELECTs; other kinds come from their canonical tables.
    """

    database: ReadOnlyDatabase
    reading: Reading
    queries: Mapping[Kind, str]

    async def question(self, kind: Kind, bounds: Bounds) -> Question:
        """What is to be asked for the kind."""
        if kind in self.queries:
            return own(self.database.access, kind, self.queries[kind], bounds)
        return await canonical(self.database.access, self.reading, kind, bounds)

    async def names(self, question: Question) -> list[str]:
        """The columns the answer will have."""
        with self._named(question, 0):
            return await self.reading.names(question.query, question.parameters)

    def grouped(self, question: Question, names: Mapping[str, str], limit: int) -> Question | None:
        """The question for daily closes with the server putting them together, None where it cannot."""
        return grouped(self.database.access, question, self.reading.quoted(names), limit)

    async def pages(self, question: Question, limit: int, page: int) -> AsyncGenerator[Page, None]:
        """The answer, page by page; never more than `limit` rows.

        Raises:
            Retryable: it cannot be answered now.
            Permanent: it is wrong, or has more rows.
        """
        with self._named(question, limit):
            async with aclosing(self.reading.rows(question.query, question.parameters, limit=limit, page=page)) as pages:
                async for names, rows in pages:
                    yield names, rows

    @contextmanager
    def _named(self, question: Question, limit: int) -> Iterator[None]:
        try:
            yield
        except TooManyRows:
            raise too_many(question, limit) from None
        except (Retryable, Permanent):
            raise
        except Exception as error:
            explained = self.database.explain(error)
            raise type(explained)(f"{question.where}: {explained}", reason=explained.reason) from error


def too_many(question: Question, limit: int) -> Permanent:
    """The answer has more rows than wanted."""
    setting = "maximum_closes" if question.kind == "histories" else "maximum_rows"
    return Permanent(f"{question.where}: more than {limit} rows: narrow the query or raise {setting}", reason=Reason.TOO_LARGE)
