-- Heartbeats of the workers. Each `transition` is a script of its own; KEYS: workers, heartbeats, and a beat's model.

local WORKERS, HEARTBEATS, MODEL = KEYS[1], KEYS[2], KEYS[3]

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- `info` counts for `expiry_ms`. `description`: of the model, empty while it is loaded.
function transition.worker_beat(worker, info, expiry_ms, description)
  redis.call('ZADD', WORKERS, string.format('%.0f', now_ms()), worker)
  redis.call('HSET', HEARTBEATS, worker, expiry_ms .. ':' .. info)
  if description ~= '' then redis.call('SET', MODEL, description) end
  return 1
end

function transition.worker_leave(worker)
  redis.call('HDEL', HEARTBEATS, worker)
  return redis.call('ZREM', WORKERS, worker)
end

-- {info, age in ms} of each live worker. Forgets those of which nothing was heard for `forget_ms`.
function transition.workers(forget_ms)
  local now, live = now_ms(), {}
  local beats = redis.call('ZRANGE', WORKERS, 0, -1, 'WITHSCORES')
  for i = 1, #beats, 2 do
    local age_ms = now - beats[i + 1]
    local beat = redis.call('HGET', HEARTBEATS, beats[i])
    local colon = beat and string.find(beat, ':', 1, true)
    if not colon or age_ms > tonumber(forget_ms) then
      redis.call('ZREM', WORKERS, beats[i])
      redis.call('HDEL', HEARTBEATS, beats[i])
    elseif age_ms < tonumber(string.sub(beat, 1, colon - 1)) then
      table.insert(live, {string.sub(beat, colon + 1), age_ms})
    end
  end
  return live
end
