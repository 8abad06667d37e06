"""The durable store of a process: the interface and its embedded SQLite."""

from deskwatch.store.store import Migration, Row, Statement, Store, Value, Work, query

__all__ = ["Migration", "Row", "Statement", "Store", "Value", "Work", "query"]
