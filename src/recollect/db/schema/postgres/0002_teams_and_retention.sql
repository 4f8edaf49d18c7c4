-- min_reader: 2
-- An older program would show what has expired, and end a run without putting it in the place that it was meant for.
alter table recollect_sessions add column expire_after bigint;
alter table recollect_sessions add column own_expiry integer not null default 0;
alter table recollect_runs add column replaces text collate "C";

-- A list of what is not archived must not walk past what is; a list of all merges both.
drop index recollect_sessions_user_active;
drop index recollect_sessions_agent_active;
drop index recollect_sessions_team_active;
drop index recollect_sessions_kind_active;
drop index recollect_sessions_user_created;
drop index recollect_sessions_agent_created;
drop index recollect_sessions_team_created;
drop index recollect_sessions_kind_created;
create index recollect_sessions_user_active on recollect_sessions (user_id, archived, updated_at, session_id)
    where user_id is not null;
create index recollect_sessions_agent_active on recollect_sessions (agent_id, archived, updated_at, session_id)
    where agent_id is not null;
create index recollect_sessions_team_active on recollect_sessions (team_id, archived, updated_at, session_id)
    where team_id is not null;
create index recollect_sessions_kind_active on recollect_sessions (kind, archived, updated_at, session_id);
create index recollect_sessions_user_created on recollect_sessions (user_id, archived, created_at, session_id)
    where user_id is not null;
create index recollect_sessions_agent_created on recollect_sessions (agent_id, archived, created_at, session_id)
    where agent_id is not null;
create index recollect_sessions_team_created on recollect_sessions (team_id, archived, created_at, session_id)
    where team_id is not null;
create index recollect_sessions_kind_created on recollect_sessions (kind, archived, created_at, session_id);

-- The same of those that are pinned. They are few, so these cost next to nothing.
create index recollect_sessions_user_pinned_active on recollect_sessions (user_id, archived, updated_at, session_id)
    where pinned = 1 and user_id is not null;
create index recollect_sessions_agent_pinned_active on recollect_sessions (agent_id, archived, updated_at, session_id)
    where pinned = 1 and agent_id is not null;
create index recollect_sessions_team_pinned_active on recollect_sessions (team_id, archived, updated_at, session_id)
    where pinned = 1 and team_id is not null;
create index recollect_sessions_kind_pinned_active on recollect_sessions (kind, archived, updated_at, session_id)
    where pinned = 1;
create index recollect_sessions_user_pinned_created on recollect_sessions (user_id, archived, created_at, session_id)
    where pinned = 1 and user_id is not null;
create index recollect_sessions_agent_pinned_created on recollect_sessions (agent_id, archived, created_at, session_id)
    where pinned = 1 and agent_id is not null;
create index recollect_sessions_team_pinned_created on recollect_sessions (team_id, archived, created_at, session_id)
    where pinned = 1 and team_id is not null;
create index recollect_sessions_kind_pinned_created on recollect_sessions (kind, archived, created_at, session_id)
    where pinned = 1;

create index recollect_sessions_expiring on recollect_sessions (expires_at, session_id) where expires_at is not null;

-- What was to replace a run and did not is no part of the conversation, and in neither index of its runs.
drop index recollect_runs_others;
create index recollect_runs_others on recollect_runs (session_id, status, run_seq) include (chars, replaces)
    where parent_run_id is null and status <> 'completed' and (replaces is null or status = 'regenerated');

-- What a member of a team is shown of its past; and the runs of a run's members.
create index recollect_runs_members on recollect_runs (session_id, agent_id, team_id, status, run_seq) include (chars)
    where parent_run_id is not null;
create index recollect_runs_parents on recollect_runs (session_id, parent_run_id, run_seq)
    where parent_run_id is not null;
create index recollect_runs_replaces on recollect_runs (session_id, replaces, status) where replaces is not null;
