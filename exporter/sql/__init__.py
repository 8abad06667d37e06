"""Reading a database for a source: read-only connections, tables as queries, rows as records, cells as values."""
