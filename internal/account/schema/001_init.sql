CREATE TABLE accounts (
    owner      TEXT PRIMARY KEY, -- bare JID
    domain     TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    disabled   BOOLEAN NOT NULL
);
CREATE INDEX accounts_by_domain ON accounts (domain, owner);

-- What is stored of a password, for each hash function.
CREATE TABLE account_keys (
    owner      TEXT NOT NULL,
    hash       TEXT NOT NULL, -- the SASL mechanism, such as SCRAM-SHA-256
    iterations BIGINT NOT NULL,
    salt       BYTEA NOT NULL,
    stored     BYTEA NOT NULL,
    server     BYTEA NOT NULL,
    PRIMARY KEY (owner, hash)
);

-- Names of deleted accounts that cannot be taken again for a time.
CREATE TABLE account_tombstones (
    owner      TEXT PRIMARY KEY,
    deleted_at BIGINT NOT NULL
);
CREATE INDEX account_tombstones_by_time ON account_tombstones (deleted_at);

-- Random values that all nodes share.
CREATE TABLE secrets (
    name  TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);
