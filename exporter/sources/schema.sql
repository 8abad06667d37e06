-- The tables the `database` source reads where the configuration gives no SELECT of its own. Create those you fill:
-- `sqlite3 trading.db < schema.sql`. Plain SQL for SQLite, PostgreSQL and MariaDB (MySQL: without IF NOT EXISTS in the indexes).
--
-- Money and quantities are decimal text, because SQLite keeps a NUMERIC as a float; elsewhere NUMERIC is as good.
-- Times are ISO 8601 in UTC ('2014-11-03T14:15:00Z'), one format per table: they sort as text.
-- More columns do no harm; a column may be missing where its comment says optional.

CREATE TABLE IF NOT EXISTS instruments (
  symbol      VARCHAR(64) NOT NULL PRIMARY KEY,
  currency    VARCHAR(8)  NOT NULL,              -- what a price is quoted in
  sector      VARCHAR(64),                       -- optional
  instrument  VARCHAR(16),                       -- optional: spot (default), share, future, perpetual, option
  multiplier  VARCHAR(40)                        -- optional: currency units per point and contract, default 1
);

CREATE TABLE IF NOT EXISTS positions (
  portfolio   VARCHAR(64) NOT NULL,
  symbol      VARCHAR(64) NOT NULL,
  quantity    VARCHAR(40) NOT NULL,              -- signed: negative is short
  currency    VARCHAR(8)  NOT NULL,
  entry_price VARCHAR(40),                       -- optional
  PRIMARY KEY (portfolio, symbol)
);

CREATE TABLE IF NOT EXISTS prices (
  symbol      VARCHAR(64) NOT NULL PRIMARY KEY,
  price       VARCHAR(40) NOT NULL,              -- latest mark of one unit
  currency    VARCHAR(8)  NOT NULL,
  at          VARCHAR(40) NOT NULL
);

CREATE TABLE IF NOT EXISTS fills (
  execution_id VARCHAR(64) NOT NULL PRIMARY KEY,
  portfolio   VARCHAR(64) NOT NULL,
  symbol      VARCHAR(64) NOT NULL,
  side        VARCHAR(4)  NOT NULL,              -- BUY or SELL
  quantity    VARCHAR(40) NOT NULL,              -- > 0
  price       VARCHAR(40) NOT NULL,
  currency    VARCHAR(8)  NOT NULL,
  at          VARCHAR(40) NOT NULL,
  venue       VARCHAR(64),                       -- optional, as are the rest
  order_id    VARCHAR(64),
  signal_id   VARCHAR(64),
  strategy    VARCHAR(64),
  fee         VARCHAR(40)                        -- in `currency`, positive when paid
);
CREATE INDEX IF NOT EXISTS fills_at ON fills (at);

CREATE TABLE IF NOT EXISTS orders (
  order_id        VARCHAR(64) NOT NULL PRIMARY KEY,
  portfolio       VARCHAR(64) NOT NULL,
  symbol          VARCHAR(64) NOT NULL,
  side            VARCHAR(4)  NOT NULL,          -- BUY or SELL
  quantity        VARCHAR(40) NOT NULL,          -- > 0
  filled_quantity VARCHAR(40) NOT NULL,          -- >= 0
  status          VARCHAR(32) NOT NULL,          -- new, partially_filled, filled, canceled, rejected, expired, or a venue's word for it
  submitted_at    VARCHAR(40) NOT NULL,
  venue           VARCHAR(64),                   -- optional, as are the rest
  signal_id       VARCHAR(64),
  limit_price     VARCHAR(40)
);
CREATE INDEX IF NOT EXISTS orders_submitted_at ON orders (submitted_at);

CREATE TABLE IF NOT EXISTS signals (
  signal_id       VARCHAR(64) NOT NULL PRIMARY KEY,
  strategy        VARCHAR(64) NOT NULL,
  portfolio       VARCHAR(64) NOT NULL,
  symbol          VARCHAR(64) NOT NULL,
  target_quantity VARCHAR(40) NOT NULL,          -- signed
  at              VARCHAR(40) NOT NULL,
  confidence      VARCHAR(40)                    -- optional: ratio 0 to 1
);
CREATE INDEX IF NOT EXISTS signals_at ON signals (at);

CREATE TABLE IF NOT EXISTS accounts (
  portfolio   VARCHAR(64) NOT NULL,
  currency    VARCHAR(8)  NOT NULL,
  cash        VARCHAR(40) NOT NULL,
  equity      VARCHAR(40),                       -- optional: the venue's own net asset value, in `currency`
  PRIMARY KEY (portfolio, currency)
);

CREATE TABLE IF NOT EXISTS strategy_returns (
  strategy     VARCHAR(64) NOT NULL,
  sample       VARCHAR(8)  NOT NULL,             -- live or backtest
  at           VARCHAR(40) NOT NULL,             -- end of the period
  return_ratio VARCHAR(40) NOT NULL,             -- simple return of the period, 0.01 is 1 %
  PRIMARY KEY (strategy, sample, at)
);
