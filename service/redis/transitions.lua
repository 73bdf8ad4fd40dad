-- Every transition in a job's life, each atomic. Each `transition` function is sent as a script of its own, with all that stands
-- before the first one; its arguments are ARGV, and all keys that it uses are KEYS, in the order of Keys.of_job (keys.py).
--
-- reserved -> queued -> running -> generated -> done | refused | failed | cancelled
--
-- Time is the server's, so no other clock decides about a lease.

local ACCOUNTING, CANCELLED, PENDING, FINALIZERS, APIS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local RUN_TIMES, WEBHOOKS = KEYS[6], KEYS[7]
local SLOTS = {chat = KEYS[8], paint = KEYS[9], safety = KEYS[10]}
-- By queue: that of a kind, and that of its batch jobs, which `queue` of a record names
local STREAM = {chat = KEYS[11], paint = KEYS[12], safety = KEYS[13], ['chat:batch'] = KEYS[14], ['paint:batch'] = KEYS[15]}
-- Of tenants with API keys: jobs held back in their order, what these are, turns (shares.lua), and who has a slot
local WAITING, HELD, SHARES, TENANT_SLOTS = KEYS[16], KEYS[17], KEYS[18], KEYS[19]
local JOB, EVENTS, PIXELS = KEYS[20], KEYS[21], KEYS[22]
local OWN = 23                         -- where the keys of one transition alone begin

local GROUP = 'workers'
local RETURNED = 'returned'            -- consumer that holds entries which anyone may take at once
local RETURNED_IDLE_MS = 86400000
local INLINE_BYTES = 4096              -- larger events go into an inbox as a pointer
local INBOX_LENGTH = 16384
local CANCELLED_LENGTH = 4096
local DEAD_LENGTH = 100
local GATE_MS = 60000                  -- a finished result keeps its slot at least this long to be screened
local MINUTE_MS = 60000                -- of an API key's limits
local PIXELS_MS = 600000               -- beyond the deadline, should nothing end the job
local KEY_JOBS_MS = 86400000           -- that a key's list of its jobs is kept after the last one began
local PLACES = 1000                    -- jobs before a waiting one that are counted
local ENDED = {done = true, refused = true, failed = true, cancelled = true}

local asked_ms  -- a transition happens at one time: the clock is asked once

local function now_ms()
  if not asked_ms then
    local time = redis.call('TIME')
    asked_ms = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return asked_ms
end

local function integer(value)
  return string.format('%.0f', value)
end

local function get(...)
  return redis.call('HMGET', JOB, ...)
end

-- Into the inboxes that this transition was handed, from KEYS[OWN] on.
local function notify(id, position, payload)
  if #payload > INLINE_BYTES then payload = '' end
  for i = OWN, #KEYS do
    redis.call('XADD', KEYS[i], 'NOMKSTREAM', 'MAXLEN', '~', INBOX_LENGTH, '*', 'j', id, 'p', position, 'd', payload)
  end
end

local function drop_entry(queue, entry)
  if entry then
    redis.call('XACK', STREAM[queue], GROUP, entry)
    redis.call('XDEL', STREAM[queue], entry)
  end
end

-- include shares.lua

-- A waiting job of a tenant with a key is given up, wherever it waits.
local function drop_waiting(queue, id, entry)
  local current, member = entry_of(id, entry)
  drop_entry(queue, current)
  if member then redis.call('ZREM', WAITING, member) end
  redis.call('HDEL', HELD, id)
end

-- What `end_job` reads of a record.
local function get_for_end()
  return get('state', 'kind', 'entry', 'inboxes', 'retention_ms', 'queue', 'weight', 'tenant', 'callback_kept_ms')
end

-- The first that an ending writes, so that a full server still lets jobs end.
local function free_slot(id, job)
  local kind, weight = job[2], job[7]
  redis.call('ZREM', SLOTS[kind], id)
  if weight then redis.call('ZREM', TENANT_SLOTS, kind .. '/' .. job[8] .. ':' .. weight .. ':' .. id) end
end

-- The one place where a job ends: one that has not ended yet, and whose slot is free by now. Returns who is to be told.
local function write_ending(id, state, ending, job)
  local before, kind, weight, callback_kept_ms = job[1], job[2], job[7], job[9]
  local queue, kept_ms = job[6] or kind, math.max(job[5], callback_kept_ms or 0)
  if before == 'generated' then
    redis.call('ZREM', PENDING, id)
    redis.call('HDEL', FINALIZERS, id)
  elseif weight and before == 'queued' then
    drop_waiting(queue, id, job[3])
  else
    drop_entry(queue, job[3])
  end
  if before ~= 'reserved' then
    redis.call('HDEL', JOB, 'result', 'intent')
    redis.call('UNLINK', PIXELS)
  end
  redis.call('HSET', JOB, 'state', state, 'ending', ending, 'ended_ms', integer(now_ms()))
  redis.call('HINCRBY', ACCOUNTING, state .. ':' .. kind, 1)
  redis.call('PEXPIRE', JOB, integer(kept_ms))
  redis.call('PEXPIRE', EVENTS, job[5])
  if callback_kept_ms then redis.call('ZADD', WEBHOOKS, integer(now_ms()), id) end
  if before == 'running' then redis.call('XADD', CANCELLED, 'MAXLEN', '~', CANCELLED_LENGTH, '*', 'j', id) end
  if weight and before == 'queued' then top_up(queue) end
  return job[4] or ''
end

-- Returns who is to be told; false where the job had ended already.
local function end_job(id, state, ending)
  local job = get_for_end()
  if ENDED[job[1]] then return false end
  free_slot(id, job)
  return write_ending(id, state, ending, job)
end

local function ending_of(state, code, message)
  return cmsgpack.pack({state = state, code = code, message = message})
end

-- Results wait in PENDING for their ending, by the expiry of the lease under which one API process finalizes them.
local function lease_result(id, process, expiry_ms)
  redis.call('HSET', FINALIZERS, id, process)
  redis.call('ZADD', PENDING, integer(expiry_ms), id)
end

local function is_result_free(id, finalizer, now)
  if not finalizer or tonumber(redis.call('ZSCORE', APIS, finalizer) or 0) <= now then return true end
  return tonumber(redis.call('ZSCORE', PENDING, id) or 0) <= now
end

-- What a conversation keeps of a turn, which may take the last one's place. KEYS from OWN on: of the conversation
-- (keys.py), then its books.
local function append_turn(id, member, is_new, turn, max_turns, ttl_ms, replaces, fields)
  local key, turns, pixels, busy = KEYS[OWN], KEYS[OWN + 1], KEYS[OWN + 2], KEYS[OWN + 3]
  local jobs, listed = KEYS[OWN + 4], KEYS[OWN + 5]
  local index, sizes, total = KEYS[OWN + 6], KEYS[OWN + 7], KEYS[OWN + 8]
  if not is_new and redis.call('EXISTS', key) == 0 then return end  -- deleted meanwhile: stays deleted
  local grown, now, parts = #turn, integer(now_ms()), {key, turns, jobs}
  if replaces then grown = grown - #(redis.call('RPOP', turns) or '') end
  if is_new then grown = grown + 1024 end  -- the keys themselves, and what the books keep
  -- The first turn's picture, or one that joins a talk that has none
  local has_own = redis.call('EXISTS', PIXELS) == 1
  if has_own and (is_new or redis.call('EXISTS', pixels) == 0) then
    redis.call('RENAME', PIXELS, pixels)
    grown = grown + redis.call('STRLEN', pixels)
  end
  if has_own or not is_new then table.insert(parts, pixels) end
  if #fields > 0 then redis.call('HSET', key, unpack(fields)) end
  local excess = redis.call('RPUSH', turns, turn) - max_turns
  for _ = 1, excess do grown = grown - #redis.call('LPOP', turns) end
  if excess > 0 then redis.call('HINCRBY', key, 'gone', excess) end  -- so that it can be told
  redis.call('ZADD', jobs, now, id)
  for _, part in ipairs(parts) do redis.call('PEXPIRE', part, ttl_ms) end
  redis.call('UNLINK', busy)
  redis.call('ZADD', index, now, member)
  redis.call('ZADD', listed, now, string.match(member, '[^:]*$'))
  redis.call('HINCRBY', sizes, member, integer(grown))
  redis.call('INCRBY', total, integer(grown))
end

-- Of a finished run, into the average of the last few.
local function note_run_time(kind, run_ms)
  if kind == 'safety' then return end
  local before = tonumber(redis.call('HGET', RUN_TIMES, kind) or run_ms)
  redis.call('HSET', RUN_TIMES, kind, integer(0.8 * before + 0.2 * run_ms))
end

-- Those of a queue that wait before an entry, or all of them; PLACES and more: nobody counts further.
local function count_waiting(queue, entry)
  local taken = {}
  local pending = redis.pcall('XPENDING', STREAM[queue], GROUP, '-', entry or '+', PLACES)
  for _, item in ipairs(pending.err and {} or pending) do taken[item[1]] = true end
  if entry and taken[entry] then return 0 end  -- it was given back: anyone takes it at once
  local entries, waiting = redis.call('XRANGE', STREAM[queue], '-', entry and '(' .. entry or '+', 'COUNT', PLACES), 0
  if #entries == PLACES then return PLACES end
  for _, one in ipairs(entries) do
    if not taken[one[1]] then waiting = waiting + 1 end
  end
  return waiting
end

-- What an API key may still do. KEYS from OWN on: Keys.of_key. Returns what it has used of its minute, the number of its
-- jobs, what is left of the minute, and why it may do no more, if so. A job counts as long as it holds its slot.
local function look_at_key(max_requests, max_tokens, max_jobs)
  local minute, jobs = KEYS[OWN], KEYS[OWN + 1]
  local used = redis.call('HMGET', minute, 'requests', 'tokens')
  local requests, tokens = tonumber(used[1] or 0), tonumber(used[2] or 0)
  local left_ms, now, num_jobs = redis.call('PTTL', minute), now_ms(), 0
  if left_ms < 0 then left_ms = MINUTE_MS end
  if max_jobs > 0 then
    for _, id in ipairs(redis.call('ZRANGE', jobs, 0, -1)) do
      local expiry_ms = redis.call('ZSCORE', SLOTS.chat, id) or redis.call('ZSCORE', SLOTS.paint, id)
      if expiry_ms and tonumber(expiry_ms) > now then
        num_jobs = num_jobs + 1
      else
        redis.call('ZREM', jobs, id)
      end
    end
  end
  local reason = ''
  if max_requests > 0 and requests >= max_requests then reason = 'requests'
  elseif max_tokens > 0 and tokens >= max_tokens then reason = 'tokens'
  elseif max_jobs > 0 and num_jobs >= max_jobs then reason = 'jobs' end
  return {requests, tokens, num_jobs, left_ms}, reason
end

-- Into the minute, which begins with the first that is counted.
local function count_in_minute(minute, what, count)
  redis.call('HINCRBY', minute, what, integer(count))
  if redis.call('PTTL', minute) < 0 then redis.call('PEXPIRE', minute, MINUTE_MS) end
end

local function count_on_day(day, what, count, kept_ms)
  redis.call('HINCRBY', day, what, integer(count))
  redis.call('PEXPIRE', day, kept_ms)
end

local function count_request(used, kept_ms)
  count_in_minute(KEYS[OWN], 'requests', 1)
  count_on_day(KEYS[OWN + 2], 'requests', 1, kept_ms)
  used[1] = used[1] + 1
end

-- What a job has used. The last KEYS are of its key.
local function count_usage(usage, kept_ms)
  local minute, day = KEYS[#KEYS - 2], KEYS[#KEYS]
  for what, count in pairs(cmsgpack.unpack(usage)) do
    count_on_day(day, what, count, kept_ms)
    if what == 'prompt_tokens' or what == 'completion_tokens' then count_in_minute(minute, 'tokens', count) end
  end
end

-- Returns 1, or 0 when no slot is free. A slot that outlived its lease counts no more; `expire` ends its job.
-- With an API key, {1 or 0, why its limits refuse or '', what it has used (look_at_key)}; KEYS from OWN on: Keys.of_key.
-- Where no slot is free, a tenant with a key gets one all the same while it has less than its share of them, up to twice as
-- many in all; one that has its share is told so: {0, '', used, slots it has, its share, tenants that have any}.
-- Where `listed_ms` is not 0, the last KEY is the list of the tenant's jobs, which keeps them for so long.
local function take_slot(kind, id, process, tenant, queue_size, lease_ms, retention_ms, listed_ms, has_key,
                         max_requests, max_tokens, max_jobs, usage_kept_ms, weight)
  local now, used, reason = now_ms(), nil, ''
  if has_key == '1' then
    used, reason = look_at_key(tonumber(max_requests), tonumber(max_tokens), tonumber(max_jobs))
    if reason ~= '' then return {0, reason, used} end
  end
  local num_slots, taken = tonumber(queue_size), redis.call('ZCOUNT', SLOTS[kind], '(' .. integer(now), '+inf')
  if taken >= num_slots then
    if not used then return 0 end
    local own, share, num_tenants = look_at_share(kind, tenant, tonumber(weight), num_slots)
    if own >= share or taken >= 2 * num_slots then
      return {0, '', used, own, math.floor(share), num_tenants}
    end
  end
  redis.call('HSET', JOB, 'kind', kind, 'tenant', tenant, 'state', 'reserved', 'owner', process,
    'inboxes', process, 'created_ms', integer(now), 'retention_ms', retention_ms)
  redis.call('ZADD', SLOTS[kind], integer(now + lease_ms), id)
  redis.call('HINCRBY', ACCOUNTING, 'accepted:' .. kind, 1)
  if tonumber(listed_ms or 0) > 0 then
    local jobs = KEYS[#KEYS]
    redis.call('ZADD', jobs, integer(now), id)
    redis.call('ZREMRANGEBYSCORE', jobs, '-inf', integer(now - listed_ms))
    redis.call('PEXPIRE', jobs, listed_ms)
  end
  if not used then return 1 end
  redis.call('HSET', JOB, 'weight', weight)
  redis.call('ZADD', TENANT_SLOTS, 0, kind .. '/' .. tenant .. ':' .. weight .. ':' .. id)
  count_request(used, usage_kept_ms)
  if tonumber(max_jobs) > 0 then
    redis.call('ZADD', KEYS[OWN + 1], integer(now), id)
    redis.call('PEXPIRE', KEYS[OWN + 1], KEY_JOBS_MS)
    used[3] = used[3] + 1
  end
  return {1, '', used}
end

-- Queues the job of a slot that is held.
-- Where `callback` is a URL, it is told of the ending (webhooks.lua), and the record is kept for `callback_kept_ms` at least.
local function queue_job(kind, id, owner, weight, tenant, job, pixels, intent, deadline_ms, grace_ms, queue, callback,
                         callback_kept_ms)
  local now = now_ms()
  if pixels ~= '' then redis.call('SET', PIXELS, pixels, 'PX', deadline_ms + grace_ms + PIXELS_MS) end
  queue = queue or kind
  local has_others = weight and is_shared(queue, tenant)
  local of_tenant = weight and {'tenant', tenant, 'weight', weight} or {}
  local entry = redis.call('XADD', STREAM[queue], '*', 'id', id, 'job', job, 'inboxes', owner, unpack(of_tenant))
  redis.call('HSET', JOB, 'state', 'queued', 'queue', queue, 'entry', entry, 'intent', intent, 'token', '0',
    'deliveries', '0', 'queued_ms', integer(now), 'deadline_ms', integer(now + deadline_ms))
  if (callback or '') ~= '' then redis.call('HSET', JOB, 'callback', callback, 'callback_kept_ms', callback_kept_ms) end
  redis.call('ZADD', SLOTS[kind], integer(now + deadline_ms + grace_ms), id)
  if has_others then
    take_back(queue)
    put_next(queue)
  end
end

-- API ---------------------------------------------------------------------------------------------------------------

-- Marks an API process alive. Its inbox is the last key. Returns 1 when that had to be made.
function transition.api_beat(process, alive_ms, inbox_ms)
  local now, inbox = now_ms(), KEYS[#KEYS]
  redis.call('ZADD', APIS, integer(now + alive_ms), process)
  redis.call('ZREMRANGEBYSCORE', APIS, '-inf', integer(now - inbox_ms))
  if redis.call('PEXPIRE', inbox, inbox_ms) == 1 then return 0 end
  redis.call('XADD', inbox, '*', 'j', '', 'p', '', 'd', '')
  redis.call('PEXPIRE', inbox, inbox_ms)
  return 1
end

function transition.api_leave(process)
  redis.call('ZREM', APIS, process)
  return redis.call('DEL', KEYS[#KEYS])
end

-- Returns {what `take_slot` returns}.
function transition.reserve(...)
  return {take_slot(...)}
end

-- A request of an API key that makes no job: {1 or 0, why its limits refuse or '', what it has used}.
function transition.take_request(max_requests, max_tokens, usage_kept_ms)
  local used, reason = look_at_key(tonumber(max_requests), tonumber(max_tokens), 0)
  if reason ~= '' then return {0, reason, used} end
  count_request(used, usage_kept_ms)
  return {1, '', used}
end

-- Keeps a slot whose request is still being read and judged. Returns 0 where it is lost.
function transition.renew_slot(id, lease_ms)
  local job = get('state', 'kind')
  if job[1] ~= 'reserved' then return 0 end
  redis.call('ZADD', SLOTS[job[2]], 'XX', 'GT', integer(now_ms() + lease_ms), id)
  return 1
end

-- Returns the state before: anything but `reserved` means that nothing was queued.
function transition.submit(kind, id, ...)
  local record = get('state', 'owner', 'weight', 'tenant')
  if record[1] == 'reserved' then queue_job(kind, id, record[2], record[3], record[4], ...) end
  return record[1]
end

-- `reserve` and `submit` as one: {what `take_slot` returns, the state before `submit`}, the first alone where no slot is given.
function transition.reserve_and_submit(kind, id, process, tenant, queue_size, lease_ms, retention_ms, listed_ms, has_key,
                                       max_requests, max_tokens, max_jobs, usage_kept_ms, weight, ...)
  local taken = take_slot(kind, id, process, tenant, queue_size, lease_ms, retention_ms, listed_ms, has_key,
    max_requests, max_tokens, max_jobs, usage_kept_ms, weight)
  if taken == 0 or (taken ~= 1 and taken[1] == 0) then return {taken} end
  queue_job(kind, id, process, has_key == '1' and weight, tenant, ...)
  return {taken, 'reserved'}
end

-- Writes an ending by compare-and-set, with the conversation's turn in the same transition.
-- With `usage`, which is counted once, the last KEYS are of the job's API key (Keys.of_key).
-- Returns {state before, kind, who is to be told}, {'ended', kind}, or false for an unknown job.
function transition.finish(id, state, ending, usage, usage_kept_ms, member, is_new, turn, max_turns, ttl_ms,
                           replaces, ...)
  local job = get_for_end()
  local before, kind = job[1], job[2]
  if not before then return false end
  if state == 'done' and before ~= 'generated' and not ENDED[before] then return {before, kind} end
  if ENDED[before] then return {'ended', kind} end
  free_slot(id, job)
  if member ~= '' and state == 'done' then
    append_turn(id, member, is_new == '1', turn, tonumber(max_turns), ttl_ms, replaces == '1', {...})
  end
  local inboxes = write_ending(id, state, ending, job)
  if usage ~= '' then count_usage(usage, usage_kept_ms) end
  return {before, kind, inboxes}
end

-- Forgets a job that has ended, and its answer. Returns 0 where it has not.
function transition.forget_ended()
  if not ENDED[get('state')[1] or ''] then return 0 end
  redis.call('UNLINK', JOB, EVENTS)
  return 1
end

-- What a watcher has not seen yet, and from now on its process hears of more.
function transition.follow(id, process, token, number)
  local job = get('state', 'inboxes', 'deadline_ms', 'token', 'result', 'result_number', 'ending')
  if not job[1] then return false end
  if not ENDED[job[1]] and not string.find(' ' .. job[2] .. ' ', ' ' .. process .. ' ', 1, true) then
    redis.call('HSET', JOB, 'inboxes', job[2] .. ' ' .. process)
  end
  local left_ms = -1
  if job[3] then left_ms = math.max(0, job[3] - now_ms()) end
  local events = redis.call('XRANGE', EVENTS, '(' .. token .. '-' .. number, '+')
  local position = ''
  if job[5] then position = job[4] .. '-' .. job[6] end
  return {job[1], left_ms, events, position, job[5] or '', job[7] or ''}
end

-- Where a job is: {how many wait before it, or -1; jobs in work; what one takes in ms, or ''; now; its last event, or ''}.
function transition.place(kind, id)
  local job = get('state', 'entry', 'queue', 'weight')
  local before, last, in_work = -1, '', 0
  for _, queue in ipairs({kind, kind .. ':batch'}) do
    local pending = STREAM[queue] and redis.pcall('XPENDING', STREAM[queue], GROUP)
    if pending and not pending.err then in_work = in_work + pending[1] end
  end
  if job[1] == 'queued' then
    local queue = job[3] or kind
    local entry, member = job[2], nil
    if job[4] then entry, member = entry_of(id, entry) end
    before = member and num_before(queue, member) or count_waiting(queue, entry)
    if queue ~= kind then  -- nearly all of these go first
      before = before + count_waiting(kind) + redis.call('ZLEXCOUNT', WAITING, '[' .. kind .. '/', '(' .. kind .. '0')
    end
    if before >= PLACES then before = -1 end
  elseif job[1] == 'running' then
    local events = redis.call('XREVRANGE', EVENTS, '+', '-', 'COUNT', 1)
    if events[1] then last = events[1][2][2] end
  end
  return {before, in_work, redis.call('HGET', RUN_TIMES, kind) or '', now_ms(), last}
end

-- What outlived its slot: {kind, id} of each. Also the round in which a queue goes on whose next job a worker took along.
function transition.overdue(limit)
  local found, now = {}, integer(now_ms())
  for queue in pairs(STREAM) do top_up(queue) end
  for kind, slots in pairs(SLOTS) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', slots, '-inf', now, 'LIMIT', 0, limit)) do
      table.insert(found, {kind, id})
    end
  end
  return found
end

-- Ends one of those: {state before, ending, who is to be told}; false where its slot was renewed meanwhile.
function transition.expire(kind, id)
  local expiry_ms = redis.call('ZSCORE', SLOTS[kind], id)
  if not expiry_ms or tonumber(expiry_ms) > now_ms() then return false end
  local before = get('state')[1]
  if not before then
    redis.call('ZREM', SLOTS[kind], id)
    for _, member in ipairs(redis.call('ZRANGEBYLEX', TENANT_SLOTS, '[' .. kind .. '/', '(' .. kind .. '0')) do
      if string.sub(member, -#id - 1) == ':' .. id then redis.call('ZREM', TENANT_SLOTS, member) end
    end
    redis.call('HINCRBY', ACCOUNTING, 'failed:' .. kind, 1)
    return {'lost', '', ''}
  end
  local state, ending = 'cancelled', nil
  if before == 'reserved' then
    state = 'failed'
    ending = ending_of(state, 'job_failed', 'the request was abandoned before its job was submitted')
  else
    ending = ending_of(state, 'deadline_exceeded', 'the job did not end before its deadline')
  end
  return {before, ending, end_job(id, state, ending) or ''}
end

-- Takes the lease on a result: {intent, result, ms until the deadline}; false where it is another's, or there is none.
function transition.claim_result(id, process, lease_ms)
  local job, now = get('state', 'intent', 'result', 'deadline_ms'), now_ms()
  if job[1] ~= 'generated' then
    redis.call('ZREM', PENDING, id)
    redis.call('HDEL', FINALIZERS, id)
    return false
  end
  local finalizer = redis.call('HGET', FINALIZERS, id)
  if finalizer ~= process and not is_result_free(id, finalizer, now) then return false end
  lease_result(id, process, now + lease_ms)
  return {job[2], job[3], math.max(0, job[4] - now)}
end

function transition.renew_result(id, process, lease_ms)
  if get('state')[1] ~= 'generated' or redis.call('HGET', FINALIZERS, id) ~= process then return 0 end
  lease_result(id, process, now_ms() + lease_ms)
  return 1
end

-- Results that nobody finalizes: the process that held their lease is gone, or did not renew it. Returns their ids.
function transition.abandoned(limit)
  local ids, now = {}, now_ms()
  for _, id in ipairs(redis.call('ZRANGE', PENDING, 0, limit - 1)) do
    if is_result_free(id, redis.call('HGET', FINALIZERS, id), now) then table.insert(ids, id) end
  end
  return ids
end

-- Worker ------------------------------------------------------------------------------------------------------------

-- Turns a stream entry that this consumer was handed into a job to run. KEYS[OWN]: the stream of dead jobs.
-- {'run', token, delivery, isolated, queued for ms, pixels, who is to be told}, {'gone'},
-- {'dead', deliveries, ending, who is to be told}, or {'isolated'}: only with empty hands.
function transition.claim(queue, entry, id, consumer, max_deliveries, in_hand)
  local pending = redis.call('XPENDING', STREAM[queue], GROUP, entry, entry, 1)[1]
  if not pending or pending[2] ~= consumer then return {'gone'} end
  local job = get('state', 'entry', 'token', 'deliveries', 'isolated', 'queued_ms', 'inboxes', 'weight', 'tenant')
  local weight, current = job[8], job[2]
  if weight then current = entry_of(id, current) end
  if current ~= entry or (job[1] ~= 'queued' and job[1] ~= 'running') then
    drop_entry(queue, entry)
    top_up(queue)
    return {'gone'}
  end
  max_deliveries = tonumber(max_deliveries)
  local delivery = job[4] + 1
  if delivery > max_deliveries then
    local data = redis.call('XRANGE', STREAM[queue], entry, entry)[1]
    redis.call('XADD', KEYS[OWN], 'MAXLEN', '~', DEAD_LENGTH, '*', unpack(data[2]))
    local ending = ending_of('failed', 'job_failed',
      'job ' .. id .. ' failed: its worker died or hung in each of ' .. job[4] .. ' attempts')
    end_job(id, 'failed', ending)
    return {'dead', job[4], ending, job[7]}
  end
  -- What may be the cause of two deaths gets its last try isolated, so that it takes nobody along.
  local isolated = job[5] == '1' or (delivery > 1 and delivery == max_deliveries)
  if isolated and tonumber(in_hand) > 0 then return {'isolated'} end
  local now = now_ms()
  redis.call('HSET', JOB, 'state', 'running', 'token', job[3] + 1, 'deliveries', delivery,
    'worker', consumer, 'started_ms', integer(now))
  if weight and current ~= job[2] then
    redis.call('HSET', JOB, 'entry', entry)
    redis.call('HDEL', HELD, id)
  end
  if weight and job[3] == '0' then note_turn(queue, job[9], weight) end
  -- A chat engine may know the image already: its worker reads the pixels where they are asked for
  local pixels = queue == 'safety' and redis.call('GET', PIXELS)
  return {'run', job[3] + 1, delivery, isolated and 1 or 0, now - job[6], pixels or '', job[7]}
end

-- Keeps the lease of a job in hand. Returns 1, or 0: it is lost.
function transition.renew(queue, consumer, token, entry)
  local job = get('state', 'token')
  if job[1] ~= 'running' or job[2] ~= token then return 0 end
  redis.call('XCLAIM', STREAM[queue], GROUP, consumer, 0, entry, 'JUSTID')
  return 1
end

-- Events of one delivery, numbered from `number` on, and perhaps its last one: a result (`generated`) or an ending
-- (`failed`, `refused`). All or nothing, and the same call again changes nothing. KEYS from OWN on: the inboxes of `told`.
-- Returns who is to be told; or 0: fenced off, or ended.
function transition.publish(id, token, number, last_state, last, lease_ms, ...)
  local job = get('state', 'token', 'inboxes', 'kind', 'entry', 'owner', 'started_ms', 'queue', 'deadline_ms')
  local inboxes = job[3] or ''
  if job[2] ~= token then return 0 end
  if last_state ~= '' and job[1] == last_state then return inboxes end
  if job[1] ~= 'running' then return 0 end
  number = tonumber(number)
  for _, event in ipairs({...}) do
    local position = token .. '-' .. integer(number)
    number = number + 1
    local added = redis.pcall('XADD', EVENTS, position, 'd', event)
    if type(added) ~= 'table' or not added.err then
      notify(id, position, event)
    elseif not string.find(added.err, 'equal or smaller', 1, true) then
      return added
    end
  end
  if ENDED[last_state] then
    end_job(id, last_state, last)
    notify(id, 'end', last)
  elseif last_state == 'generated' then
    local now = now_ms()
    redis.call('HSET', JOB, 'state', 'generated', 'result', last, 'result_number', integer(number),
      'generated_ms', integer(now))
    -- The process that queued the job waits for its result: it needs no word from here to finalize it
    lease_result(id, job[6], now + lease_ms)
    note_run_time(job[4], now - job[7])
    if now + GATE_MS > tonumber(job[9]) then  -- which a slot outlives, and no one shortens
      redis.call('ZADD', SLOTS[job[4]], 'XX', 'GT', integer(now + GATE_MS), id)
    end
    drop_entry(job[8] or job[4], job[5])
    notify(id, token .. '-' .. integer(number), last)
  end
  return inboxes
end

-- Puts a job in hand back, for anyone to take at once. `counted`: this delivery was an attempt.
function transition.requeue(queue, token, counted, isolated)
  local job = get('state', 'token', 'entry', 'deliveries')
  if job[1] ~= 'running' or job[2] ~= token then return 0 end
  redis.call('HSET', JOB, 'state', 'queued', 'token', job[2] + 1, 'isolated', isolated,
    'deliveries', counted == '1' and job[4] or job[4] - 1)
  redis.call('XCLAIM', STREAM[queue], GROUP, RETURNED, 0, job[3], 'IDLE', RETURNED_IDLE_MS, 'JUSTID')
  return 1
end

-- The same for all that a consumer still holds: one that leaves, or one that is known to be dead. Removes it.
function transition.release_consumer(queue, consumer)
  local pending = redis.pcall('XPENDING', STREAM[queue], GROUP, '-', '+', 1000, consumer)
  if pending.err then return 0 end  -- no stream or no group: nothing to release
  for _, item in ipairs(pending) do
    redis.call('XCLAIM', STREAM[queue], GROUP, RETURNED, 0, item[1], 'IDLE', RETURNED_IDLE_MS, 'JUSTID')
  end
  if #pending < 1000 then redis.call('XGROUP', 'DELCONSUMER', STREAM[queue], GROUP, consumer) end
  return #pending
end

-- Removes consumers of long gone workers that hold nothing.
function transition.tidy_consumers(queue, idle_ms)
  local removed = 0
  for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', STREAM[queue], GROUP)) do
    local consumer = {}
    for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
    if consumer.pending == 0 and consumer.idle > tonumber(idle_ms) then
      redis.call('XGROUP', 'DELCONSUMER', STREAM[queue], GROUP, consumer.name)
      removed = removed + 1
    end
  end
  return removed
end
