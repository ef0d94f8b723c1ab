CREATE TABLE vcard (
	owner TEXT NOT NULL PRIMARY KEY,
	photo TEXT NOT NULL, -- SHA-1 of the image, empty when there is none
	card  TEXT NOT NULL
);

-- Who can be found by a search, under folded names.
CREATE TABLE vcard_directory (
	owner        TEXT  NOT NULL PRIMARY KEY,
	domain       TEXT  NOT NULL,
	given        TEXT  NOT NULL,
	family       TEXT  NOT NULL,
	nickname     TEXT  NOT NULL,
	email        TEXT  NOT NULL,
	given_key    BYTEA NOT NULL,
	family_key   BYTEA NOT NULL,
	nickname_key BYTEA NOT NULL,
	email_key    BYTEA NOT NULL
);
CREATE INDEX vcard_directory_given ON vcard_directory (domain, given_key);
CREATE INDEX vcard_directory_family ON vcard_directory (domain, family_key);
CREATE INDEX vcard_directory_nickname ON vcard_directory (domain, nickname_key);
CREATE INDEX vcard_directory_email ON vcard_directory (domain, email_key);
