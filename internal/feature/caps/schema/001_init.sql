-- What sets of capabilities consist of. They are the same for everybody, so no account owns them.
CREATE TABLE caps (
	name TEXT   NOT NULL PRIMARY KEY, -- algorithm and verification string
	info TEXT   NOT NULL,             -- JSON
	used BIGINT NOT NULL              -- when it was last looked up, to a day
);
CREATE INDEX caps_by_use ON caps (used, name);
