-- Times are microseconds since 1970.  LSNs are 64-bit integers.  Ids are ours (see base/id.h).
-- branch, endpoint and image rows outlive their API face until the storage is released (state 'deleting').

CREATE TABLE instance (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- state deleted: nobody sees it; it can be recovered until recoverable_until, with the branches that have the same deleted_at.
CREATE TABLE project (
    id                        TEXT PRIMARY KEY,
    name                      TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    state                     TEXT NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'deleted', 'deleting')),
    pg_version                INTEGER NOT NULL,
    region_id                 TEXT NOT NULL,
    store_passwords           INTEGER NOT NULL DEFAULT 1,
    history_retention_seconds INTEGER NOT NULL,
    settings                  TEXT,
    default_endpoint_settings TEXT,
    deleted_at                INTEGER,
    recoverable_until         INTEGER,
    created_at                INTEGER NOT NULL,
    updated_at                INTEGER NOT NULL
) STRICT;
CREATE INDEX project_deleted ON project (recoverable_until) WHERE state = 'deleted';

-- Who was named as having access to a project.  There is one account, so it is kept and shown, and opens nothing.
CREATE TABLE project_permission (
    id               TEXT PRIMARY KEY,
    project_id       TEXT NOT NULL REFERENCES project (id),
    granted_to_email TEXT NOT NULL CHECK (length(granted_to_email) BETWEEN 3 AND 256),
    granted_at       INTEGER NOT NULL,
    UNIQUE (project_id, granted_to_email)
) STRICT;

-- A named line of history: (parent_id, parent_lsn) and its own WAL.
-- image_id: what its history begins with: what its volume is cloned from, or, once what lies before history_from has gone, one of
-- its own.  volume: none until the first start.
-- volume_id: names its volume, WAL directory and lock; a restore gives it a new one.
-- fork_tli, fork_lsn: where its own WAL begins: the first place at or after parent_lsn where a record can begin; known when its volume is made.
-- head_lsn: where its WAL ends; known only while it is cleanly suspended.
-- kind: what holds a place in history is a branch like any other, only that nobody sees it: snapshot (also one behind a bookmark
-- that holds), temporary (made for one operation or one compute, and gone after it).
-- state deleted: its name is free and nobody sees it; it can be recovered until recoverable_until and goes when nothing stands on it.
-- made_by: who took a snapshot; one made for a bookmark is shown as that bookmark alone.
-- restored_from: the snapshot it was made of; restored_as: the branch it is to replace, of a snapshot the one it is of; restore_status: restored, then finalized
-- when it has replaced that.
-- is_root: is treated as one without parent, whatever its history stands on (a restored root).
-- history_from: its own history is whole from this LSN on, where an image of it begins; NULL = from where it left its parent.
-- init_source: schema-only = what it is cloned from is emptied of its rows before anybody is let in; begins_lsn: where that was done, so
-- that nobody reaches what lies before; NULL = it is still to be done, or it keeps its parent's rows.
-- boot_id: of the boot of the machine in which it last ran without syncing (durability relaxed).
-- spec: the members that a client has set, as it set them, in one flat JSON object; so of endpoints, roles and databases too.
CREATE TABLE branch (
    id               TEXT PRIMARY KEY,
    project_id       TEXT NOT NULL REFERENCES project (id),
    name             TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    kind             TEXT NOT NULL DEFAULT 'user' CHECK (kind IN ('user', 'snapshot', 'temporary')),
    state            TEXT NOT NULL CHECK (state IN ('init', 'ready', 'damaged', 'deleted', 'deleting')),
    parent_id        TEXT REFERENCES branch (id),
    parent_lsn       INTEGER,
    parent_timestamp INTEGER,
    is_default       INTEGER NOT NULL DEFAULT 0,
    is_protected     INTEGER NOT NULL DEFAULT 0,
    is_root          INTEGER NOT NULL DEFAULT 0,
    init_source      TEXT CHECK (init_source = 'schema-only'),
    durability       TEXT NOT NULL DEFAULT 'full' CHECK (durability IN ('full', 'relaxed')),
    image_id         TEXT REFERENCES image (id),
    volume           TEXT NOT NULL DEFAULT 'none' CHECK (volume IN ('none', 'making', 'ready')),
    volume_id        TEXT NOT NULL UNIQUE,
    fork_tli         INTEGER,
    fork_lsn         INTEGER,
    tli              INTEGER,
    head_lsn         INTEGER,
    history_from     INTEGER,
    begins_lsn       INTEGER,
    boot_id          TEXT,
    annotations      TEXT,
    spec             TEXT,
    expires_at       INTEGER,
    ttl_seconds      INTEGER NOT NULL DEFAULT 0,
    last_reset_at    INTEGER,
    deleted_at       INTEGER,
    recoverable_until INTEGER,
    deletion_method  TEXT CHECK (deletion_method IN ('user', 'ttl')),
    made_by          TEXT CHECK (made_by IN ('user', 'schedule', 'bookmark')),
    restored_from    TEXT,
    restored_as      TEXT,
    restore_status   TEXT CHECK (restore_status IN ('restored', 'finalized')),
    state_changed_at INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX branch_name ON branch (project_id, name) WHERE kind = 'user' AND state NOT IN ('deleted', 'deleting');
CREATE UNIQUE INDEX branch_default ON branch (project_id) WHERE is_default = 1 AND state NOT IN ('deleted', 'deleting');
CREATE INDEX branch_hidden ON branch (kind) WHERE kind <> 'user';
CREATE INDEX branch_deleted ON branch (recoverable_until) WHERE state = 'deleted';
CREATE INDEX branch_expiry ON branch (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX branch_project ON branch (project_id, updated_at, id); -- the order of the list
CREATE INDEX branch_parent ON branch (parent_id);
CREATE INDEX branch_image ON branch (image_id);
CREATE INDEX branch_by_name ON branch (name);

-- A name for a place in a branch's history.  hold_id: the hidden branch that keeps the place; NULL = nothing keeps it.
CREATE TABLE bookmark (
    branch_id  TEXT NOT NULL REFERENCES branch (id),
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
    lsn        INTEGER NOT NULL,
    timestamp  INTEGER,
    hold_id    TEXT REFERENCES branch (id),
    expires_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (branch_id, name)
) STRICT;
CREATE INDEX bookmark_hold ON bookmark (hold_id);
CREATE INDEX bookmark_expiry ON bookmark (expires_at) WHERE expires_at IS NOT NULL;

-- When snapshots of a branch are taken by themselves.  entries: a JSON array, as clients set it.  done_until: no entry is due at
-- or before this time any more.
CREATE TABLE backup_schedule (
    branch_id  TEXT PRIMARY KEY REFERENCES branch (id),
    entries    TEXT NOT NULL,
    done_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How much space a branch took when it was last measured.
CREATE TABLE branch_size (
    branch_id     TEXT PRIMARY KEY REFERENCES branch (id),
    logical_bytes INTEGER NOT NULL,
    own_bytes     INTEGER NOT NULL,
    history_bytes INTEGER NOT NULL,
    n_images      INTEGER NOT NULL,
    history_from  INTEGER,
    measured_at   INTEGER NOT NULL
) STRICT;

-- What was used, by hours; what is older than some days, by days.  It outlives what it is of.  branch_id: of a hidden branch the one that
-- it was made of.  active_us, cu_us: of computes, the second times their compute units.  data_bytes, history_bytes: byte-hours.
CREATE TABLE usage (
    project_id    TEXT NOT NULL,
    branch_id     TEXT NOT NULL,
    begins_at     INTEGER NOT NULL,
    is_root       INTEGER NOT NULL,
    active_us     INTEGER NOT NULL DEFAULT 0,
    cu_us         INTEGER NOT NULL DEFAULT 0,
    data_bytes    INTEGER NOT NULL DEFAULT 0,
    history_bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (project_id, branch_id, begins_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_age ON usage (begins_at);

-- An immutable volume, valid from lsn on.  branch_id NULL: the template cluster of a Postgres version.
-- taking: the row is the hold, nothing certain on disk; snapped: the data is there and lsn is fixed, its WAL [redo_lsn, lsn]
-- is still to be copied beside it; ready: complete; trash: may be removed.
-- until_lsn: nothing anybody did lies between lsn and here, so that the image is the state of all of it.
-- created_at: a time at which lsn had been reached, so that nothing that was committed after it is in the image.
-- stamp_us: the largest stamp of a commit or abort before lsn in its whole line; 0 = there is none, -1 = not read yet, -2 = what says it
-- cannot be read.
CREATE TABLE image (
    id         TEXT PRIMARY KEY,
    branch_id  TEXT REFERENCES branch (id),
    pg_version INTEGER NOT NULL,
    method     TEXT NOT NULL CHECK (method IN ('cold', 'snapshot', 'backup')),
    state      TEXT NOT NULL CHECK (state IN ('taking', 'snapped', 'ready', 'trash')),
    tli        INTEGER,
    redo_lsn   INTEGER,
    lsn        INTEGER,
    until_lsn  INTEGER,
    stamp_us   INTEGER NOT NULL DEFAULT -1,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX image_branch ON image (branch_id, lsn);
CREATE INDEX image_unstamped ON image (created_at) WHERE stamp_us = -1;

-- desired is written by intents, observed by the compute's one mutator.
-- metered_until: up to when the running compute is in usage; NULL while there is none.
-- archive_*: what its archiver last said; archive_failed_wal is NULL while it works.
CREATE TABLE endpoint (
    id                      TEXT PRIMARY KEY,
    project_id              TEXT NOT NULL REFERENCES project (id),
    branch_id               TEXT NOT NULL REFERENCES branch (id),
    type                    TEXT NOT NULL CHECK (type IN ('read_write', 'read_only')),
    name                    TEXT,
    desired                 TEXT NOT NULL DEFAULT 'stopped' CHECK (desired IN ('stopped', 'running', 'deleted')),
    observed                TEXT NOT NULL DEFAULT 'STOPPED',
    disabled                INTEGER NOT NULL DEFAULT 0,
    suspend_timeout_seconds INTEGER NOT NULL DEFAULT 0,
    park_sessions           INTEGER NOT NULL DEFAULT 0,
    min_cu                  REAL NOT NULL,
    max_cu                  REAL NOT NULL,
    pg_settings             TEXT,
    preload_libraries       TEXT,
    spec                    TEXT,
    generation              INTEGER NOT NULL DEFAULT 0,
    pid                     INTEGER NOT NULL DEFAULT 0,
    pid_start               INTEGER NOT NULL DEFAULT 0,
    boot_id                 TEXT,
    last_error              TEXT,
    archive_failed_wal      TEXT,
    archive_failed_at       INTEGER,
    archive_failed_count    INTEGER NOT NULL DEFAULT 0,
    archive_backlog         INTEGER NOT NULL DEFAULT 0,
    last_active             INTEGER,
    started_at              INTEGER,
    suspended_at            INTEGER,
    metered_until           INTEGER,
    created_at              INTEGER NOT NULL,
    updated_at              INTEGER NOT NULL
) STRICT;
CREATE INDEX endpoint_metered ON endpoint (metered_until) WHERE metered_until IS NOT NULL;
CREATE UNIQUE INDEX endpoint_writer ON endpoint (branch_id) WHERE type = 'read_write' AND desired <> 'deleted';
CREATE INDEX endpoint_branch ON endpoint (branch_id);
CREATE INDEX endpoint_project ON endpoint (project_id, name);

-- sealed: the password, encrypted with the key of <data>/secret.key; NULL when it is not stored, or not known.
-- verifier: what Postgres keeps of it, or will once the row is applied, encrypted likewise; NULL when there is none that one could log in with.
-- valid_until: from when on the password is not valid any more; NULL = never.
-- creating: wanted as the row says, made or altered at the next start of the branch's compute (or by the operation that asked
-- for it).  dropping: its name is free again at once; the row has one that nobody can ask for.  inherited: is there if the moment
-- that the branch began at had it; the first start finds out, and gives a role the password of the verifier.
-- made_name: what it is called in Postgres while that differs from name.
CREATE TABLE role (
    branch_id   TEXT NOT NULL REFERENCES branch (id),
    name        TEXT NOT NULL CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 63),
    sealed      BLOB,
    verifier    BLOB,
    valid_until INTEGER,
    no_login    INTEGER NOT NULL DEFAULT 0,
    made_name   TEXT,
    spec        TEXT,
    state       TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'inherited', 'dropping')),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (branch_id, name)
) STRICT;

CREATE TABLE database (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    branch_id  TEXT NOT NULL REFERENCES branch (id),
    name       TEXT NOT NULL CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 63),
    made_name  TEXT,
    owner_name TEXT NOT NULL,
    spec       TEXT,
    state      TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'inherited', 'dropping')),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (branch_id, name)
) STRICT;
-- Ids of eight digits, as clients know them; never used again.
INSERT INTO sqlite_sequence (name, seq) VALUES ('database', 10000000);

-- As roles and databases; version and schema are those wanted, or, once it is ready, those that are.
CREATE TABLE extension (
    database_id INTEGER NOT NULL REFERENCES database (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    version     TEXT,
    schema      TEXT,
    state       TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'inherited', 'dropping')),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (database_id, name)
) STRICT, WITHOUT ROWID;

-- The job queue and its history.  No foreign keys: an operation stays readable after what it worked on is gone.
CREATE TABLE operation (
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    id                TEXT NOT NULL UNIQUE,
    project_id        TEXT NOT NULL,
    branch_id         TEXT,
    endpoint_id       TEXT,
    action            TEXT NOT NULL,
    status            TEXT NOT NULL CHECK (status IN ('scheduling', 'running', 'finished', 'failed', 'cancelled', 'skipped')),
    args              TEXT,
    error             TEXT,
    failures_count    INTEGER NOT NULL DEFAULT 0,
    retry_at          INTEGER,
    total_duration_ms INTEGER NOT NULL DEFAULT 0,
    phases            TEXT, -- of a start: JSON, milliseconds by phase
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL
) STRICT;
-- The list's cursor is created_at alone: no two of a project may share it.
CREATE UNIQUE INDEX operation_project ON operation (project_id, created_at);
CREATE INDEX operation_open ON operation (seq) WHERE status IN ('scheduling', 'running');
CREATE INDEX operation_closed ON operation (updated_at) WHERE status NOT IN ('scheduling', 'running');

CREATE TABLE api_key (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    name           TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    hash           BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at     INTEGER NOT NULL,
    last_used_at   INTEGER,
    last_used_addr TEXT,
    revoked_at     INTEGER
) STRICT;

-- Answers to POSTs with an Idempotency-Key.  digest: of the request; status 0, answer NULL: carried out, and the answer was lost.
-- answer: sealed with the key of <data>/secret.key.
CREATE TABLE replay (
    account    TEXT NOT NULL,
    key        TEXT NOT NULL,
    digest     TEXT NOT NULL,
    status     INTEGER NOT NULL,
    answer     TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX replay_age ON replay (created_at);

-- What mere-proxy is to be told of: endpoints that came, went, or have other roles, allowed addresses or parking than before.  Whatever
-- changes one of these, and for whatever reason, the triggers note it in the same transaction; seq says what is newer.
CREATE TABLE door_change (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint_id TEXT NOT NULL UNIQUE
) STRICT;
CREATE TRIGGER door_endpoint_made AFTER INSERT ON endpoint BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) VALUES (NEW.id);
END;
CREATE TRIGGER door_endpoint_gone AFTER DELETE ON endpoint BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) VALUES (OLD.id);
END;
CREATE TRIGGER door_endpoint_changed AFTER UPDATE OF branch_id, desired, park_sessions ON endpoint
    WHEN (OLD.branch_id, OLD.desired = 'deleted', OLD.park_sessions) IS NOT (NEW.branch_id, NEW.desired = 'deleted', NEW.park_sessions) BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) VALUES (NEW.id);
END;
CREATE TRIGGER door_branch_changed AFTER UPDATE OF kind, state, is_protected, expires_at ON branch
    WHEN (OLD.kind, OLD.state, OLD.is_protected, OLD.expires_at) IS NOT (NEW.kind, NEW.state, NEW.is_protected, NEW.expires_at) BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) SELECT id FROM endpoint WHERE branch_id = NEW.id;
END;
CREATE TRIGGER door_project_changed AFTER UPDATE OF settings ON project WHEN OLD.settings IS NOT NEW.settings BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) SELECT id FROM endpoint WHERE project_id = NEW.id;
END;
CREATE TRIGGER door_role_made AFTER INSERT ON role BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) SELECT id FROM endpoint WHERE branch_id = NEW.branch_id;
END;
CREATE TRIGGER door_role_gone AFTER DELETE ON role BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) SELECT id FROM endpoint WHERE branch_id = OLD.branch_id;
END;
CREATE TRIGGER door_role_changed AFTER UPDATE OF branch_id, name, verifier, valid_until, no_login, state ON role
    WHEN (OLD.branch_id, OLD.name, OLD.verifier, OLD.valid_until, OLD.no_login, OLD.state = 'dropping')
        IS NOT (NEW.branch_id, NEW.name, NEW.verifier, NEW.valid_until, NEW.no_login, NEW.state = 'dropping') BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) SELECT id FROM endpoint WHERE branch_id IN (OLD.branch_id, NEW.branch_id);
END;
