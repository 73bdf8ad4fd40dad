-- Webhooks: who is still to be told of an ended job. Each `transition` is a script of its own. KEYS: the ended jobs by when
-- the next try is due, then of one job its record. A try is under a lease: whoever dies with it leaves it to others.

local WEBHOOKS, JOB = KEYS[1], KEYS[2]

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function integer(value)
  return string.format('%.0f', value)
end

-- Ids of those that are due, longest ago first.
function transition.webhooks_due(limit)
  return redis.call('ZRANGEBYSCORE', WEBHOOKS, '-inf', integer(now_ms()), 'LIMIT', 0, limit)
end

-- Takes one: {url, which try it is, from 1 on}; false where another process was faster, or the job is forgotten.
function transition.webhook_take(id, lease_ms)
  local due_ms, now = redis.call('ZSCORE', WEBHOOKS, id), now_ms()
  if not due_ms or tonumber(due_ms) > now then return false end
  local url = redis.call('HGET', JOB, 'callback')
  if not url then
    redis.call('ZREM', WEBHOOKS, id)
    return false
  end
  redis.call('ZADD', WEBHOOKS, integer(now + lease_ms), id)
  return {url, redis.call('HINCRBY', JOB, 'callback_tries', 1)}
end

-- What follows from a try: the next one after `wait_ms`, or none where that is negative. Then the record is kept no longer
-- than others. Returns 0 where another try has begun meanwhile.
function transition.webhook_settle(id, try, wait_ms)
  local job = redis.call('HMGET', JOB, 'callback_tries', 'ended_ms', 'retention_ms')
  if job[1] ~= try then return 0 end
  local now = now_ms()
  if tonumber(wait_ms) >= 0 then
    redis.call('ZADD', WEBHOOKS, integer(now + wait_ms), id)
    return 1
  end
  redis.call('ZREM', WEBHOOKS, id)
  redis.call('HDEL', JOB, 'callback')
  redis.call('PEXPIRE', JOB, integer(math.max(1, job[2] + job[3] - now)))
  return 1
end
