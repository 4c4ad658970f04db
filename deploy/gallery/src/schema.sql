-- The catalogue of a gallery: what is enrolled. Rows of segments that are not named here do not exist.
CREATE TABLE facts (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
-- One row. Ids and numbers are never used again. `checksum` is the CRC-32 of this row, the facts and the segments.
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    generation INTEGER NOT NULL,
    next_template INTEGER NOT NULL,
    next_segment INTEGER NOT NULL,
    next_subject INTEGER NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (1, 0, 1, 1, 1, 0);
CREATE TABLE subjects (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
-- Tags are the bits of a number.
CREATE TABLE tags (bit INTEGER PRIMARY KEY CHECK (bit BETWEEN 0 AND 63), name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE templates (
    id INTEGER PRIMARY KEY,
    subject INTEGER REFERENCES subjects,
    camera INTEGER,
    taken INTEGER,
    tags INTEGER NOT NULL,
    source TEXT NOT NULL
) STRICT;
CREATE INDEX templates_of_subject ON templates (subject) WHERE subject IS NOT NULL;
-- Ids grow from row to row and, in order of `first`, from segment to segment; none of a segment is below its `first`.
CREATE TABLE segments (number INTEGER PRIMARY KEY, first INTEGER NOT NULL UNIQUE, rows INTEGER NOT NULL) STRICT;
-- Templates whose rows are still there, until compaction; `erased` once they are overwritten.
CREATE TABLE removed (template INTEGER PRIMARY KEY, erased INTEGER NOT NULL) STRICT;
