-- What operators decided while the server ran.
CREATE TABLE settings (
    node       TEXT NOT NULL, -- name of the node that it is for, '' for all
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (node, name)
);
