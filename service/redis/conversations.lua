-- Conversations between two turns; a turn itself is appended with its job's ending (transitions.lua). Each `transition`
-- is a script of its own. KEYS: index, sizes, total and expired ones (the books), then of one conversation its metadata,
-- turns, pixels, who answers, the jobs that answered, and its tenant's list (Keys.conversation), the vision cache
-- (caches.lua), then of the job that answers its record and pixels, where it is known.

local INDEX, SIZES, TOTAL, EXPIRED = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local META, TURNS, PIXELS, BUSY = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local JOBS, LISTED = KEYS[9], KEYS[10]
local VALUES, USED, BYTES = KEYS[11], KEYS[12], KEYS[13]
local HOLDER, HOLDER_PIXELS = KEYS[14], KEYS[15]
local NUM_EXPIRED = 20000              -- ids that are remembered as expired
local KEYS_BYTES = 1024                -- a conversation's keys themselves, and what the books keep (as transitions.lua)
local UNKNOWN, GONE = 0, 1

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function integer(value)
  return string.format('%.0f', value)
end

-- As its tenant lists it.
local function id_of(member)
  return string.match(member, '[^:]*$')
end

local function missing(member)
  if redis.call('ZSCORE', INDEX, member) or redis.call('ZSCORE', EXPIRED, member) then return GONE end
  return UNKNOWN
end

-- The job that answers the conversation's next turn; false: none does. `holder`: the one whose record was handed over.
local function answering(holder)
  local current = redis.call('GET', BUSY)
  if not current then return false end
  if current ~= holder then return current, 'asked' end
  return current, redis.call('HGET', HOLDER, 'state') or 'lost'
end

local IN_WORK = {reserved = true, queued = true, running = true, generated = true}

local function drop(member)
  local size = redis.call('HGET', SIZES, member)
  redis.call('UNLINK', META, TURNS, PIXELS, BUSY, JOBS)
  redis.call('ZREM', INDEX, member)
  redis.call('ZREM', LISTED, id_of(member))
  redis.call('HDEL', SIZES, member)
  if size then redis.call('DECRBY', TOTAL, size) end
  if redis.call('ZCARD', INDEX) == 0 then redis.call('UNLINK', TOTAL, SIZES) end  -- books that drifted heal
end

local function grow(member, bytes)
  redis.call('HINCRBY', SIZES, member, integer(bytes))
  redis.call('INCRBY', TOTAL, integer(bytes))
end

-- Forgets a picture's embeddings under every model: their fields end with `suffix`.
local function forget_image(suffix)
  for _, field in ipairs(redis.call('ZRANGE', USED, 0, -1)) do
    if string.sub(field, -#suffix) == suffix then
      redis.call('DECRBY', BYTES, redis.call('HSTRLEN', VALUES, field))
      redis.call('HDEL', VALUES, field)
      redis.call('ZREM', USED, field)
    end
  end
end

-- Marks the conversation busy for the job `id`, which is remembered for `job_ms`: {meta, turns, turns that are gone}. Or {0}: unknown, {1}: expired, {2}: busy; {3, id}: to be asked again with
-- that job's record.
function transition.conversation_open(member, id, busy_ms, ttl_ms, job_ms, holder)
  if redis.call('EXISTS', META) == 0 then return {missing(member)} end
  local current, state = answering(holder)
  if current and current ~= id then
    if state == 'asked' then return {3, current} end
    if IN_WORK[state] then return {2} end
  end
  local now = now_ms()
  redis.call('SET', BUSY, id, 'PX', busy_ms)
  redis.call('ZADD', JOBS, integer(now), id)
  redis.call('ZREMRANGEBYSCORE', JOBS, '-inf', integer(now - job_ms))
  for _, key in ipairs({META, TURNS, PIXELS, JOBS}) do redis.call('PEXPIRE', key, ttl_ms) end
  redis.call('ZADD', INDEX, 'XX', integer(now), member)
  redis.call('ZADD', LISTED, integer(now), id_of(member))
  return {redis.call('HGET', META, 'meta'), redis.call('LRANGE', TURNS, 0, -1), redis.call('HGET', META, 'gone') or '0'}
end

-- To look at: {meta, turns, turns that are gone, ms until it expires, title or ''}, or {0}, {1} as above.
function transition.conversation_get(member)
  if redis.call('EXISTS', META) == 0 then return {missing(member)} end
  local meta, gone, title = unpack(redis.call('HMGET', META, 'meta', 'gone', 'title'))
  return {meta, redis.call('LRANGE', TURNS, 0, -1), gone or '0', redis.call('PTTL', META), title or ''}
end

-- Gives it a title; '': none. It does not count as a use. Returns {2}, or {0}, {1} as above.
function transition.conversation_rename(member, title)
  if redis.call('EXISTS', META) == 0 then return {missing(member)} end
  local before = redis.call('HSTRLEN', META, 'title')
  if title == '' then redis.call('HDEL', META, 'title') else redis.call('HSET', META, 'title', title) end
  grow(member, #title - before)
  return {2}
end

-- A new one that comes whole: imported, or branched off another. KEYS up to LISTED.
function transition.conversation_create(member, meta, title, gone, pixels, ttl_ms, ...)
  local now, bytes = now_ms(), KEYS_BYTES + #title + #pixels
  redis.call('HSET', META, 'meta', meta)
  if title ~= '' then redis.call('HSET', META, 'title', title) end
  if gone ~= '0' then redis.call('HSET', META, 'gone', gone) end
  for _, turn in ipairs({...}) do
    redis.call('RPUSH', TURNS, turn)
    bytes = bytes + #turn
  end
  if pixels ~= '' then redis.call('SET', PIXELS, pixels) end
  for _, key in ipairs({META, TURNS, PIXELS}) do redis.call('PEXPIRE', key, ttl_ms) end
  redis.call('ZADD', INDEX, integer(now), member)
  redis.call('ZADD', LISTED, integer(now), id_of(member))
  grow(member, bytes)
  return 1
end

-- A tenant's conversations, those used last first: id and last use of each, one after the other. KEYS: the tenant's list.
-- With `used_ms` those that come after `id`, which was last used then.
function transition.conversations_listed(limit, used_ms, id)
  local found = {}
  if used_ms ~= '+inf' then  -- of the same millisecond, in the list's order, by id
    local same = redis.call('ZRANGE', KEYS[1], used_ms, used_ms, 'BYSCORE', 'REV')
    for _, other in ipairs(same) do
      if other < id then
        table.insert(found, other)
        table.insert(found, used_ms)
      end
    end
    used_ms = '(' .. used_ms
  end
  local older = redis.call('ZRANGE', KEYS[1], used_ms, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, limit, 'WITHSCORES')
  for _, part in ipairs(older) do table.insert(found, part) end
  return found
end

-- Leaves the place of a turn empty, which `tombstone` says. Returns {2, how many turns are left, one in work included}, or
-- {0}, {1}, {3, id} as above.
function transition.conversation_forget_turn(member, turn, tombstone, holder)
  if redis.call('EXISTS', META) == 0 then return {missing(member)} end
  local current, state = answering(holder)
  if state == 'asked' then return {3, current} end
  local place = turn - 1 - (redis.call('HGET', META, 'gone') or 0)
  local before = place >= 0 and redis.call('LINDEX', TURNS, place)
  if before then
    redis.call('LSET', TURNS, place, tombstone)
    grow(member, #tombstone - #before)
  end
  local left = (current and IN_WORK[state]) and 1 or 0
  for _, one in ipairs(redis.call('LRANGE', TURNS, 0, -1)) do
    if one ~= tombstone then left = left + 1 end
  end
  return {2, left}
end

-- Forgets the conversation and its picture's embeddings; another one about that picture computes them again. A turn in
-- work keeps the picture. Returns {2, jobs that answered lately}, or {0}, {1}, {3, id} as above.
function transition.conversation_delete(member, holder, salt)
  local meta = redis.call('HGET', META, 'meta')
  if not meta then return {missing(member)} end
  local current, state = answering(holder)
  if state == 'asked' then return {3, current} end
  if current and state ~= 'generated' and IN_WORK[state] and redis.call('EXISTS', PIXELS) == 1 then
    redis.call('RENAME', PIXELS, HOLDER_PIXELS)
  end
  local jobs = redis.call('ZRANGE', JOBS, 0, -1)
  drop(member)
  local sha256 = cmsgpack.unpack(meta).image_sha256
  if sha256 then forget_image(':' .. salt .. ':' .. sha256) end
  return {2, jobs}
end

-- Conversations that expired, and those used longest ago while all take more than the budget: {member, last use} each,
-- and the bytes of all. KEYS: the books.
function transition.conversations_overdue(limit, ttl_ms, budget_bytes)
  local found, old_ms = {}, now_ms() - ttl_ms
  local excess = tonumber(redis.call('GET', TOTAL) or 0) - budget_bytes
  local oldest = redis.call('ZRANGE', INDEX, 0, limit - 1, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    local is_expired = tonumber(oldest[i + 1]) < old_ms
    if not is_expired and excess <= 0 then break end
    table.insert(found, {oldest[i], oldest[i + 1], is_expired and 'expired' or 'budget'})
    excess = excess - (redis.call('HGET', SIZES, oldest[i]) or 0)
  end
  return {found, tonumber(redis.call('GET', TOTAL) or 0)}
end

-- Drops one of those, unless it was used meanwhile.
function transition.conversation_evict(member, used_ms)
  if redis.call('ZSCORE', INDEX, member) ~= used_ms then return 0 end
  drop(member)
  redis.call('ZADD', EXPIRED, integer(now_ms()), member)
  redis.call('ZREMRANGEBYRANK', EXPIRED, 0, -NUM_EXPIRED - 1)
  return 1
end
