"""One subject per file: pure functions of the desk state, numpy only."""
