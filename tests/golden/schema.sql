CREATE TABLE api_key (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    name           TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    hash           BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at     INTEGER NOT NULL,
    last_used_at   INTEGER,
    last_used_addr TEXT,
    revoked_at     INTEGER
) STRICT;
CREATE TABLE backup_schedule (
    branch_id  TEXT PRIMARY KEY REFERENCES branch (id),
    entries    TEXT NOT NULL,
    done_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
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
CREATE INDEX bookmark_expiry ON bookmark (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX bookmark_hold ON bookmark (hold_id);
CREATE TRIGGER door_branch_changed AFTER UPDATE OF kind, state, is_protected, expires_at ON branch
    WHEN (OLD.kind, OLD.state, OLD.is_protected, OLD.expires_at) IS NOT (NEW.kind, NEW.state, NEW.is_protected, NEW.expires_at) BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) SELECT id FROM endpoint WHERE branch_id = NEW.id;
END;
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
CREATE INDEX branch_by_name ON branch (name);
CREATE UNIQUE INDEX branch_default ON branch (project_id) WHERE is_default = 1 AND state NOT IN ('deleted', 'deleting');
CREATE INDEX branch_deleted ON branch (recoverable_until) WHERE state = 'deleted';
CREATE INDEX branch_expiry ON branch (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX branch_hidden ON branch (kind) WHERE kind <> 'user';
CREATE INDEX branch_image ON branch (image_id);
CREATE UNIQUE INDEX branch_name ON branch (project_id, name) WHERE kind = 'user' AND state NOT IN ('deleted', 'deleting');
CREATE INDEX branch_parent ON branch (parent_id);
CREATE INDEX branch_project ON branch (project_id, updated_at, id);
CREATE TABLE branch_size (
    branch_id     TEXT PRIMARY KEY REFERENCES branch (id),
    logical_bytes INTEGER NOT NULL,
    own_bytes     INTEGER NOT NULL,
    history_bytes INTEGER NOT NULL,
    n_images      INTEGER NOT NULL,
    history_from  INTEGER,
    measured_at   INTEGER NOT NULL
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
CREATE TABLE door_change (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint_id TEXT NOT NULL UNIQUE
) STRICT;
CREATE TRIGGER door_endpoint_changed AFTER UPDATE OF branch_id, desired, park_sessions ON endpoint
    WHEN (OLD.branch_id, OLD.desired = 'deleted', OLD.park_sessions) IS NOT (NEW.branch_id, NEW.desired = 'deleted', NEW.park_sessions) BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) VALUES (NEW.id);
END;
CREATE TRIGGER door_endpoint_gone AFTER DELETE ON endpoint BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) VALUES (OLD.id);
END;
CREATE TRIGGER door_endpoint_made AFTER INSERT ON endpoint BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) VALUES (NEW.id);
END;
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
CREATE INDEX endpoint_branch ON endpoint (branch_id);
CREATE INDEX endpoint_metered ON endpoint (metered_until) WHERE metered_until IS NOT NULL;
CREATE INDEX endpoint_project ON endpoint (project_id, name);
CREATE UNIQUE INDEX endpoint_writer ON endpoint (branch_id) WHERE type = 'read_write' AND desired <> 'deleted';
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
CREATE TABLE instance (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
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
CREATE INDEX operation_closed ON operation (updated_at) WHERE status NOT IN ('scheduling', 'running');
CREATE INDEX operation_open ON operation (seq) WHERE status IN ('scheduling', 'running');
CREATE UNIQUE INDEX operation_project ON operation (project_id, created_at);
CREATE TRIGGER door_project_changed AFTER UPDATE OF settings ON project WHEN OLD.settings IS NOT NEW.settings BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) SELECT id FROM endpoint WHERE project_id = NEW.id;
END;
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
CREATE TABLE project_permission (
    id               TEXT PRIMARY KEY,
    project_id       TEXT NOT NULL REFERENCES project (id),
    granted_to_email TEXT NOT NULL CHECK (length(granted_to_email) BETWEEN 3 AND 256),
    granted_at       INTEGER NOT NULL,
    UNIQUE (project_id, granted_to_email)
) STRICT;
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
CREATE TRIGGER door_role_changed AFTER UPDATE OF branch_id, name, verifier, valid_until, no_login, state ON role
    WHEN (OLD.branch_id, OLD.name, OLD.verifier, OLD.valid_until, OLD.no_login, OLD.state = 'dropping')
        IS NOT (NEW.branch_id, NEW.name, NEW.verifier, NEW.valid_until, NEW.no_login, NEW.state = 'dropping') BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) SELECT id FROM endpoint WHERE branch_id IN (OLD.branch_id, NEW.branch_id);
END;
CREATE TRIGGER door_role_gone AFTER DELETE ON role BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) SELECT id FROM endpoint WHERE branch_id = OLD.branch_id;
END;
CREATE TRIGGER door_role_made AFTER INSERT ON role BEGIN
    INSERT OR REPLACE INTO door_change (endpoint_id) SELECT id FROM endpoint WHERE branch_id = NEW.branch_id;
END;
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
