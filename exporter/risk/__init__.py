"""Mathematics of value at risk: methods and backtests as pure functions of arrays. Knows no portfolio, source or metric."""
