"""What makes a script fail on a key that it was not handed: clusters and managed servers would do the same."""

PRELUDE = """
local server, handed = redis, {}
for _, key in ipairs(KEYS) do handed[key] = true end
local SUBCOMMAND = {XGROUP = true, XINFO = true}
local MANY = {DEL = true, UNLINK = true, EXISTS = true, RENAME = true}
local function check(command, ...)
  local arguments = {...}
  local first = SUBCOMMAND[command] and 2 or 1
  local last = MANY[command] and #arguments or first
  if command == 'TIME' then return end
  for i = first, last do
    if not handed[arguments[i]] then error(command .. ' ' .. tostring(arguments[i]) .. ': not in KEYS') end
  end
end
local redis = {
  call = function(...) check(...) return server.call(...) end,
  pcall = function(...) check(...) return server.pcall(...) end,
}
"""
