-- Whose archives there are. In the tables below an owner is a number, and whom a message is from, or to, is another, since
-- short keys make short indexes.
CREATE TABLE archive_owner (
	owner  TEXT   NOT NULL PRIMARY KEY,
	number BIGINT NOT NULL, -- drawn at random
	last   BIGINT NOT NULL, -- the position that was given last
	stamp  BIGINT NOT NULL  -- the latest of the stamps
);
CREATE UNIQUE INDEX archive_owner_by_number ON archive_owner (number);

-- The messages of each account, in the order in which they were committed: each row is a run of some that stand one after
-- the other (run.go). Positions are divided in spans of 64, and no run reaches past the end of one.
CREATE TABLE archive (
	owner    BIGINT NOT NULL, -- the number of the owner
	position BIGINT NOT NULL, -- of the first message; grows within an owner; given under the lock of the owner's row above
	stamp    BIGINT NOT NULL, -- when that came
	messages BYTEA  NOT NULL,
	PRIMARY KEY (owner, position)
);

-- What the ids of messages are made with (id.go).
CREATE TABLE archive_secret (
	number BIGINT NOT NULL PRIMARY KEY,
	secret BYTEA  NOT NULL
);

-- Where ids stand: which stanzas of a sender's session are in a run, the first and the last. No run that begins before has
-- a last one that is greater, so whether something can be there already is seen by the row with the greatest first one.
CREATE TABLE archive_id (
	owner    BIGINT NOT NULL,
	session  BIGINT NOT NULL, -- a hash
	first    BIGINT NOT NULL,
	position BIGINT NOT NULL, -- of the run
	last     BIGINT NOT NULL,
	PRIMARY KEY (owner, session, first, position)
)
--sqlite WITHOUT ROWID
;

-- In which spans there is something that is from a peer, or to it.
CREATE TABLE archive_peer (
	owner BIGINT NOT NULL,
	peer  BIGINT NOT NULL, -- a hash of the bare JID
	span  BIGINT NOT NULL,
	PRIMARY KEY (owner, peer, span)
)
--sqlite WITHOUT ROWID
;

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
