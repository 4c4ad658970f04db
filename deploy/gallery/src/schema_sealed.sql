-- What the catalogue of an encrypted gallery has besides. Names, sources, pictures and what is noted about the gallery
-- are sealed in it.
-- Keys of removed subjects, until the key store has deleted them.
CREATE TABLE doomed (key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
INSERT INTO facts VALUES ('sealed', 1);
