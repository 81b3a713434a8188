-- The first schema. Times are milliseconds since the Unix epoch; columns named *_key are sealed.

-- "CWL1": tells this database from any other.
PRAGMA application_id = 1129794609;

-- The one row that `init` writes.
CREATE TABLE fleet (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL,
    lineage BLOB NOT NULL CHECK (length(lineage) = 16),
    lineage_started INTEGER NOT NULL,
    ca_certificate BLOB NOT NULL,
    ca_key BLOB NOT NULL
) STRICT;

-- The data key, once under each key that may open it.
CREATE TABLE wrapped_data_key (
    under TEXT PRIMARY KEY CHECK (under IN ('key-encryption-key', 'recovery-key')),
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
    directory TEXT PRIMARY KEY,
    account_key BLOB NOT NULL,
    url TEXT,
    thumbprint TEXT NOT NULL,
    -- JSON list: what the CA was told last.
    contact TEXT NOT NULL
) STRICT;

-- The highest generation ever issued of each certificate: it outlives the bundles, so that numbers never go back.
CREATE TABLE issued_generation (
    certificate TEXT PRIMARY KEY,
    highest INTEGER NOT NULL CHECK (highest > 0)
) STRICT;

-- At most one unfinished order of each certificate.
CREATE TABLE pending_order (
    certificate TEXT PRIMARY KEY,
    generation INTEGER NOT NULL CHECK (generation > 0),
    identifiers TEXT NOT NULL,
    authority TEXT NOT NULL,
    directory TEXT NOT NULL,
    private_key BLOB NOT NULL,
    csr BLOB NOT NULL,
    replaces BLOB,
    at INTEGER NOT NULL,
    url TEXT
) STRICT;

-- Of a certificate, not of its order: an intent that is dropped for another takes no failure with it.
CREATE TABLE order_failure (
    id INTEGER PRIMARY KEY,
    certificate TEXT NOT NULL,
    at INTEGER NOT NULL,
    validation INTEGER NOT NULL CHECK (validation IN (0, 1)),
    problem TEXT NOT NULL,
    retry_at INTEGER
) STRICT;
CREATE INDEX order_failure_certificate ON order_failure (certificate);

CREATE TABLE bundle (
    certificate TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation > 0),
    identifiers TEXT NOT NULL,
    authority TEXT NOT NULL,
    private_key BLOB NOT NULL,
    -- Each certificate's DER, leaf first, behind its length (4 bytes, big-endian).
    fullchain BLOB NOT NULL,
    root BLOB NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (certificate, generation)
) STRICT;

CREATE TABLE token (
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    host TEXT NOT NULL,
    expires INTEGER NOT NULL,
    used_by BLOB CHECK (used_by IS NULL OR length(used_by) = 32),
    void INTEGER NOT NULL CHECK (void IN (0, 1))
) STRICT;
CREATE INDEX token_host ON token (host);

CREATE TABLE host (
    name TEXT PRIMARY KEY,
    bound_key BLOB NOT NULL,
    identity BLOB NOT NULL,
    -- SHA-256 of a public key, not a secret.
    identity_key_hash BLOB NOT NULL CHECK (length(identity_key_hash) = 32),
    revoked INTEGER,
    retired INTEGER NOT NULL CHECK (retired IN (0, 1)),
    info BLOB NOT NULL,
    last_seen INTEGER
) STRICT;

CREATE TABLE observation (
    host TEXT NOT NULL,
    certificate TEXT NOT NULL,
    facts BLOB NOT NULL,
    outcome INTEGER NOT NULL,
    outcome_generation INTEGER NOT NULL,
    PRIMARY KEY (host, certificate)
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: an id is never given twice, even after old events are removed.
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    certificate TEXT,
    host TEXT,
    generation INTEGER NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX event_certificate ON event (certificate, id);

-- '' is the whole fleet.
CREATE TABLE paused (
    certificate TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
