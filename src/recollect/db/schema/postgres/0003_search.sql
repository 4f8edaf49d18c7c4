-- min_reader: 3
-- An older program would delete a session and leave what can be found of it.
-- What can be found: one row for each message, for the name and for the summary of a session, folded.
create table recollect_documents (
    session_id text collate "C" not null,
    run_seq integer not null,
    idx integer not null,
    part integer not null,
    at bigint not null,
    words text collate "C" not null,
    terms tsvector not null,
    primary key (session_id, run_seq, idx, part)
);

create index recollect_documents_newest on recollect_documents (at, session_id, run_seq, idx, part);
-- What waits to be sorted into the index is read with every search: little of it may wait.
create index recollect_documents_terms on recollect_documents using gin (terms) with (gin_pending_list_limit = 256);

-- Up to which version each session can be found; the row without a session says up to when nothing has to be looked at.
create table recollect_indexed (
    session_id text collate "C" not null primary key,
    epoch bigint not null,
    version bigint not null,
    run_seq integer not null,
    due integer not null
);

create index recollect_indexed_due on recollect_indexed (session_id) where due = 1;
