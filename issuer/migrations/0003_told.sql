-- The highest generation that was known once the host had told, since the last restore, what it has; NULL before.
ALTER TABLE observation ADD COLUMN told INTEGER CHECK (told IS NULL OR told >= 0);
