CREATE TABLE offline (
	owner    TEXT   NOT NULL,
	position BIGINT NOT NULL,
	received BIGINT NOT NULL,
	stanza   TEXT   NOT NULL,
	PRIMARY KEY (owner, position)
);
