-- migrate.lua: move strings that were counted with INCR to counters.
--
--   KEYS[1]    the container: the hash that holds the counters
--   KEYS[2…]   the strings
--   ARGV[1]    1: move strings that expire as well, whose counters do not
--   ARGV[2]    1: change nothing, say what would be moved
--   ARGV[1+i]  the counter's key of KEYS[i], i from 2
--
-- Returns a status for each string, and then the number that was moved or is in the way:
--   "moved", "gone" (there is none), "type" (it is no string), "value" (it is no decimal
--   int64), "expires", "refused" (the sum would leave int64, or the field is no number)
--
-- Atomicity: what was added is deleted in the same call, one string at a time. An error
-- ends the call before the string it is about has changed; those before it have moved.
-- So it may be called again at any time, and moves what has been counted since.

local container, out = KEYS[1], {}

local function move(name, key)
  local kind = redis.call('TYPE', name).ok
  if kind == 'none' then return 'gone', '' end
  if kind ~= 'string' then return 'type', kind end
  local n = redis.call('GET', name)
  if not (n == '0' or string.find(n, '^%-?[1-9]%d*$')) or #n > 20 then return 'value', string.sub(n, 1, 40) end
  if ARGV[1] ~= '1' and redis.call('PTTL', name) >= 0 then return 'expires', n end
  if ARGV[2] == '1' then return 'moved', n end
  local added = redis.pcall('HINCRBY', container, key, n) -- which refuses what int64 cannot hold
  if type(added) == 'table' then return 'refused', added.err end
  redis.call('DEL', name)
  return 'moved', n
end

for i = 2, #KEYS do
  out[#out + 1], out[#out + 2] = move(KEYS[i], ARGV[1 + i])
end
return out
