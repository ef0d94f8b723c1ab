-- Whose archives there are. In the tables below an owner is a number, and whom a message is from, or to, is another: keys
-- that are short and of one kind make up for most of what it costs to keep a message.
CREATE TABLE archive_owner (
	owner  TEXT   NOT NULL PRIMARY KEY,
	number BIGINT NOT NULL, -- drawn at random
	last   BIGINT NOT NULL, -- the position that was given last
	stamp  BIGINT NOT NULL  -- the latest of the stamps
);
CREATE UNIQUE INDEX archive_owner_by_number ON archive_owner (number);

-- The messages of each account, in the order in which they were committed.
CREATE TABLE archive (
	owner    BIGINT NOT NULL, -- the number of the owner
	position BIGINT NOT NULL, -- grows within an owner; given under the lock of the owner's row above
	id       BYTEA  NOT NULL, -- 16 bytes that derive from the stanza's key: what clients know
	stamp    BIGINT NOT NULL, -- when it came
	peer     BIGINT NOT NULL, -- a hash of the bare JID of whom it is from, or to
	resource TEXT   NOT NULL, -- of the peer, empty when there is none
	message  TEXT   NOT NULL, -- the id that its sender gave it
	stanza   TEXT   NOT NULL,
	PRIMARY KEY (owner, position)
);
CREATE UNIQUE INDEX archive_by_id ON archive (owner, id);
-- The sum keeps planners from taking the primary key for what one peer has said.
CREATE INDEX archive_by_peer ON archive (owner, peer, (position + 0));

-- What is committed, and not yet in the table above, on SQLite (shelf.go).
CREATE TABLE archive_journal (
	writer  BIGINT NOT NULL, -- drawn at random, by each server when it starts
	number  BIGINT NOT NULL, -- grows
	entries BYTEA  NOT NULL,
	PRIMARY KEY (writer, number)
);

CREATE TABLE archive_prefs (
	owner    TEXT NOT NULL PRIMARY KEY,
	fallback TEXT NOT NULL, -- always, never or roster
	always   TEXT NOT NULL, -- JIDs, one a line
	never    TEXT NOT NULL
);
