-- What each host told last of all its certificates.
CREATE TABLE inventory (
    host TEXT PRIMARY KEY,
    -- When it was first told as it is.
    at INTEGER NOT NULL,
    told BLOB NOT NULL
) STRICT, WITHOUT ROWID;
