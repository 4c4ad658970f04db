-- What version 2 of the catalogue adds to version 1.
-- What was done, in order. Each hash is of the record and of the hash before it; the fact `log` has the last. People are
-- in it by their numbers, which are never used again: with the removal of a person the name is gone from here, too.
CREATE TABLE log (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    change TEXT NOT NULL,
    command TEXT NOT NULL,
    count INTEGER NOT NULL,
    templates TEXT NOT NULL,
    subjects TEXT NOT NULL,
    program TEXT NOT NULL,
    contract_id TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
-- Segments of the model that the gallery migrates to, which the facts beginning with `next_` describe. Nobody searches
-- them. Ids grow within each.
CREATE TABLE staged (number INTEGER PRIMARY KEY, first INTEGER NOT NULL, rows INTEGER NOT NULL) STRICT;
