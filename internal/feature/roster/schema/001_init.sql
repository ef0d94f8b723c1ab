CREATE TABLE roster (
	owner        TEXT    NOT NULL,
	contact      TEXT    NOT NULL,
	listed       BIGINT  NOT NULL,
	name         TEXT    NOT NULL,
	grouped      TEXT    NOT NULL,
	subscription BIGINT  NOT NULL,
	ask          BIGINT  NOT NULL,
	approved     BIGINT  NOT NULL,
	request      TEXT    NOT NULL,
	PRIMARY KEY (owner, contact)
);
CREATE TABLE roster_version (
	owner   TEXT   NOT NULL PRIMARY KEY,
	version BIGINT NOT NULL
);
