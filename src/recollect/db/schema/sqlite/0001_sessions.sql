-- min_reader: 1
create table recollect_sessions (
    session_id text not null primary key,
    kind text not null,
    agent_id text,
    team_id text,
    user_id text,
    name text not null default '',
    name_key text not null default '',
    name_source text,
    preview text not null default '',
    archived integer not null default 0,
    pinned integer not null default 0,
    expires_at integer,
    next_seq integer not null default 1,
    run_count integer not null default 0,
    completed_count integer not null default 0,
    message_count integer not null default 0,
    input_tokens integer not null default 0,
    output_tokens integer not null default 0,
    aux_tokens integer not null default 0,
    summarised_through integer not null default 0,
    claim_owner text,
    claim_token integer,
    claim_until integer,
    version integer not null default 1,
    epoch integer not null,
    created_at integer not null,
    updated_at integer not null
) without rowid;

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
    session_id text not null,
    kind text not null,
    key text not null,
    value text not null,
    primary key (session_id, kind, key)
);

-- Long values are not searched for, and an index on them would hold them twice.
create index recollect_values_found on recollect_values (kind, key, value, session_id)
    where kind in ('metadata', 'tag') and length(value) <= 255;

create table recollect_runs (
    session_id text not null,
    run_seq integer not null,
    run_id text not null,
    parent_run_id text,
    agent_id text,
    agent_name text,
    team_id text,
    user_id text,
    status text not null,
    attempt integer not null default 1,
    prompt text,
    model text,
    input integer,
    metadata text,
    metrics text,
    error text,
    chars integer not null default 0,
    cancel_requested integer not null default 0,
    version integer not null,
    created_at integer not null,
    finished_at integer,
    primary key (session_id, run_seq)
) without rowid;

create unique index recollect_runs_id on recollect_runs (session_id, run_id);
create index recollect_runs_version on recollect_runs (session_id, version);
-- The last two columns are there so that the walk back never leaves the index.
create index recollect_runs_completed on recollect_runs (session_id, run_seq, chars, status, parent_run_id)
    where parent_run_id is null and status = 'completed';
create index recollect_runs_others on recollect_runs (session_id, status, run_seq, chars, parent_run_id)
    where parent_run_id is null and status <> 'completed';

create table recollect_messages (
    session_id text not null,
    run_seq integer not null,
    idx integer not null,
    message_id text,
    role text not null,
    body text not null
);

create unique index recollect_messages_place on recollect_messages (session_id, run_seq, idx);

create table recollect_prompts (
    session_id text not null,
    digest text not null,
    role text not null,
    body text not null,
    primary key (session_id, digest)
);

create table recollect_leases (
    session_id text not null,
    run_seq integer not null,
    owner text not null,
    token integer not null,
    until integer not null,
    primary key (session_id, run_seq)
) without rowid;
