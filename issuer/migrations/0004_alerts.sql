-- Causes that somebody should know of. Open while `resolved` is NULL, and at most once of each class and subject.
-- AUTOINCREMENT: an id is never given twice, even after old alerts are removed.
CREATE TABLE alert (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    class TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- certwell.v1.Alert: what was last known of it.
    last BLOB NOT NULL,
    -- The earliest end of what is served there.
    ends INTEGER,
    opened INTEGER NOT NULL,
    -- When its escalation began.
    escalates INTEGER NOT NULL,
    -- How often it was raised: more than once when its cause came back within a short while.
    rounds INTEGER NOT NULL CHECK (rounds > 0),
    resolved INTEGER,
    acknowledged_at INTEGER,
    acknowledged_until INTEGER,
    acknowledged_by TEXT,
    acknowledged_note TEXT,
    -- What was acknowledged: 'warning' or 'page', and a JSON list of members.
    acknowledged_severity TEXT CHECK (acknowledged_severity IN ('warning', 'page')),
    acknowledged_members TEXT
) STRICT;
CREATE UNIQUE INDEX alert_open ON alert (class, subject) WHERE resolved IS NULL;

-- What a notifier has accepted of an alert: a row is written before the next message of it is sent.
CREATE TABLE alert_delivery (
    alert INTEGER NOT NULL REFERENCES alert (id) ON DELETE CASCADE,
    notifier TEXT NOT NULL,
    accepted INTEGER NOT NULL CHECK (accepted > 0),
    accepted_at INTEGER NOT NULL,
    -- What the last accepted message told.
    severity TEXT NOT NULL CHECK (severity IN ('warning', 'page')),
    members TEXT NOT NULL,
    round INTEGER NOT NULL,
    -- Whether it told that the alert is over.
    over INTEGER NOT NULL CHECK (over IN (0, 1)),
    PRIMARY KEY (alert, notifier)
) STRICT, WITHOUT ROWID;

-- When all was evaluated last: written each time, so that a store that can't be written is no complete evaluation.
CREATE TABLE evaluation (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at INTEGER NOT NULL
) STRICT;

-- Messages of what matches are held back; NULL matches everything.
CREATE TABLE silence (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT,
    certificate TEXT,
    class TEXT,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    silenced_by TEXT NOT NULL,
    note TEXT NOT NULL
) STRICT;
