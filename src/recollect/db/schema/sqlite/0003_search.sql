-- min_reader: 3
-- An older program would delete a session and leave what can be found of it.
-- What can be found: one row for each message, for the name and for the summary of a session, folded.
create table recollect_documents (
    id integer not null primary key,
    session_id text not null,
    run_seq integer not null,
    idx integer not null,
    part integer not null,
    at integer not null,
    words text not null,
    keys text not null
);

create unique index recollect_documents_place on recollect_documents (session_id, run_seq, idx, part);

-- Up to which version each session can be found; the row without a session says up to when nothing has to be looked at.
create table recollect_indexed (
    session_id text not null primary key,
    epoch integer not null,
    version integer not null,
    run_seq integer not null,
    due integer not null
) without rowid;

create index recollect_indexed_due on recollect_indexed (session_id) where due = 1;
