-- What each node wrote last to prove that it works on this database.
CREATE TABLE nodes (
    node      TEXT PRIMARY KEY, -- name
    proof     TEXT NOT NULL,
    proved_at BIGINT NOT NULL
);
