-- Every transition in a job's life, each atomic. Each `transition` function is sent as a script of its own, with all that stands
-- before the first one; its arguments are ARGV.
--
-- reserved -> queued -> running -> generated -> done | refused | failed | cancelled
--
-- Keys: job:{id} hash, pixels:{id} string, events:{id} stream, slots:{kind} zset by expiry, jobs:{kind} stream with the group `workers`,
-- dead:{kind} stream, pending_moderation zset, inbox:{process} stream, api:{process}, worker:{id}, workers zset, model:{kind},
-- accounting hash, vision:… and verdict:… strings with vision-cache:{used,sizes,bytes} and verdict-cache:….
-- Time is the server's, so no other clock decides about a lease. One server holds all keys (no cluster).

local GROUP = 'workers'
local RETURNED = 'returned'            -- consumer that holds entries which anyone may take at once
local RETURNED_IDLE_MS = 86400000
local INLINE_BYTES = 4096              -- larger events go into an inbox as a pointer
local INBOX_LENGTH = 16384
local DEAD_LENGTH = 100
local GATE_MS = 60000                  -- a finished result keeps its slot at least this long to be screened
local PIXELS_MS = 600000               -- beyond the deadline, should nothing end the job
local KINDS = {'chat', 'paint', 'safety'}
local ENDED = {done = true, refused = true, failed = true, cancelled = true}

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function integer(value)
  return string.format('%.0f', value)
end

local function get(id, ...)
  return redis.call('HMGET', 'job:' .. id, ...)
end

local function notify(id, inboxes, position, payload, skipped)
  if #payload > INLINE_BYTES then payload = '' end
  for process in string.gmatch(inboxes or '', '%S+') do
    if process ~= skipped then
      redis.call('XADD', 'inbox:' .. process, 'NOMKSTREAM', 'MAXLEN', '~', INBOX_LENGTH, '*',
        'j', id, 'p', position, 'd', payload)
    end
  end
end

local function drop_entry(kind, entry)
  if entry then
    redis.call('XACK', 'jobs:' .. kind, GROUP, entry)
    redis.call('XDEL', 'jobs:' .. kind, entry)
  end
end

-- A conversation is the hash `key`, the list `key`:turns and the string `key`:pixels, which its first job leaves to it.
local function append_turn(id, key, is_new, turn, max_turns, ttl_ms, fields)
  if not is_new and redis.call('EXISTS', key) == 0 then return end  -- deleted meanwhile: stays deleted
  if is_new and redis.call('EXISTS', 'pixels:' .. id) == 1 then
    redis.call('RENAME', 'pixels:' .. id, key .. ':pixels')
  end
  if #fields > 0 then redis.call('HSET', key, unpack(fields)) end
  redis.call('RPUSH', key .. ':turns', turn)
  redis.call('LTRIM', key .. ':turns', -max_turns, -1)
  for _, part in ipairs({'', ':turns', ':pixels'}) do redis.call('PEXPIRE', key .. part, ttl_ms) end
end

-- The one place where a job ends. Frees before it writes, so that a full server still lets jobs end.
-- Returns the state before, or false when the job had ended already.
local function end_job(id, state, ending, skipped)
  local job = get(id, 'state', 'kind', 'entry', 'inboxes', 'busy_key', 'retention_ms')
  local before, kind = job[1], job[2]
  if ENDED[before] then return false end
  redis.call('ZREM', 'slots:' .. kind, id)
  if before == 'generated' then
    redis.call('ZREM', 'pending_moderation', id)
  else
    drop_entry(kind, job[3])
  end
  if before ~= 'reserved' then
    redis.call('HDEL', 'job:' .. id, 'result', 'intent')
    redis.call('UNLINK', 'pixels:' .. id)
  end
  if job[5] and redis.call('GET', job[5]) == id then redis.call('DEL', job[5]) end
  redis.call('HSET', 'job:' .. id, 'state', state, 'ending', ending, 'ended_ms', integer(now_ms()))
  redis.call('HINCRBY', 'accounting', state .. ':' .. kind, 1)
  redis.call('PEXPIRE', 'job:' .. id, job[6])
  redis.call('PEXPIRE', 'events:' .. id, job[6])
  if before == 'running' then redis.call('PUBLISH', 'cancelled', id) end
  notify(id, job[4], 'end', ending, skipped)
  return before
end

local function ending_of(state, code, message)
  return cmsgpack.pack({state = state, code = code, message = message})
end

-- Ends what outlived its slot: {kind, state before, state after} for each.
local function sweep_kind(kind, limit, swept)
  local ids = redis.call('ZRANGEBYSCORE', 'slots:' .. kind, '-inf', integer(now_ms()), 'LIMIT', 0, limit)
  for _, id in ipairs(ids) do
    local before = get(id, 'state')[1]
    local after = 'cancelled'
    if not before then
      before, after = 'lost', 'failed'
      redis.call('ZREM', 'slots:' .. kind, id)
      redis.call('HINCRBY', 'accounting', 'failed:' .. kind, 1)
    elseif before == 'reserved' then
      after = 'failed'
      end_job(id, after, ending_of(after, 'job_failed', 'the request was abandoned before its job was submitted'))
    else
      end_job(id, after, ending_of(after, 'deadline_exceeded', 'the job did not end before its deadline'))
    end
    table.insert(swept, {kind, before, after})
  end
end

-- Caches (vision-cache, verdict-cache) with budgets of their own, since the server itself evicts nothing: when each of
-- its keys was used last, their sizes, and the sum of those.
local function forget_cached(cache, key)
  local size = redis.call('HGET', cache .. ':sizes', key)
  redis.call('UNLINK', key)
  redis.call('ZREM', cache .. ':used', key)
  redis.call('HDEL', cache .. ':sizes', key)
  if size then redis.call('DECRBY', cache .. ':bytes', size) end
end

-- Results wait in `pending_moderation` for their ending, by the expiry of the lease under which one API process, the
-- field `finalizer`, finalizes them.
local function lease_result(id, process, expiry_ms)
  redis.call('HSET', 'job:' .. id, 'finalizer', process)
  redis.call('ZADD', 'pending_moderation', integer(expiry_ms), id)
end

local function is_result_free(id, finalizer)
  if not finalizer or redis.call('EXISTS', 'api:' .. finalizer) == 0 then return true end
  return (redis.call('ZSCORE', 'pending_moderation', id) or 0) - now_ms() <= 0
end

-- API ---------------------------------------------------------------------------------------------------------------

-- Marks this API process alive. Returns 1 when its inbox had to be made.
function transition.api_beat(process, alive_ms, inbox_ms)
  redis.call('SET', 'api:' .. process, '1', 'PX', alive_ms)
  if redis.call('PEXPIRE', 'inbox:' .. process, inbox_ms) == 1 then return 0 end
  redis.call('XADD', 'inbox:' .. process, '*', 'j', '', 'p', '', 'd', '')
  redis.call('PEXPIRE', 'inbox:' .. process, inbox_ms)
  return 1
end

function transition.api_leave(process)
  return redis.call('DEL', 'api:' .. process, 'inbox:' .. process)
end

-- Returns 1, or 0 when no slot is free.
function transition.reserve(kind, id, process, tenant, queue_size, lease_ms, retention_ms)
  sweep_kind(kind, 16, {})
  if redis.call('ZCARD', 'slots:' .. kind) >= tonumber(queue_size) then return 0 end
  local now = now_ms()
  redis.call('HSET', 'job:' .. id, 'kind', kind, 'tenant', tenant, 'state', 'reserved', 'owner', process,
    'inboxes', process, 'created_ms', integer(now), 'retention_ms', retention_ms)
  redis.call('ZADD', 'slots:' .. kind, integer(now + lease_ms), id)
  redis.call('HINCRBY', 'accounting', 'accepted:' .. kind, 1)
  return 1
end

-- Returns the state before: anything but `reserved` means that nothing was queued.
function transition.submit(kind, id, job, pixels, intent, busy_key, deadline_ms, grace_ms)
  local before = get(id, 'state')[1]
  if before ~= 'reserved' then return before end
  local now = now_ms()
  if pixels ~= '' then redis.call('SET', 'pixels:' .. id, pixels, 'PX', deadline_ms + grace_ms + PIXELS_MS) end
  local entry = redis.call('XADD', 'jobs:' .. kind, '*', 'id', id, 'job', job)
  redis.call('HSET', 'job:' .. id, 'state', 'queued', 'entry', entry, 'intent', intent, 'token', '0',
    'deliveries', '0', 'queued_ms', integer(now), 'deadline_ms', integer(now + deadline_ms))
  if busy_key ~= '' then redis.call('HSET', 'job:' .. id, 'busy_key', busy_key) end
  redis.call('ZADD', 'slots:' .. kind, integer(now + deadline_ms + grace_ms), id)
  return before
end

-- Writes an ending by compare-and-set, with the conversation's turn in the same transition.
-- Returns {state before, kind}, {'ended', kind}, or false for an unknown job.
function transition.finish(id, process, state, ending, key, is_new, turn, max_turns, ttl_ms, ...)
  local job = get(id, 'state', 'kind')
  local before, kind = job[1], job[2]
  if not before then return false end
  if state == 'done' and before ~= 'generated' and not ENDED[before] then return {before, kind} end
  if ENDED[before] then return {'ended', kind} end
  redis.call('ZREM', 'slots:' .. kind, id)  -- freeing first: see end_job
  if key ~= '' and state == 'done' then
    append_turn(id, key, is_new == '1', turn, tonumber(max_turns), ttl_ms, {...})
  end
  end_job(id, state, ending, process)
  return {before, kind}
end

-- What a watcher has not seen yet, and from now on its process hears of more.
function transition.follow(id, process, token, number)
  local job = get(id, 'state', 'inboxes', 'deadline_ms', 'token', 'result', 'result_number', 'ending')
  if not job[1] then return false end
  if not ENDED[job[1]] and not string.find(' ' .. job[2] .. ' ', ' ' .. process .. ' ', 1, true) then
    redis.call('HSET', 'job:' .. id, 'inboxes', job[2] .. ' ' .. process)
  end
  local left_ms = -1
  if job[3] then left_ms = math.max(0, job[3] - now_ms()) end
  local events = redis.call('XRANGE', 'events:' .. id, '(' .. token .. '-' .. number, '+')
  local position = ''
  if job[5] then position = job[4] .. '-' .. job[6] end
  return {job[1], left_ms, events, position, job[5] or '', job[7] or ''}
end

function transition.sweep(limit)
  local swept = {}
  for _, kind in ipairs(KINDS) do sweep_kind(kind, limit, swept) end
  return swept
end

-- Takes the lease on a result: {intent, result, ms until the deadline}; false where it is another's, or there is none.
function transition.claim_result(id, process, lease_ms)
  local job = get(id, 'state', 'finalizer', 'intent', 'result', 'deadline_ms')
  if job[1] ~= 'generated' then return false end
  if job[2] ~= process and not is_result_free(id, job[2]) then return false end
  local now = now_ms()
  lease_result(id, process, now + lease_ms)
  return {job[3], job[4], math.max(0, job[5] - now)}
end

function transition.renew_result(id, process, lease_ms)
  local job = get(id, 'state', 'finalizer')
  if job[1] ~= 'generated' or job[2] ~= process then return 0 end
  lease_result(id, process, now_ms() + lease_ms)
  return 1
end

-- Results that nobody finalizes: the process that held their lease is gone, or did not renew it. Returns their ids.
function transition.abandoned(process, limit)
  local ids = {}
  for _, id in ipairs(redis.call('ZRANGE', 'pending_moderation', 0, limit - 1)) do
    local job = get(id, 'state', 'finalizer')
    if job[1] ~= 'generated' then
      redis.call('ZREM', 'pending_moderation', id)
    elseif is_result_free(id, job[2]) then
      table.insert(ids, id)
    end
  end
  return ids
end

-- Worker ------------------------------------------------------------------------------------------------------------

-- Turns a stream entry that this consumer was handed into a job to run.
-- {'run', token, delivery, isolated, queued for ms, pixels}, {'gone'}, {'dead', deliveries}, or {'isolated'}: only with empty hands.
function transition.claim(kind, entry, id, consumer, max_deliveries, in_hand)
  local pending = redis.call('XPENDING', 'jobs:' .. kind, GROUP, entry, entry, 1)[1]
  if not pending or pending[2] ~= consumer then return {'gone'} end
  local job = get(id, 'state', 'entry', 'token', 'deliveries', 'isolated', 'queued_ms')
  if job[2] ~= entry or (job[1] ~= 'queued' and job[1] ~= 'running') then
    drop_entry(kind, entry)
    return {'gone'}
  end
  max_deliveries = tonumber(max_deliveries)
  local delivery = job[4] + 1
  if delivery > max_deliveries then
    local data = redis.call('XRANGE', 'jobs:' .. kind, entry, entry)[1]
    redis.call('XADD', 'dead:' .. kind, 'MAXLEN', '~', DEAD_LENGTH, '*', unpack(data[2]))
    end_job(id, 'failed', ending_of('failed', 'job_failed',
      'job ' .. id .. ' failed: its worker died or hung in each of ' .. job[4] .. ' attempts'))
    return {'dead', job[4]}
  end
  -- What may be the cause of two deaths gets its last try isolated, so that it takes nobody along.
  local isolated = job[5] == '1' or (delivery > 1 and delivery == max_deliveries)
  if isolated and tonumber(in_hand) > 0 then return {'isolated'} end
  local now = now_ms()
  redis.call('HSET', 'job:' .. id, 'state', 'running', 'token', job[3] + 1, 'deliveries', delivery,
    'worker', consumer, 'started_ms', integer(now))
  -- A chat engine may know the image already: its worker reads the pixels where they are asked for
  local pixels = kind == 'safety' and redis.call('GET', 'pixels:' .. id)
  return {'run', job[3] + 1, delivery, isolated and 1 or 0, now - job[6], pixels or ''}
end

-- Keeps leases: id, token, entry of each job in hand. Returns 1 or 0 (lost) for each.
function transition.renew(kind, consumer, ...)
  local kept = {}
  for i = 1, select('#', ...), 3 do
    local id, token, entry = select(i, ...)
    local job = get(id, 'state', 'token')
    if job[1] == 'running' and job[2] == token then
      redis.call('XCLAIM', 'jobs:' .. kind, GROUP, consumer, 0, entry, 'JUSTID')
      table.insert(kept, 1)
    else
      table.insert(kept, 0)
    end
  end
  return kept
end

-- Events of one delivery, numbered from `number` on, and perhaps its last one: a result (`generated`) or an ending
-- (`failed`). All or nothing, and the same call again changes nothing. Returns 1, or 0: fenced off, or ended.
function transition.publish(id, token, number, last_state, last, lease_ms, ...)
  local job = get(id, 'state', 'token', 'inboxes', 'kind', 'entry', 'owner')
  if job[2] ~= token then return 0 end
  if last_state ~= '' and job[1] == last_state then return 1 end
  if job[1] ~= 'running' then return 0 end
  number = tonumber(number)
  for _, event in ipairs({...}) do
    local position = token .. '-' .. integer(number)
    number = number + 1
    local added = redis.pcall('XADD', 'events:' .. id, position, 'd', event)
    if type(added) ~= 'table' or not added.err then
      notify(id, job[3], position, event)
    elseif not string.find(added.err, 'equal or smaller', 1, true) then
      return added
    end
  end
  if last_state == 'failed' then
    end_job(id, 'failed', last)
  elseif last_state == 'generated' then
    local now = now_ms()
    redis.call('HSET', 'job:' .. id, 'state', 'generated', 'result', last, 'result_number', integer(number),
      'generated_ms', integer(now))
    -- The process that queued the job waits for its result: it needs no word from here to finalize it
    lease_result(id, job[6], now + lease_ms)
    redis.call('ZADD', 'slots:' .. job[4], 'XX', 'GT', integer(now + GATE_MS), id)
    drop_entry(job[4], job[5])
    notify(id, job[3], token .. '-' .. integer(number), last)
  end
  return 1
end

-- Puts a job in hand back, for anyone to take at once. `counted`: this delivery was an attempt.
function transition.requeue(kind, id, token, counted, isolated)
  local job = get(id, 'state', 'token', 'entry', 'deliveries')
  if job[1] ~= 'running' or job[2] ~= token then return 0 end
  redis.call('HSET', 'job:' .. id, 'state', 'queued', 'token', job[2] + 1, 'isolated', isolated,
    'deliveries', counted == '1' and job[4] or job[4] - 1)
  redis.call('XCLAIM', 'jobs:' .. kind, GROUP, RETURNED, 0, job[3], 'IDLE', RETURNED_IDLE_MS, 'JUSTID')
  return 1
end

-- The same for all that a consumer still holds: one that leaves, or one that is known to be dead. Removes it.
function transition.release_consumer(kind, consumer)
  local pending = redis.pcall('XPENDING', 'jobs:' .. kind, GROUP, '-', '+', 1000, consumer)
  if pending.err then return 0 end  -- no stream or no group: nothing to release
  for _, item in ipairs(pending) do
    redis.call('XCLAIM', 'jobs:' .. kind, GROUP, RETURNED, 0, item[1], 'IDLE', RETURNED_IDLE_MS, 'JUSTID')
  end
  if #pending < 1000 then redis.call('XGROUP', 'DELCONSUMER', 'jobs:' .. kind, GROUP, consumer) end
  return #pending
end

-- Removes consumers of long gone workers that hold nothing.
function transition.tidy_consumers(kind, idle_ms)
  local removed = 0
  for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', 'jobs:' .. kind, GROUP)) do
    local consumer = {}
    for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
    if consumer.pending == 0 and consumer.idle > tonumber(idle_ms) then
      redis.call('XGROUP', 'DELCONSUMER', 'jobs:' .. kind, GROUP, consumer.name)
      removed = removed + 1
    end
  end
  return removed
end

-- Heartbeats --------------------------------------------------------------------------------------------------------

function transition.worker_beat(worker, info, expiry_ms, kind, description)
  redis.call('SET', 'worker:' .. worker, info, 'PX', expiry_ms)
  redis.call('ZADD', 'workers', integer(now_ms()), worker)
  if description ~= '' then redis.call('SET', 'model:' .. kind, description) end
  return 1
end

function transition.worker_leave(worker)
  redis.call('DEL', 'worker:' .. worker)
  return redis.call('ZREM', 'workers', worker)
end

-- {info, age in ms} of each live worker.
function transition.workers(forget_ms)
  local now = now_ms()
  redis.call('ZREMRANGEBYSCORE', 'workers', '-inf', integer(now - forget_ms))
  local live = {}
  local beats = redis.call('ZRANGE', 'workers', 0, -1, 'WITHSCORES')
  for i = 1, #beats, 2 do
    local info = redis.call('GET', 'worker:' .. beats[i])
    if info then table.insert(live, {info, now - beats[i + 1]}) end
  end
  return live
end

-- Caches ------------------------------------------------------------------------------------------------------------

function transition.cache_get(cache, key, ttl_ms)
  local data = redis.call('GET', key)
  if data then
    redis.call('PEXPIRE', key, ttl_ms)
    redis.call('ZADD', cache .. ':used', 'XX', integer(now_ms()), key)
  end
  return data
end

-- `entry_bytes` is what an entry costs beyond its value. Returns 0 for one that is larger than the whole budget.
function transition.cache_put(cache, key, data, budget_bytes, ttl_ms, entry_bytes)
  budget_bytes = tonumber(budget_bytes)
  local size = #data + entry_bytes
  forget_cached(cache, key)
  local old = integer(now_ms() - ttl_ms)
  for _, expired in ipairs(redis.call('ZRANGEBYSCORE', cache .. ':used', '-inf', old)) do
    forget_cached(cache, expired)
  end
  if size > budget_bytes then return 0 end
  while tonumber(redis.call('GET', cache .. ':bytes') or 0) + size > budget_bytes do
    forget_cached(cache, redis.call('ZRANGE', cache .. ':used', 0, 0)[1])
  end
  redis.call('SET', key, data, 'PX', ttl_ms)
  redis.call('ZADD', cache .. ':used', integer(now_ms()), key)
  redis.call('HSET', cache .. ':sizes', key, integer(size))
  redis.call('INCRBY', cache .. ':bytes', integer(size))
  return 1
end

-- Forgets a picture's state under every model: the keys end with `suffix`.
function transition.cache_forget(cache, suffix)
  local forgotten = 0
  for _, key in ipairs(redis.call('ZRANGE', cache .. ':used', 0, -1)) do
    if string.sub(key, -#suffix) == suffix then
      forget_cached(cache, key)
      forgotten = forgotten + 1
    end
  end
  return forgotten
end
