-- API keys (service/access). Each `transition` is a script of its own. KEYS: the hash of all keys by their id.

-- Writes a key in the place of what was read of it. Returns 0 where it was changed meanwhile: a key that somebody revokes
-- is not made live again by who changes something else of it.
function transition.api_key_replace(id, before, after)
  if redis.call('HGET', KEYS[1], id) ~= before then return 0 end
  redis.call('HSET', KEYS[1], id, after)
  return 1
end
