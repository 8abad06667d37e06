"""One venue, broker or database per file."""
