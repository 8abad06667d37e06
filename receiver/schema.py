"""The receiver's tables. SQLite's dialect, held so that PostgreSQL takes it with little change.

Times are whole microseconds since 1970, UTC, in columns that end in `_us`; JSON is text.
"""

from __future__ import annotations

from deskwatch.store import Migration

MIGRATIONS = (
    Migration(
        1,
        (
            # Every accepted body, byte for byte. `accepted` waits for the worker.
            """CREATE TABLE journal (
                entry_id INTEGER PRIMARY KEY,
                received_at_us INTEGER NOT NULL,
                correlation_id TEXT NOT NULL,
                kind TEXT NOT NULL CHECK (kind IN ('group', 'unusable', 'oversize')),
                notification_key TEXT NOT NULL DEFAULT '',
                body BLOB NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('accepted', 'processed', 'failed')),
                outcome TEXT NOT NULL DEFAULT '',
                detail TEXT NOT NULL DEFAULT ''
            )""",
            "CREATE INDEX journal_accepted ON journal (entry_id) WHERE state = 'accepted'",
            "CREATE INDEX journal_keys ON journal (notification_key, received_at_us) WHERE notification_key <> ''",
            # One firing-to-resolved life of one identity.
            """CREATE TABLE episodes (
                episode_id TEXT PRIMARY KEY,
                identity TEXT NOT NULL,
                group_key TEXT NOT NULL,
                alert_name TEXT NOT NULL,
                severity TEXT NOT NULL,
                labels TEXT NOT NULL,
                annotations TEXT NOT NULL,
                generator_url TEXT NOT NULL,
                external_url TEXT NOT NULL,
                rule_without_data TEXT NOT NULL,
                direct_only INTEGER NOT NULL,
                starts_at_us INTEGER NOT NULL,
                last_starts_at_us INTEGER NOT NULL,
                opened_at_us INTEGER NOT NULL,
                seen_at_us INTEGER NOT NULL,
                said_at_us INTEGER NOT NULL,
                resolve_pending_us INTEGER,
                resolved_at_us INTEGER,
                closed_at_us INTEGER
            )""",
            "CREATE UNIQUE INDEX episodes_open ON episodes (identity) WHERE resolved_at_us IS NULL",
            "CREATE INDEX episodes_identity ON episodes (identity, starts_at_us)",
            "CREATE INDEX episodes_opened ON episodes (opened_at_us)",
            "CREATE INDEX episodes_open_since ON episodes (opened_at_us) WHERE resolved_at_us IS NULL",
            "CREATE INDEX episodes_no_data ON episodes (rule_without_data) WHERE rule_without_data <> ''",
            # A firing that may be a late copy from before the resolve: it opens an episode unless it is resolved meanwhile.
            """CREATE TABLE held_firings (
                identity TEXT PRIMARY KEY,
                entry_id INTEGER NOT NULL REFERENCES journal (entry_id),
                due_at_us INTEGER NOT NULL
            )""",
            """CREATE TABLE deliveries (
                delivery_id INTEGER PRIMARY KEY,
                channel TEXT NOT NULL,
                dedup_key TEXT NOT NULL,
                kind TEXT NOT NULL,
                priority TEXT NOT NULL,
                urgency INTEGER NOT NULL,
                title TEXT NOT NULL,
                correlation_id TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
                attempts INTEGER NOT NULL DEFAULT 0,
                attempts_before_replay INTEGER NOT NULL DEFAULT 0,
                attempts_limit INTEGER NOT NULL,
                created_at_us INTEGER NOT NULL,
                next_attempt_at_us INTEGER NOT NULL,
                finished_at_us INTEGER,
                reference TEXT NOT NULL DEFAULT '',
                reason TEXT NOT NULL DEFAULT '',
                error TEXT NOT NULL DEFAULT '',
                message BLOB NOT NULL  -- last: the columns before it are read without it
            )""",
            "CREATE INDEX deliveries_order ON deliveries (channel, dedup_key, delivery_id) WHERE state = 'pending'",
            """CREATE INDEX deliveries_due ON deliveries (channel, urgency, delivery_id, next_attempt_at_us)
               WHERE state = 'pending'""",
            "CREATE INDEX deliveries_later ON deliveries (channel, next_attempt_at_us) WHERE state = 'pending'",
            "CREATE INDEX deliveries_dead ON deliveries (channel) WHERE state = 'dead'",
            "CREATE INDEX deliveries_notices ON deliveries (created_at_us) WHERE kind = 'notice'",
            """CREATE TABLE runs (
                run_id INTEGER PRIMARY KEY,
                episode_id TEXT NOT NULL REFERENCES episodes (episode_id),
                identity TEXT NOT NULL,
                hook TEXT NOT NULL,
                occasion TEXT NOT NULL,
                mode TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('refused', 'awaiting_approval', 'queued', 'started', 'succeeded', 'failed',
                    'timed_out', 'rejected', 'unresolved', 'settled')),
                detail TEXT NOT NULL DEFAULT '',
                correlation_id TEXT NOT NULL,
                created_at_us INTEGER NOT NULL,
                started_at_us INTEGER,
                finished_at_us INTEGER
            )""",
            "CREATE UNIQUE INDEX runs_once ON runs (episode_id, hook, occasion)",
            "CREATE INDEX runs_state ON runs (state, run_id)",
            "CREATE INDEX runs_history ON runs (hook, started_at_us)",
            # Append-only: what was about to be done and what came of it.
            """CREATE TABLE ledger (
                sequence INTEGER PRIMARY KEY,
                at_us INTEGER NOT NULL,
                subject TEXT NOT NULL CHECK (subject IN ('delivery', 'run')),
                subject_id INTEGER NOT NULL,
                event TEXT NOT NULL CHECK (event IN ('intent', 'outcome', 'decision')),
                attempt INTEGER NOT NULL,
                outcome TEXT NOT NULL DEFAULT '',
                detail TEXT NOT NULL DEFAULT ''
            )""",
            "CREATE INDEX ledger_subject ON ledger (subject, subject_id)",
        ),
    ),
)
