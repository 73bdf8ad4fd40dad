-- Batches: which are to be worked on, and what has come of each of their lines. Each `transition` is a script of its own.
-- KEYS: unfinished batches by the expiry of the lease on them, the batch, which of its lines have a result; what else a
-- transition is handed stands above it. Whoever works on a batch has its `token`: what others say of it is not heard.

local BATCHES, BATCH, DONE = KEYS[1], KEYS[2], KEYS[3]
local ALL = '*'                         -- no tenant's name

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function is_held(token) return redis.call('HGET', BATCH, 'token') == token end

-- KEYS further: the tenant's batches, its input file, files by their expiry. With another `status` than in_progress it ends at once.
-- Returns {'ok', when}; {'gone'}: there is no such file; {'many'}: the tenant has `max_batches`.
function transition.batch_create(member, id, file_member, record, status, errors, total, window_ms, kept_ms, max_batches)
  local OF_TENANT, INPUT, FILES = KEYS[4], KEYS[5], KEYS[6]
  local now = now_ms()
  if redis.call('HEXISTS', INPUT, 'created_ms') == 0 then return {'gone'} end
  redis.call('ZREMRANGEBYSCORE', OF_TENANT, '-inf', string.format('%.0f', now - window_ms - kept_ms))
  if redis.call('ZCARD', OF_TENANT) >= tonumber(max_batches) then return {'many'} end
  local created, expires = string.format('%.0f', now), string.format('%.0f', now + window_ms)
  redis.call('HSET', BATCH, 'record', record, 'status', status, 'errors', errors, 'total', total, 'created_ms', created,
    'expires_ms', expires, status .. '_ms', created)
  redis.call('ZADD', OF_TENANT, created, id)
  if status ~= 'in_progress' then
    redis.call('PEXPIRE', BATCH, kept_ms)
    return {'ok', created}
  end
  redis.call('HINCRBY', INPUT, 'uses', 1)
  redis.call('ZADD', FILES, 'GT', string.format('%.0f', now + window_ms + kept_ms), file_member)
  redis.call('ZADD', BATCHES, created, member)
  return {'ok', created}
end

-- The batch that waits longest for somebody to work on it.
function transition.batch_due()
  return redis.call('ZRANGEBYSCORE', BATCHES, '-inf', string.format('%.0f', now_ms()), 'LIMIT', 0, 1)
end

-- Takes a batch, unless another one was faster. Returns its token and which lines have a result.
function transition.batch_take(member, lease_ms)
  local free_from, now = redis.call('ZSCORE', BATCHES, member), now_ms()
  if not free_from or tonumber(free_from) > now then return false end
  if redis.call('EXISTS', BATCH) == 0 then
    redis.call('ZREM', BATCHES, member)
    return false
  end
  redis.call('ZADD', BATCHES, string.format('%.0f', now + lease_ms), member)
  return {tostring(redis.call('HINCRBY', BATCH, 'token', 1)), redis.call('GET', DONE) or ''}
end

-- Keeps the lease; 0 gives it up, and lets others go first. Returns nil where it is lost, else the status, the ms that the
-- batch has left, and how many others wait for somebody to work on them.
function transition.batch_renew(member, token, lease_ms)
  if not is_held(token) then return false end
  local now = now_ms()
  redis.call('ZADD', BATCHES, 'XX', string.format('%.0f', now + lease_ms), member)
  if lease_ms == '0' then redis.call('HINCRBY', BATCH, 'token', 1) end
  local status, expires = unpack(redis.call('HMGET', BATCH, 'status', 'expires_ms'))
  return {status, string.format('%.0f', expires - now), redis.call('ZCOUNT', BATCHES, '-inf', string.format('%.0f', now))}
end

-- Returns the status before.
function transition.batch_cancel()
  local status = redis.call('HGET', BATCH, 'status')
  if status == 'in_progress' then
    redis.call('HSET', BATCH, 'status', 'cancelling', 'cancelling_ms', string.format('%.0f', now_ms()))
  end
  return status
end

-- A line's result, once: `counted` is 'completed' or 'failed'. KEYS further: files by their expiry, bytes by tenant, the
-- tenant's files, the file that the result is written to, its lines. Returns 'ok', 'again', 'lost' or 'full'.
function transition.batch_record(token, number, counted, line, member, tenant, id, name, file_cost, budget_bytes, tenant_bytes,
    ttl_ms)
  local FILES, BYTES, OF_TENANT, FILE, LINES = KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
  if not is_held(token) then return 'lost' end
  if redis.call('GETBIT', DONE, number) == 1 then return 'again' end
  local is_new = redis.call('EXISTS', FILE) == 0
  local bytes = #line + (is_new and file_cost or 0)
  for owner, budget in pairs({[ALL] = budget_bytes, [tenant] = tenant_bytes}) do
    if (tonumber(redis.call('HGET', BYTES, owner)) or 0) + bytes > tonumber(budget) then return 'full' end
  end
  redis.call('RPUSH', LINES, line)
  redis.call('SETBIT', DONE, number, 1)
  redis.call('HINCRBY', BATCH, counted, 1)
  for _, owner in ipairs({ALL, tenant}) do redis.call('HINCRBY', BYTES, owner, bytes) end
  local now = now_ms()
  local created, expires = string.format('%.0f', now), string.format('%.0f', now + ttl_ms)
  if is_new then
    redis.call('HSET', FILE, 'name', name, 'purpose', 'batch_output', 'created_ms', created)
    redis.call('ZADD', OF_TENANT, created, id)
  end
  redis.call('HINCRBY', FILE, 'bytes', bytes)
  redis.call('HINCRBY', FILE, 'size', #line)
  redis.call('HSET', FILE, 'expires_ms', expires)
  redis.call('ZADD', FILES, expires, member)
  return 'ok'
end

-- The batch is over: nobody works on it any more. KEYS further: its input file. Returns 0 where the lease is lost.
function transition.batch_end(member, token, status, errors, kept_ms)
  local INPUT = KEYS[4]
  if not is_held(token) then return 0 end
  redis.call('HSET', BATCH, 'status', status, 'errors', errors, status .. '_ms', string.format('%.0f', now_ms()))
  redis.call('HDEL', BATCH, 'token')
  redis.call('UNLINK', DONE)
  redis.call('PEXPIRE', BATCH, kept_ms)
  redis.call('ZREM', BATCHES, member)
  if redis.call('EXISTS', INPUT) == 1 then redis.call('HINCRBY', INPUT, 'uses', -1) end
  return 1
end
