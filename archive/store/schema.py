"""The catalogue's tables, as migrations; beside each index the query it serves."""

from typing import Final

from sqlite_utils import Database, Migrations

migrations: Final = Migrations("prearc")

_FIRST: Final = (
    """CREATE TABLE association (
        id INTEGER PRIMARY KEY,           -- made by the receiver: microseconds and a random tail
        owner TEXT NOT NULL,              -- the process; its lock file tells whether it lives
        calling_ae_title TEXT NOT NULL,
        called_ae_title TEXT NOT NULL,
        peer_host TEXT NOT NULL,
        source TEXT NOT NULL,
        opened_at TEXT NOT NULL,
        is_open INTEGER NOT NULL
    ) STRICT""",
    # which associations does a dead process leave open
    "CREATE INDEX association_open ON association(owner) WHERE is_open = 1",
    """CREATE TABLE session (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project TEXT,                     -- NULL is Unassigned
        subject TEXT NOT NULL,
        label TEXT NOT NULL,
        status TEXT NOT NULL,
        is_archived INTEGER NOT NULL DEFAULT 0,
        timestamp TEXT NOT NULL,
        folder TEXT NOT NULL,
        path TEXT NOT NULL,               -- of its folder, relative to the root
        key_project TEXT NOT NULL,        -- as routed; relabel and move leave it, so late
        key_study TEXT NOT NULL,          -- instances follow the session
        key_label TEXT NOT NULL,
        accepts INTEGER NOT NULL DEFAULT 1, -- the one session that takes instances of this key
        autoarchive TEXT NOT NULL,
        autoarchive_due INTEGER NOT NULL DEFAULT 0,
        idle_seconds REAL NOT NULL,
        cap_seconds REAL NOT NULL,
        clock_since REAL,                 -- boot clock; NULL while an association is open
        cap_used_seconds REAL NOT NULL DEFAULT 0,
        boot_id TEXT NOT NULL,
        close_requested INTEGER NOT NULL DEFAULT 0,
        scan_count INTEGER NOT NULL DEFAULT 0,
        instance_count INTEGER NOT NULL DEFAULT 0,
        size_bytes INTEGER NOT NULL DEFAULT 0,
        received_first TEXT NOT NULL,
        received_last TEXT NOT NULL,
        claimed_by TEXT NOT NULL DEFAULT '',
        follows_id INTEGER,
        merged_into_id INTEGER,
        restore_status TEXT,
        restore_path TEXT
    ) STRICT""",
    # the session an instance goes to: unique open one per (project, study UID, session label)
    "CREATE UNIQUE INDEX session_accepting ON session(key_project, key_study, key_label) WHERE accepts = 1",
    # the latest session of a key, which a new one follows
    "CREATE INDEX session_key ON session(key_project, key_study, key_label)",
    # the archived session of a label
    "CREATE UNIQUE INDEX session_archived ON session(project, label) WHERE status = 'ARCHIVED' AND is_archived = 1",
    # the archived sessions of a subject
    "CREATE INDEX session_subject ON session(project, subject) WHERE status = 'ARCHIVED' AND is_archived = 1",
    # SESSION as project/timestamp/folder
    "CREATE UNIQUE INDEX session_folder ON session(IFNULL(project, ''), timestamp, folder)",
    # what was joined with or merged into a session, when that one goes elsewhere
    "CREATE INDEX session_merged ON session(merged_into_id) WHERE merged_into_id IS NOT NULL",
    # the daemon's look for idle sessions and for those to archive; status counts
    "CREATE INDEX session_status ON session(status)",
    """CREATE TABLE association_session (   -- open associations only
        session_id INTEGER NOT NULL,      -- columns in key order: quick_check of SQLite 3.40 errs otherwise
        association_id INTEGER NOT NULL,
        PRIMARY KEY (session_id, association_id)
    ) STRICT, WITHOUT ROWID""",
    # closing an association
    "CREATE INDEX association_session_association ON association_session(association_id)",
    """CREATE TABLE session_study (
        session_id INTEGER NOT NULL,
        study_instance_uid TEXT NOT NULL,
        facts TEXT NOT NULL,              -- JSON of archive.model.Study
        PRIMARY KEY (session_id, study_instance_uid)
    ) STRICT, WITHOUT ROWID""",
    # in which sessions is this study
    "CREATE INDEX session_study_uid ON session_study(study_instance_uid)",
    """CREATE TABLE scan (
        id INTEGER PRIMARY KEY,
        session_id INTEGER NOT NULL,
        scan TEXT NOT NULL,               -- folder name
        study_instance_uid TEXT NOT NULL,
        series_instance_uid TEXT NOT NULL,
        series_key TEXT NOT NULL,         -- series UID, or '#number' where there is none
        series_number TEXT NOT NULL,
        modality TEXT NOT NULL,
        description TEXT NOT NULL,
        instance_count INTEGER NOT NULL DEFAULT 0,
        size_bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    "CREATE UNIQUE INDEX scan_folder ON scan(session_id, scan)",
    # trace by series UID
    "CREATE INDEX scan_series_uid ON scan(series_instance_uid)",
    "CREATE UNIQUE INDEX scan_series ON scan(session_id, study_instance_uid, series_key)",
    """CREATE TABLE instance (
        id INTEGER PRIMARY KEY,
        session_id INTEGER NOT NULL,
        scan_id INTEGER NOT NULL,
        sop_instance_uid TEXT NOT NULL,
        sop_class_uid TEXT NOT NULL,
        transfer_syntax_uid TEXT NOT NULL,
        file_name TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        dataset_offset INTEGER NOT NULL,
        dataset_sha256 TEXT NOT NULL,
        prefix_sha256 TEXT NOT NULL,
        received_at TEXT NOT NULL,
        is_missing INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    # the files of a scan; no two rows for one file
    "CREATE UNIQUE INDEX instance_file ON instance(scan_id, file_name)",
    # the duplicate rule, trace
    "CREATE INDEX instance_uid ON instance(sop_instance_uid)",
    "CREATE TABLE rule_text (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT",
    """CREATE TABLE receipt (
        id INTEGER PRIMARY KEY,
        association_id INTEGER NOT NULL,
        sop_instance_uid TEXT NOT NULL,
        outcome TEXT NOT NULL,
        status INTEGER NOT NULL,
        received_at TEXT NOT NULL,
        session_id INTEGER,
        instance_id INTEGER,
        path TEXT,                        -- only where there is no instance: quarantined, or replaced
        dataset_sha256 TEXT,
        rule_id INTEGER,
        message TEXT NOT NULL
    ) STRICT""",
    # trace by UID
    "CREATE INDEX receipt_uid ON receipt(sop_instance_uid)",
    # today's instances in status
    "CREATE INDEX receipt_at ON receipt(received_at)",
    """CREATE TABLE finding (
        id INTEGER PRIMARY KEY, session_id INTEGER NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL,
        detail TEXT NOT NULL, hint TEXT NOT NULL, found_at TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX finding_session ON finding(session_id, kind)",
    """CREATE TABLE decision (
        id INTEGER PRIMARY KEY, session_id INTEGER NOT NULL, decided_at TEXT NOT NULL, actor TEXT NOT NULL,
        kinds TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX decision_session ON decision(session_id)",
    """CREATE TABLE session_log (
        id INTEGER PRIMARY KEY, session_id INTEGER NOT NULL, logged_at TEXT NOT NULL, text TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX session_log_session ON session_log(session_id)",
    """CREATE TABLE event (
        id INTEGER PRIMARY KEY AUTOINCREMENT, happened_at TEXT NOT NULL, actor TEXT NOT NULL,
        kind TEXT NOT NULL, session_id INTEGER, detail TEXT NOT NULL,
        previous_hash TEXT NOT NULL, hash TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX event_session ON event(session_id)",
    """CREATE TABLE intent (
        op TEXT PRIMARY KEY, kind TEXT NOT NULL, session_id INTEGER NOT NULL, target_id INTEGER,
        plan_digest TEXT NOT NULL, phase TEXT NOT NULL, owner TEXT NOT NULL, planned_at TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT""",
    # unfinished operations, at start and at each tick
    "CREATE INDEX intent_open ON intent(phase) WHERE phase NOT IN ('DONE', 'UNDONE')",
    """CREATE TABLE intent_item (
        op TEXT NOT NULL, n INTEGER NOT NULL, instance_id INTEGER, src TEXT NOT NULL, dst TEXT NOT NULL,
        dataset_sha256 TEXT NOT NULL, dataset_offset INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
        inode INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, action TEXT NOT NULL, is_copy INTEGER NOT NULL,
        PRIMARY KEY (op, n)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE survey_request (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        batch TEXT NOT NULL,              -- what was asked for at once
        session_id INTEGER NOT NULL,      -- the resource: the DICOM folder of one scan of one session
        scan TEXT NOT NULL,
        scan_id INTEGER NOT NULL,
        project TEXT NOT NULL,            -- as when it was asked for
        subject TEXT NOT NULL,
        label TEXT NOT NULL,
        path TEXT NOT NULL,               -- relative to the root
        status TEXT NOT NULL,
        claimed_by TEXT NOT NULL DEFAULT '',
        is_fresh INTEGER NOT NULL,        -- read every header, whatever is known
        reads_all INTEGER NOT NULL,       -- read all bytes and compare digests
        rate REAL NOT NULL,               -- files per second; 0: as the configuration says
        requested_at TEXT NOT NULL,
        requester TEXT NOT NULL,
        reason TEXT NOT NULL,
        surveyed_at TEXT,
        closed_at TEXT,                   -- NULL: open
        message TEXT NOT NULL DEFAULT ''
    ) STRICT""",
    # one open request a resource
    "CREATE UNIQUE INDEX survey_request_open ON survey_request(session_id, scan) WHERE closed_at IS NULL",
    # the newest request of each resource
    "CREATE INDEX survey_request_resource ON survey_request(session_id, scan, id)",
    # the next to survey, those of a dead worker, what status tells
    "CREATE INDEX survey_request_status ON survey_request(status)",
    # a project's requests; what a run of a schedule came to
    "CREATE INDEX survey_request_project ON survey_request(project)",
    "CREATE INDEX survey_request_batch ON survey_request(batch)",
    """CREATE TABLE survey_result (         -- of each time that a request was surveyed
        id INTEGER PRIMARY KEY, request_id INTEGER NOT NULL, surveyed_at TEXT NOT NULL, status TEXT NOT NULL,
        totals TEXT NOT NULL, report_id INTEGER, cleaned_at TEXT
    ) STRICT""",
    # the last result of a request
    "CREATE INDEX survey_result_request ON survey_result(request_id, id)",
    # whether a report is still used
    "CREATE INDEX survey_result_report ON survey_result(report_id)",
    """CREATE TABLE survey_report (         -- once, however often a resource is found as it was
        id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, body BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE survey_known (          -- what was read of the files of a resource, compressed
        session_id INTEGER NOT NULL, scan TEXT NOT NULL, template TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (session_id, scan)
    ) STRICT""",
    """CREATE TABLE survey_schedule (
        key TEXT PRIMARY KEY,             -- of the schedule as it is configured
        due_at TEXT NOT NULL, last_at TEXT, last_batch TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT ''
    ) STRICT""",
    """CREATE TABLE mitigation (
        op TEXT PRIMARY KEY,              -- of the journal
        request_id INTEGER NOT NULL, session_id INTEGER NOT NULL,
        applied_at TEXT NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL,
        backup TEXT NOT NULL,             -- folder below the root
        backup_bytes INTEGER NOT NULL,
        report TEXT NOT NULL,             -- XNAT's ResourceMitigationReport
        inverse TEXT NOT NULL,            -- what undoing it needs: names, rows, receipts
        undone_at TEXT, undone_by TEXT NOT NULL DEFAULT '', undo_op TEXT NOT NULL DEFAULT ''
    ) STRICT""",
    # what was done for a request
    "CREATE INDEX mitigation_request ON mitigation(request_id)",
    "CREATE TABLE archive_identity (id TEXT NOT NULL) STRICT",  # made with the first plan of a mitigation
    """CREATE TABLE verified (              -- when the bytes of a file were last compared with its row
        instance_id INTEGER PRIMARY KEY,
        verified_at TEXT NOT NULL,
        outcome TEXT NOT NULL
    ) STRICT""",
    # the file that was verified longest ago; the last run; how much was found whole lately
    "CREATE INDEX verified_at ON verified(verified_at, instance_id, outcome)",
    # what is damaged
    "CREATE INDEX verified_troubled ON verified(instance_id) WHERE outcome != 'OK'",
    # ids of instances are given away again
    """CREATE TRIGGER verified_gone AFTER DELETE ON instance
        BEGIN DELETE FROM verified WHERE instance_id = OLD.id; END""",
    # a file that came again is another file
    """CREATE TRIGGER verified_found AFTER UPDATE OF is_missing ON instance
        WHEN OLD.is_missing = 1 AND NEW.is_missing = 0
        BEGIN DELETE FROM verified WHERE instance_id = NEW.id; END""",
    "CREATE TABLE recovery_report (id INTEGER PRIMARY KEY, at TEXT NOT NULL, detail TEXT NOT NULL) STRICT",
)


@migrations(name="0001_first")
def _first(database: Database) -> None:
    for statement in _FIRST:
        database.execute(statement)


_SENDERS: Final = (
    """CREATE TABLE sender_rule (           -- callers allowed or denied by command, on top of the configuration
        id INTEGER PRIMARY KEY AUTOINCREMENT, -- grows with every change: tells whether what was read still holds
        receiver TEXT NOT NULL,           -- called AE title; '' is every receiver
        item TEXT NOT NULL,               -- AE@network, AE or network
        is_allowed INTEGER NOT NULL,
        set_at TEXT NOT NULL,
        set_by TEXT NOT NULL,
        reason TEXT NOT NULL,
        UNIQUE (receiver, item)
    ) STRICT""",
    """CREATE TABLE sender_seen (           -- callers on no list, and denied ones; a bounded number
        called_ae_title TEXT NOT NULL,
        calling_ae_title TEXT NOT NULL,   -- as sent; '' counts what is beyond the bound of an address
        peer_host TEXT NOT NULL,
        standing TEXT NOT NULL,           -- when it called last
        certificate TEXT NOT NULL,        -- JSON of archive.callers.Certificate, or ''
        first_at TEXT NOT NULL,
        last_at TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (called_ae_title, calling_ae_title, peer_host)
    ) STRICT, WITHOUT ROWID""",
    # how many titles one address has used; the one seen longest ago goes first
    "CREATE INDEX sender_seen_host ON sender_seen(called_ae_title, peer_host)",
    "CREATE INDEX sender_seen_last ON sender_seen(last_at)",
)


@migrations(name="0002_senders")
def _senders(database: Database) -> None:
    for statement in _SENDERS:
        database.execute(statement)


_SCHEDULES: Final = (
    "ALTER TABLE survey_schedule RENAME TO schedule",
    "ALTER TABLE schedule ADD COLUMN kind TEXT NOT NULL DEFAULT 'survey'",
    "ALTER TABLE schedule ADD COLUMN result TEXT NOT NULL DEFAULT ''",  # numbers by name, JSON
    # the newest request of each resource; how many are newer than a closed one
    "CREATE INDEX survey_request_age ON survey_request(session_id, scan, id, closed_at)",
    "DROP INDEX survey_request_resource",
)


@migrations(name="0003_schedules")
def _schedules(database: Database) -> None:
    for statement in _SCHEDULES:
        database.execute(statement)


_UNREAD: Final = (
    """CREATE TABLE session_unread (        -- could not be looked at after a crash: it is left alone
        session_id INTEGER PRIMARY KEY,
        path TEXT NOT NULL,               -- what could not be read, relative to the root
        error TEXT NOT NULL,
        since TEXT NOT NULL
    ) STRICT""",
)


@migrations(name="0004_unread")
def _unread(database: Database) -> None:
    for statement in _UNREAD:
        database.execute(statement)
