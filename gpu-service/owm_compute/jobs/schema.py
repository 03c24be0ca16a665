"""The tables of the journal."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  id TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  kind TEXT NOT NULL,
  submission TEXT NOT NULL,      -- the request without its token
  token TEXT,                    -- NULL as soon as the edge has the result
  idempotency_key TEXT NOT NULL UNIQUE,
  body_sha256 TEXT NOT NULL,
  state TEXT NOT NULL,
  run INTEGER NOT NULL DEFAULT 0, -- how often this attempt was started here; fences a run that was given up
  seq INTEGER NOT NULL DEFAULT 0,
  reported_seq INTEGER NOT NULL DEFAULT 0,
  progress TEXT,
  result TEXT,
  error TEXT,
  delivered INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL,
  started_at TEXT,
  ended_at TEXT,
  PRIMARY KEY (id, attempt)
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, created_at);
CREATE INDEX IF NOT EXISTS jobs_undelivered ON jobs (delivered, state);
CREATE TABLE IF NOT EXISTS events (
  id TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  ts TEXT NOT NULL,
  type TEXT NOT NULL,
  data TEXT NOT NULL,
  PRIMARY KEY (id, attempt, seq)
) WITHOUT ROWID;
"""
