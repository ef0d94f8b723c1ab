CREATE TABLE private (
	owner   TEXT NOT NULL,
	space   TEXT NOT NULL,
	name    TEXT NOT NULL,
	content TEXT NOT NULL,
	PRIMARY KEY (owner, space, name)
);
