"""One way to people or systems per file."""
