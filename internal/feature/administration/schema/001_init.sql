CREATE TABLE administration_logins (
	owner TEXT   NOT NULL PRIMARY KEY,
	at    BIGINT NOT NULL
);

-- The message of the day; the owner is the domain.
CREATE TABLE administration_motd (
	owner TEXT   NOT NULL PRIMARY KEY,
	at    BIGINT NOT NULL,
	body  TEXT   NOT NULL
);

-- Who has got which.
CREATE TABLE administration_motd_seen (
	owner TEXT   NOT NULL PRIMARY KEY,
	at    BIGINT NOT NULL
);
