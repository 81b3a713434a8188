-- The last restore from a backup, if there was one.
CREATE TABLE recovery (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    began INTEGER NOT NULL,
    -- When every assigned host had reported, or was waited for no longer.
    ended INTEGER
) STRICT;
