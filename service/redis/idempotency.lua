-- Which jobs answer an Idempotency-Key. Each `transition` is a script of its own. KEYS: the key's record, then the records
-- of the jobs that have it, where they are known: one for each answer of the request. The first one's id names them all.

local RECORD = KEYS[1]
local IN_WORK = {reserved = true, queued = true, running = true, generated = true}

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- What the jobs of an earlier request have come to, together: one that failed or was cancelled has no answer, and one that
-- is nowhere never began, once its claim is old. While any is in work, so are all.
local function come_to(is_old)
  local found = 'ended'
  for i = 2, #KEYS do
    local state = redis.call('HGET', KEYS[i], 'state')
    if IN_WORK[state] or (not state and not is_old) then return 'running' end
    if state ~= 'done' and state ~= 'refused' then found = 'failed' end
  end
  return found
end

-- Gives the key to `job_id`, unless earlier jobs have it that are in work or have answers; the claim of one that never
-- began counts for `claim_ms`. Returns {'new'}, {'other'}: it was
-- another request's; {'running', id}, {'ended', id}; or {'ask', id}: to be asked again with that job's record.
function transition.idempotency_claim(fingerprint, job_id, claim_ms, kept_ms, holder)
  local current, now = redis.call('HMGET', RECORD, 'fingerprint', 'job', 'claimed_ms'), now_ms()
  if current[1] then
    if current[1] ~= fingerprint then return {'other'} end
    if current[2] ~= holder then return {'ask', current[2]} end
    local found = come_to(now >= current[3] + claim_ms)
    if found ~= 'failed' then return {found, holder} end
  end
  redis.call('HSET', RECORD, 'fingerprint', fingerprint, 'job', job_id, 'claimed_ms', string.format('%.0f', now))
  redis.call('PEXPIRE', RECORD, kept_ms)
  return {'new'}
end

-- Of a job that got no slot.
function transition.idempotency_release(job_id)
  if redis.call('HGET', RECORD, 'job') == job_id then redis.call('UNLINK', RECORD) end
  return 1
end
