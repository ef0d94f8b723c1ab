-- A message may be known by an id, and kept in the archive: then its text is empty here. Who is about to get it has a claim.
ALTER TABLE offline ADD COLUMN id BYTEA;
ALTER TABLE offline ADD COLUMN claim BYTEA;
CREATE UNIQUE INDEX offline_by_id ON offline (owner, id);
