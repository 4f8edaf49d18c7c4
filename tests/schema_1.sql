-- What the last program before schema 2 wrote: three sessions, one with members' runs, one broken off.
insert into recollect_sessions (session_id, kind, agent_id, team_id, user_id, name, name_key, name_source, preview, archived, pinned, expires_at, next_seq, run_count, completed_count, message_count, input_tokens, output_tokens, aux_tokens, summarised_through, claim_owner, claim_token, claim_until, version, epoch, created_at, updated_at) values
    ('s', 'agent', 'a', null, 'ada', 'Looking', 'looking', 'manual', 'Look at it''s é "quoted"', 0, 0, null, 3, 2, 1, 4, 7, 5, 3, 1, null, null, null, 10, 3458188898958841822, 1795670951162415, 1795670951185918),
    ('t', 'team', null, 'team', null, '', '', null, 'Together', 0, 0, null, 3, 1, 1, 2, 0, 0, 0, 0, null, null, null, 4, 6570715217230559863, 1795670951225916, 1795670951233952),
    ('u', 'agent', null, null, null, '', '', null, 'Cut off', 0, 0, null, 2, 1, 0, 2, 0, 0, 0, 0, null, null, null, 2, 8269747427023470083, 1795670951251818, 1795670951251818);
insert into recollect_values (session_id, kind, key, value) values
    ('s', 'metadata', 'ticket', '"T-42"'),
    ('s', 'state', 'k', '1'),
    ('s', 'summary', 'summary', '{"summary":"They looked.","topics":[],"updated_at":null}'),
    ('s', 'tag', 'red', 'null');
insert into recollect_prompts (session_id, digest, role, body) values
    ('s', 'c59eb4ec763c3d6d', 'system', '{"role":"system","content":"Be brief."}');
insert into recollect_runs (session_id, run_seq, run_id, parent_run_id, agent_id, agent_name, team_id, user_id, status, attempt, prompt, model, input, metadata, metrics, error, chars, cancel_requested, version, created_at, finished_at) values
    ('s', 1, 'r1', null, 'a', null, null, 'ada', 'completed', 1, 'c59eb4ec763c3d6d', 'm', null, '{"m":[1,null]}', '[7,5,0,0,0.0,null,0,0,false]', null, 277, 0, 4, 1795670951162415, 1795670951181971),
    ('s', 2, 'r2', null, 'a', null, null, 'ada', 'error', 1, 'c59eb4ec763c3d6d', null, null, null, null, 'no', 33, 0, 6, 1795670951185918, 1795670951193898),
    ('t', 1, 't1', null, null, null, 'team', null, 'completed', 1, null, null, null, null, null, null, 80, 0, 4, 1795670951225916, 1795670951246924),
    ('t', 2, 't1m', 't1', 'm', null, null, null, 'completed', 1, null, null, null, null, null, null, 75, 0, 3, 1795670951233952, 1795670951241941),
    ('u', 1, 'u1', null, null, null, null, null, 'running', 1, null, null, null, null, null, null, 82, 0, 2, 1795670951251818, null);
insert into recollect_messages (session_id, run_seq, idx, message_id, role, body) values
    ('s', 1, 0, null, 'user', '{"role":"user","content":"Look at it''s é \"quoted\""}'),
    ('s', 1, 1, null, 'assistant', '{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"look","arguments":"{\"at\": 1}"}}]}'),
    ('s', 1, 2, null, 'tool', '{"role":"tool","content":"seen","tool_call_id":"c1"}'),
    ('s', 1, 3, null, 'assistant', '{"role":"assistant","content":"I saw."}'),
    ('s', 2, 0, null, 'user', '{"role":"user","content":"Again"}'),
    ('t', 1, 0, null, 'user', '{"role":"user","content":"Together"}'),
    ('t', 1, 1, null, 'assistant', '{"role":"assistant","content":"It is done."}'),
    ('t', 2, 0, null, 'user', '{"role":"user","content":"You do it"}'),
    ('t', 2, 1, null, 'assistant', '{"role":"assistant","content":"Done."}'),
    ('u', 1, 0, null, 'user', '{"role":"user","content":"Cut off"}'),
    ('u', 1, 1, null, 'assistant', '{"role":"assistant","content":"I was about to"}');
insert into recollect_leases (session_id, run_seq, owner, token, until) values
    ('u', 1, 'a process that is gone', 2450269183032444173, 0);
