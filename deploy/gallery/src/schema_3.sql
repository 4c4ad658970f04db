-- What version 3 of the catalogue adds to version 2.
-- Who asked for what the log has, and a few words about it. Records of before have neither.
ALTER TABLE log ADD COLUMN who TEXT NOT NULL DEFAULT '';
ALTER TABLE log ADD COLUMN detail TEXT NOT NULL DEFAULT '';
-- When, in milliseconds since 1970; not known of templates of before.
ALTER TABLE templates ADD COLUMN enrolled INTEGER;
-- Small pictures of templates. They go with them, and so do matches.
CREATE TABLE pictures (template INTEGER PRIMARY KEY REFERENCES templates ON DELETE CASCADE, jpeg BLOB NOT NULL) STRICT;
-- What searches found lately, and what somebody said about it: `verdict`, and who it is instead.
CREATE TABLE matches (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    template INTEGER REFERENCES templates ON DELETE CASCADE,
    similarity REAL,
    accepted INTEGER,
    verdict TEXT,
    subject INTEGER REFERENCES subjects ON DELETE CASCADE
) STRICT;
CREATE INDEX matches_of_template ON matches (template) WHERE template IS NOT NULL;
CREATE INDEX matches_of_subject ON matches (subject) WHERE subject IS NOT NULL;
