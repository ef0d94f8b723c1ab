-- Tokens with which clients log in again (XEP-0484). A token itself is not stored: it is computed from the row and a secret.
CREATE TABLE account_tokens (
    owner      TEXT NOT NULL,
    client     BYTEA NOT NULL, -- which of the owner's clients, as a keyed hash
    slot       BIGINT NOT NULL, -- 0: in use, 1: handed out and not used yet
    mechanism  TEXT NOT NULL,
    nonce      BYTEA NOT NULL,
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    count      BIGINT NOT NULL, -- highest that a client has sent
    PRIMARY KEY (owner, client, slot)
);
