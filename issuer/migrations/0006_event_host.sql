-- A host's newest events, however many others there are. Most events of a large fleet are about hosts, but those that
-- aren't need no place in it.
CREATE INDEX event_host ON event (host, id) WHERE host IS NOT NULL;
