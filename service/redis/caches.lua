-- Caches with budgets of their own, since the server itself evicts nothing. Each `transition` is a script of its own.
-- KEYS: hash of the values, zset of their last use, sum of their bytes. `entry_bytes` is what an entry costs beyond its value.

local VALUES, USED, BYTES = KEYS[1], KEYS[2], KEYS[3]
local EXPIRED_AT_ONCE = 64             -- so that no call holds the server for long

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function forget(field, entry_bytes)
  local size = redis.call('HSTRLEN', VALUES, field)
  if redis.call('HDEL', VALUES, field) == 1 then redis.call('DECRBY', BYTES, size + entry_bytes) end
  redis.call('ZREM', USED, field)
end

-- A cache whose books disagree, since somebody deleted a key by hand, begins anew.
local function heal()
  local known = redis.call('ZCARD', USED)
  if known == redis.call('HLEN', VALUES) and (known > 0) == (tonumber(redis.call('GET', BYTES) or 0) > 0) then return end
  redis.call('UNLINK', VALUES, USED, BYTES)
end

function transition.cache_get(field, ttl_ms)
  local used_ms = redis.call('ZSCORE', USED, field)
  local now = now_ms()
  if not used_ms or tonumber(used_ms) <= now - ttl_ms then return false end
  redis.call('ZADD', USED, 'XX', string.format('%.0f', now), field)
  for _, key in ipairs({VALUES, USED, BYTES}) do redis.call('PEXPIRE', key, ttl_ms) end
  return redis.call('HGET', VALUES, field)
end

-- Returns 0 for a value that is larger than the whole budget.
function transition.cache_put(field, value, budget_bytes, ttl_ms, entry_bytes)
  budget_bytes = tonumber(budget_bytes)
  heal()
  forget(field, entry_bytes)
  local now, size = now_ms(), #value + entry_bytes
  local expired = redis.call('ZRANGEBYSCORE', USED, '-inf', string.format('%.0f', now - ttl_ms),
    'LIMIT', 0, EXPIRED_AT_ONCE)
  for _, old in ipairs(expired) do forget(old, entry_bytes) end
  if size > budget_bytes then return 0 end
  while tonumber(redis.call('GET', BYTES) or 0) + size > budget_bytes do
    local oldest = redis.call('ZRANGE', USED, 0, 0)[1]
    if not oldest then
      redis.call('SET', BYTES, '0')
      break
    end
    forget(oldest, entry_bytes)
  end
  redis.call('HSET', VALUES, field, value)
  redis.call('ZADD', USED, string.format('%.0f', now), field)
  redis.call('INCRBY', BYTES, string.format('%.0f', size))
  for _, key in ipairs({VALUES, USED, BYTES}) do redis.call('PEXPIRE', key, ttl_ms) end
  return 1
end
