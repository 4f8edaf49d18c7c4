-- min_reader: 3
-- What a name is found by stands in the list, so that sessions with other names are not read.
drop index recollect_sessions_kind_active;
create index recollect_sessions_kind_active
    on recollect_sessions (kind, archived, updated_at, session_id, expires_at, name_key);
