-- The tables the `database` source reads where the configuration gives no SELECT of its own. Create those you fill:
-- `sqlite3 trading.db < schema.sql`. Plain SQL for SQLite, PostgreSQL and MariaDB (MySQL: without IF NOT EXISTS in the indexes).
--
-- Money and quantities are decimal text, because SQLite keeps a NUMERIC as a float; elsewhere NUMERIC is as good.
-- Times are ISO 8601 in UTC ('2014-11-03T14:15:00Z'), one format per table: they sort as text. Types of the database's own do as
-- well; a time without a zone is one of the source's `time_zone`. A UUID, an enumeration or a whole number is as good as text.
-- More columns do no harm; a column may be missing, or NULL, where its comment says optional.

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
  unrealized_pnl VARCHAR(40),                    -- optional: the venue's own, in `currency`
  PRIMARY KEY (portfolio, symbol)
);

CREATE TABLE IF NOT EXISTS prices (
  symbol      VARCHAR(64) NOT NULL PRIMARY KEY,
  price       VARCHAR(40) NOT NULL,              -- latest mark of one unit
  currency    VARCHAR(8)  NOT NULL,
  at          VARCHAR(40) NOT NULL
);

CREATE TABLE IF NOT EXISTS latest_quotes (
  symbol          VARCHAR(64) NOT NULL,
  currency        VARCHAR(8)  NOT NULL,
  venue           VARCHAR(64) NOT NULL,
  at              VARCHAR(40) NOT NULL,
  bid             VARCHAR(40),                   -- NULL where nobody bids; the column itself must be there, as must ask
  ask             VARCHAR(40),
  bid_quantity    VARCHAR(40),                   -- optional, as are the rest
  ask_quantity    VARCHAR(40),
  depth_levels    INTEGER,                       -- best levels of each side the depth adds up, 0 for no depth
  bid_depth_value VARCHAR(40),                   -- price x quantity of those levels, in `currency`
  ask_depth_value VARCHAR(40),
  PRIMARY KEY (symbol, venue)
);

CREATE TABLE IF NOT EXISTS daily_closes (
  symbol      VARCHAR(64) NOT NULL,
  day         VARCHAR(10) NOT NULL,              -- '2014-11-03'; only days that have ended count
  close       VARCHAR(40) NOT NULL,              -- > 0, adjusted for splits, and for dividends where returns should hold them
  currency    VARCHAR(8)  NOT NULL,
  PRIMARY KEY (symbol, day)
);
CREATE INDEX IF NOT EXISTS daily_closes_day ON daily_closes (day);

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
  fee         VARCHAR(40),                       -- in `currency`, positive when paid
  realized_pnl VARCHAR(40)                       -- the venue's own, in `currency`, before the fee
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
  limit_price     VARCHAR(40),
  average_price   VARCHAR(40),                   -- of what is filled
  updated_at      VARCHAR(40),
  client_order_id VARCHAR(64),
  order_type      VARCHAR(32)
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
  buying_power       VARCHAR(40),                -- optional, as are the rest; in `currency`
  initial_margin     VARCHAR(40),
  maintenance_margin VARCHAR(40),
  daily_pnl          VARCHAR(40),                -- the venue's own, positive is a gain
  realized_pnl       VARCHAR(40),
  unrealized_pnl     VARCHAR(40),
  trading_blocked    VARCHAR(5),                 -- true or false: the venue takes no orders
  PRIMARY KEY (portfolio, currency)
);

CREATE TABLE IF NOT EXISTS strategy_returns (
  strategy     VARCHAR(64) NOT NULL,
  sample       VARCHAR(8)  NOT NULL,             -- live or backtest
  at           VARCHAR(40) NOT NULL,             -- end of the period
  return_ratio VARCHAR(40) NOT NULL,             -- simple return of the period, 0.01 is 1 %
  PRIMARY KEY (strategy, sample, at)
);

CREATE TABLE IF NOT EXISTS market_hours (        -- whether a market is open now, and when it next opens and closes
  calendar    VARCHAR(64) NOT NULL,
  opens_at    VARCHAR(40) NOT NULL,
  closes_at   VARCHAR(40) NOT NULL,
  PRIMARY KEY (calendar, opens_at)
);

CREATE TABLE IF NOT EXISTS symbol_aliases (      -- what a source calls a symbol, and what the desk calls it
  source       VARCHAR(64) NOT NULL,             -- name of the source in the configuration
  venue_symbol VARCHAR(64) NOT NULL,
  symbol       VARCHAR(64) NOT NULL,
  PRIMARY KEY (source, venue_symbol)
);
