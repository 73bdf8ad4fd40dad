-- Which job answers an Idempotency-Key. Each `transition` is a script of its own. KEYS: the key's record, then the record
-- of the job that has it, where that is known.

local RECORD, HOLDER = KEYS[1], KEYS[2]
local IN_WORK = {reserved = true, queued = true, running = true, generated = true}

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Gives the key to `job_id`, unless an earlier job has it that is in work or has an answer: one that failed or was cancelled
-- has none, and one that is nowhere never began, once its claim is `claim_ms` old. Returns {'new'}, {'other'}: it was
-- another request's; {'running', id}, {'ended', id}; or {'ask', id}: to be asked again with that job's record.
function transition.idempotency_claim(fingerprint, job_id, claim_ms, kept_ms, holder)
  local current, now = redis.call('HMGET', RECORD, 'fingerprint', 'job', 'claimed_ms'), now_ms()
  if current[1] then
    if current[1] ~= fingerprint then return {'other'} end
    if current[2] ~= holder then return {'ask', current[2]} end
    local state = redis.call('HGET', HOLDER, 'state')
    if state == 'done' or state == 'refused' then return {'ended', holder} end
    if IN_WORK[state] or (not state and now < current[3] + claim_ms) then return {'running', holder} end
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
