CREATE TABLE last_activity (
	owner  TEXT   NOT NULL PRIMARY KEY,
	ended  BIGINT NOT NULL,
	status TEXT   NOT NULL
);
