-- Files that clients upload and batches write: lists of lines within byte budgets of all and of each tenant. Each `transition`
-- is a script of its own. KEYS: files by their expiry, bytes by tenant, the tenant's files, the file, its lines.

local FILES, BYTES, OF_TENANT, FILE, LINES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ALL = '*'                         -- no tenant's name
local IN_USE_MS = 3600000               -- after which an expired file that a batch still reads is looked at again

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function take(tenant, bytes)
  for _, owner in ipairs({ALL, tenant}) do redis.call('HINCRBY', BYTES, owner, bytes) end
end

-- Takes the room of a file whose lines are about to come, for `lease_ms`. Returns 'ok', or whose budget has none: 'all', 'tenant'.
function transition.file_begin(member, tenant, bytes, budget_bytes, tenant_bytes, lease_ms)
  if (tonumber(redis.call('HGET', BYTES, ALL)) or 0) + bytes > tonumber(budget_bytes) then return 'all' end
  if (tonumber(redis.call('HGET', BYTES, tenant)) or 0) + bytes > tonumber(tenant_bytes) then return 'tenant' end
  take(tenant, bytes)
  redis.call('HSET', FILE, 'bytes', bytes)
  redis.call('ZADD', FILES, string.format('%.0f', now_ms() + lease_ms), member)
  return 'ok'
end

-- All lines are there: from now on the file can be read. Returns when it was made and expires; nil: it took too long.
function transition.file_ready(member, id, name, purpose, size, ttl_ms)
  if not redis.call('ZSCORE', FILES, member) then return false end
  local now = now_ms()
  local created, expires = string.format('%.0f', now), string.format('%.0f', now + ttl_ms)
  redis.call('HSET', FILE, 'name', name, 'purpose', purpose, 'size', size, 'created_ms', created, 'expires_ms', expires)
  redis.call('ZADD', FILES, expires, member)
  redis.call('ZADD', OF_TENANT, created, id)
  return {created, expires}
end

-- Deletes a file, or with `is_sweep` one that has expired. Returns 1; 0: there is none, or it has not; -1: a batch reads it.
function transition.file_delete(member, tenant, id, is_sweep)
  local expires, now = redis.call('ZSCORE', FILES, member), now_ms()
  if not expires or (is_sweep == '1' and tonumber(expires) > now) then return 0 end
  if (tonumber(redis.call('HGET', FILE, 'uses')) or 0) > 0 then
    if is_sweep == '1' then redis.call('ZADD', FILES, string.format('%.0f', now + IN_USE_MS), member) end
    return -1
  end
  take(tenant, -(tonumber(redis.call('HGET', FILE, 'bytes')) or 0))
  redis.call('UNLINK', FILE, LINES)
  redis.call('ZREM', FILES, member)
  redis.call('ZREM', OF_TENANT, id)
  return 1
end
