CREATE TABLE blocking (
	owner   TEXT NOT NULL,
	blocked TEXT NOT NULL,
	PRIMARY KEY (owner, blocked)
);

-- What users have reported along with a block, for operators.
CREATE TABLE blocking_reports (
	owner    TEXT   NOT NULL, -- who reports
	position BIGINT NOT NULL,
	received BIGINT NOT NULL,
	blocked  TEXT   NOT NULL, -- who is reported
	reason   TEXT   NOT NULL,
	note     TEXT   NOT NULL,
	stanzas  TEXT   NOT NULL, -- JSON: [{"by":…,"id":…}]
	origin   BIGINT NOT NULL, -- 1: may be forwarded to the domain of who is reported
	others   BIGINT NOT NULL, -- 1: may be forwarded to third parties
	PRIMARY KEY (owner, position)
);
CREATE INDEX blocking_reports_by_time ON blocking_reports (received, owner, position);
