-- What tenants with API keys share a queue by (start-time fair queueing). transitions.lua takes this in.
--
-- Jobs of one tenant alone lie in the queue's stream as they came. Once another tenant's come while some wait there, all
-- but one are held back: WAITING has them in order, HELD has what they are, and the stream has the one that is next. Each
-- claim of one and each end of one puts the next into the stream; the sweep does where a worker died in between.
--
-- A tenant's turn comes at the queue's time, or when its last turn is over, if that is later; a turn lasts 1 / weight. The
-- earliest turn is next. So those who wait are served by their weights, and who comes anew waits for nobody's backlog.

-- Those in the stream that no worker was handed.
local function num_untaken(queue)
  local pending = redis.pcall('XPENDING', STREAM[queue], GROUP)
  return redis.call('XLEN', STREAM[queue]) - (pending.err and 0 or pending[1])
end

local function member_of(queue, tenant, since, weight, id)
  return queue .. '/' .. tenant .. ':' .. since .. ':' .. weight .. ':' .. id
end

local function parts_of(member)
  return string.match(member, '^[^/]*/([^:]*):([^:]*):(%d+):(.*)$')
end

-- The oldest held job of the first tenant after `tenant`, or of the first of all.
local function first_after(queue, tenant)
  local from = tenant and '(' .. queue .. '/' .. tenant .. ';' or '[' .. queue .. '/'
  return redis.call('ZRANGEBYLEX', WAITING, from, '(' .. queue .. '0', 'LIMIT', 0, 1)[1]
end

local function num_held(queue, tenant, before)
  local to = before and '(' .. before or '(' .. queue .. '/' .. tenant .. ';'
  return redis.call('ZLEXCOUNT', WAITING, '[' .. queue .. '/' .. tenant .. ':', to)
end

local function turn_of(queue, tenant)
  local times = redis.call('HMGET', SHARES, 'now:' .. queue, 'until:' .. queue .. '/' .. tenant)
  return math.max(tonumber(times[1] or 0), tonumber(times[2] or 0))
end

-- The held job that is next: of the earliest turn; of several that of the tenant with fewer jobs, then the oldest one.
local function next_held(queue)
  local next, next_turn, next_count, next_since
  local member = first_after(queue)
  while member do
    local tenant, since = parts_of(member)
    local turn, count = turn_of(queue, tenant), num_held(queue, tenant)
    if not next or turn < next_turn
      or (turn == next_turn and (count < next_count or (count == next_count and since < next_since))) then
      next, next_turn, next_count, next_since = member, turn, count, since
    end
    member = first_after(queue, tenant)
  end
  return next
end

-- Returns whether there was one.
local function put_next(queue)
  local member = next_held(queue)
  if not member then return false end
  local tenant, since, weight, id = parts_of(member)
  local held = cmsgpack.unpack(redis.call('HGET', HELD, id))
  local entry = redis.pcall('XADD', STREAM[queue], '*', 'id', id, 'job', held[1], 'inboxes', held[2],
    'tenant', tenant, 'weight', weight, 'since', since)
  if type(entry) == 'table' and entry.err then return true end  -- a full server: the sweep tries again
  redis.call('ZREM', WAITING, member)
  redis.call('HSET', HELD, id, entry)
  return true
end

-- Where jobs are held, the stream is not to be left without one.
local function top_up(queue)
  if redis.call('HGET', SHARES, 'alone:' .. queue) == '' and num_untaken(queue) == 0 then put_next(queue) end
end

-- What no worker was handed goes from the stream to those that are held. The jobs' own records are not at hand here:
-- HELD tells where one is (entry_of).
local function take_back(queue)
  for _, one in ipairs(redis.call('XREVRANGE', STREAM[queue], '+', '-', 'COUNT', num_untaken(queue))) do
    local entry, fields = one[1], one[2]
    if fields[7] == 'tenant' then
      local since = fields[12]
      if not since then
        local ms, number = string.match(entry, '(%d+)-(%d+)')
        since = string.format('%015.0f-%06.0f', ms, number)
      end
      local member = member_of(queue, fields[8], since, fields[10], fields[2])
      redis.call('HSET', HELD, fields[2], cmsgpack.pack({fields[4], fields[6], member}))
      redis.call('ZADD', WAITING, 0, member)
      redis.call('XDEL', STREAM[queue], entry)
    end
  end
end

-- Whether a job that is now queued shares its queue with other tenants' jobs that wait.
local function is_shared(queue, tenant)
  local alone = redis.call('HGET', SHARES, 'alone:' .. queue)
  if alone == tenant then return false end
  if alone == '' then return true end
  local is_alone = num_untaken(queue) == 0
  redis.call('HSET', SHARES, 'alone:' .. queue, is_alone and tenant or '')
  return not is_alone
end

-- A turn was taken. Where nothing waits any more, nothing is remembered.
local function note_turn(queue, tenant, weight)
  if redis.call('HGET', SHARES, 'alone:' .. queue) ~= '' then return end
  local turn = turn_of(queue, tenant)
  redis.call('HSET', SHARES, 'now:' .. queue, string.format('%.17g', turn),
    'until:' .. queue .. '/' .. tenant, string.format('%.17g', turn + 1 / weight))
  if num_untaken(queue) > 0 or put_next(queue) then return end
  local ended = 'until:' .. queue .. '/'
  local times = redis.call('HGETALL', SHARES)
  for i = 1, #times, 2 do
    if string.sub(times[i], 1, #ended) == ended then redis.call('HDEL', SHARES, times[i]) end
  end
  redis.call('HDEL', SHARES, 'alone:' .. queue, 'now:' .. queue)
end

-- Where a waiting job is in the stream; nil: it is held. `entry` is where its record has it.
local function entry_of(id, entry)
  local held = redis.call('HGET', HELD, id)
  if not held then return entry end
  if string.match(held, '^%d+%-%d+$') then return held end
  return nil, cmsgpack.unpack(held)[3]
end

-- How many jobs of a queue will be taken before a held one, if none comes: by the turns that all have before its own.
local function num_before(queue, member)
  local tenant, since, weight = parts_of(member)
  local count, before = num_held(queue, tenant), num_held(queue, tenant, member)
  local turn, total = turn_of(queue, tenant) + before / weight, before + num_untaken(queue)
  local other = first_after(queue)
  while other do
    local name, others_since, others_weight = parts_of(other)
    if name ~= tenant then
      local others_count, ahead = num_held(queue, name), (turn - turn_of(queue, name)) * others_weight
      local turns = math.ceil(ahead)
      if turns == ahead and (others_count < count or (others_count == count and others_since < since)) then
        turns = turns + 1  -- of two whose turns are equal
      end
      total = total + math.max(0, math.min(turns, others_count))
    end
    other = first_after(queue, name)
  end
  return total
end

-- Of a kind's slots: how many a tenant has, how many are its share, and among how many tenants that have any.
local function look_at_share(kind, tenant, weight, num_slots)
  local total, num_tenants, from = weight, 1, '[' .. kind .. '/'
  while true do
    local member = redis.call('ZRANGEBYLEX', TENANT_SLOTS, from, '(' .. kind .. '0', 'LIMIT', 0, 1)[1]
    if not member then break end
    local other, others_weight = string.match(member, '^[^/]*/([^:]*):(%d+):')
    if other ~= tenant then total, num_tenants = total + others_weight, num_tenants + 1 end
    from = '(' .. kind .. '/' .. other .. ';'
  end
  local of_tenant = kind .. '/' .. tenant
  local own = redis.call('ZLEXCOUNT', TENANT_SLOTS, '[' .. of_tenant .. ':', '(' .. of_tenant .. ';')
  return own, num_slots * weight / total, num_tenants
end
