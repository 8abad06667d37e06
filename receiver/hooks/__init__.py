"""Built-in remediation hooks, one per file."""
