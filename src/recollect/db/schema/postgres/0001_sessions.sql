-- min_reader: 1
-- Ids are compared byte by byte, as in every other database. Headers and leases leave room in their pages: a step
-- changes no column of an index, and its new row fits beside the old one.
create table recollect_sessions (
    session_id text collate "C" not null primary key,
    kind text collate "C" not null,
    agent_id text collate "C",
    team_id text collate "C",
    user_id text collate "C",
    name text not null default '',
    name_key text not null default '',
    name_source text,
    preview text not null default '',
    archived integer not null default 0,
    pinned integer not null default 0,
    expires_at bigint,
    next_seq bigint not null default 1,
    run_count bigint not null default 0,
    completed_count bigint not null default 0,
    message_count bigint not null default 0,
    input_tokens bigint not null default 0,
    output_tokens bigint not null default 0,
    aux_tokens bigint not null default 0,
    summarised_through bigint not null default 0,
    claim_owner text,
    claim_token bigint,
    claim_until bigint,
    version bigint not null default 1,
    epoch bigint not null,
    created_at bigint not null,
    updated_at bigint not null
) with (fillfactor = 70);

-- Without a filter the list is read from both kinds: an index less to keep up with each turn.
create index recollect_sessions_user_active on recollect_sessions (user_id, updated_at, session_id)
    where user_id is not null;
create index recollect_sessions_agent_active on recollect_sessions (agent_id, updated_at, session_id)
    where agent_id is not null;
create index recollect_sessions_team_active on recollect_sessions (team_id, updated_at, session_id)
    where team_id is not null;
create index recollect_sessions_kind_active on recollect_sessions (kind, updated_at, session_id);
create index recollect_sessions_user_created on recollect_sessions (user_id, created_at, session_id)
    where user_id is not null;
create index recollect_sessions_agent_created on recollect_sessions (agent_id, created_at, session_id)
    where agent_id is not null;
create index recollect_sessions_team_created on recollect_sessions (team_id, created_at, session_id)
    where team_id is not null;
create index recollect_sessions_kind_created on recollect_sessions (kind, created_at, session_id);

create table recollect_values (
    session_id text collate "C" not null,
    kind text collate "C" not null,
    key text collate "C" not null,
    value text collate "C" not null,
    primary key (session_id, kind, key)
);

-- Long values are not searched for, and an index on them would hold them twice.
create index recollect_values_found on recollect_values (kind, key, value, session_id)
    where kind in ('metadata', 'tag') and length(value) <= 255;

create table recollect_runs (
    session_id text collate "C" not null,
    run_seq bigint not null,
    run_id text collate "C" not null,
    parent_run_id text collate "C",
    agent_id text collate "C",
    agent_name text,
    team_id text collate "C",
    user_id text collate "C",
    status text collate "C" not null,
    attempt bigint not null default 1,
    prompt text collate "C",
    model text,
    input bigint,
    metadata text,
    metrics text,
    error text,
    chars bigint not null default 0,
    cancel_requested integer not null default 0,
    version bigint not null,
    created_at bigint not null,
    finished_at bigint,
    primary key (session_id, run_seq)
);

create unique index recollect_runs_id on recollect_runs (session_id, run_id);
create index recollect_runs_version on recollect_runs (session_id, version);
-- The last columns are there so that the walk back never leaves the index.
create index recollect_runs_completed on recollect_runs (session_id, run_seq) include (chars)
    where parent_run_id is null and status = 'completed';
create index recollect_runs_others on recollect_runs (session_id, status, run_seq) include (chars)
    where parent_run_id is null and status <> 'completed';

create table recollect_messages (
    session_id text collate "C" not null,
    run_seq bigint not null,
    idx bigint not null,
    message_id text,
    role text collate "C" not null,
    body text not null
);

create unique index recollect_messages_place on recollect_messages (session_id, run_seq, idx);

create table recollect_prompts (
    session_id text collate "C" not null,
    digest text collate "C" not null,
    role text collate "C" not null,
    body text not null,
    primary key (session_id, digest)
);

create table recollect_leases (
    session_id text collate "C" not null,
    run_seq bigint not null,
    owner text collate "C" not null,
    token bigint not null,
    until bigint not null,
    primary key (session_id, run_seq)
) with (fillfactor = 50);
