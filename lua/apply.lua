-- apply.lua: apply one numbered batch of a writer, exactly once.
--
-- KEYS[1]  the container: the hash that holds the counters, field -> decimal int64
-- KEYS[2]  the writer's ledger: a string "<seq> <results>", in the container's slot
-- ARGV[1]  seq: the batch's number, 1, 2, 3, ... (below 2^53); or "fence"
-- ARGV[2]  the ledger's lifetime in milliseconds, renewed by every batch
-- ARGV[3…] the operations in order, each a one-letter code and its arguments:
--   i field n           add n                       -> value
--   m field             subtract -2^63              -> value
--   g field             read                        -> value
--   s field n           assign n                    -> value
--   d field             delete                      -> the value it had
--   c                   delete the whole container  -> 0
--   I field n cmp than  add n if value cmp than     -> change
--   S field n cmp than  assign n if value cmp than  -> change
--   where cmp is * (always), =, !, <, l (at most), >, g (at least);
--   or, for a batch of increments only, which is faster: "+", how many of them, from
--   the first, are to answer a value (none of the others does), and then a field
--   and its n an operation.
--
-- Returns one string:
--   "A <results>"  applied by this call
--   "R <results>"  applied by an earlier call of the same number; the stored results
--   "G <last>"     gap: the ledger stands at <last>, neither seq nor seq - 1; nothing changed
--   "F <last> <results>"  the answer to "fence": where the ledger stood when it was first
--                  fenced. From then on it lets no batch pass, late copies included.
--   results are joined by ' ', one an operation:
--     123      value
--     5:8      change, applied (old:new)
--     5:       change, condition did not hold (old)
--     !O !I !W overflow, not an integer, wrong type: nothing changed
--     !E<text> any other error of that operation, blanks turned to '_': nothing changed
--   Of increments that are to answer no value only those that failed come last, each
--   as its place in the batch, from 1, and the error, and then a full stop: 7!O .
--   An error reply means that nothing was changed.
--
-- Atomicity: the ledger is the first write and records seq, so no failure
-- after it can make a second call apply again; every write goes by pcall, so
-- an operation's error is that operation's result and its neighbours go on.
-- The results join the ledger last: a ledger that holds seq without results
-- is answered "R" with none, which the client reports as unknown.
--
-- int64: Lua numbers are doubles, exact below 2^53 only. Arguments go to Redis
-- as the strings they are; a result of HINCRBY at or above 2^53 is read back
-- by HGET; comparisons work on decimal strings.

local container, ledger = KEYS[1], KEYS[2]
local seq = tonumber(ARGV[1])

local head = redis.call('GETRANGE', ledger, 0, 20)
local last = tonumber(string.match(head, '^%d+') or '0')
if ARGV[1] == 'fence' then
  local fence, stored = '9007199254740991', redis.call('GET', ledger) or '0 '
  if last == tonumber(fence) then
    return 'F ' .. string.sub(stored, #fence + 2)
  end
  redis.call('SET', ledger, fence .. ' ' .. stored, 'PX', ARGV[2])
  return 'F ' .. stored
end
if seq == last then
  local stored = redis.call('GET', ledger)
  return 'R ' .. string.match(stored, '^%d+ ?(.*)$')
end
if seq ~= last + 1 then
  return 'G ' .. string.format('%.0f', last)
end

local opened = redis.pcall('SET', ledger, ARGV[1] .. ' ', 'PX', ARGV[2])
if type(opened) == 'table' and opened.err then
  return opened
end

local find, sub, format = string.find, string.sub, string.format
local pcall, type, args = redis.pcall, type, ARGV
local out, count = {}, 0

-- failed turns an error reply's text into a result.
local function failed(text)
  if find(text, 'overflow', 1, true) then return '!O' end
  if find(text, 'not an integer', 1, true) then return '!I' end
  if find(text, 'WRONGTYPE', 1, true) then return '!W' end
  return '!E' .. string.gsub(sub(text, 1, 200), '%s', '_')
end

-- exact is the value that HINCRBY left in a field, r being it as a double.
local function exact(field, r)
  if r > -9007199254740992 and r < 9007199254740992 then return format('%.0f', r) end
  return redis.call('HGET', container, field)
end

-- finish stores what a replay must answer, and answers.
local function finish()
  local results = table.concat(out, ' ')
  pcall('APPEND', ledger, results)
  return 'A ' .. results
end

if args[3] == '+' then
  local silent = 5 + 2 * args[4]
  for at = 5, silent - 1, 2 do
    local r = pcall('HINCRBY', container, args[at], args[at + 1])
    if type(r) == 'table' then
      r = failed(r.err)
    elseif r <= -1e14 or r >= 1e14 then -- concat writes 14 digits
      r = exact(args[at], r)
    end
    count = count + 1
    out[count] = r
  end
  for at = silent, #args, 2 do
    local r = pcall('HINCRBY', container, args[at], args[at + 1])
    if type(r) == 'table' then
      count = count + 1
      out[count] = (at - 3) / 2 .. failed(r.err)
    end
  end
  if silent < #args then out[count + 1] = '.' end
  return finish()
end

-- less reports a < b for two canonical decimal int64 strings.
local function less(a, b)
  local na, nb = sub(a, 1, 1) == '-', sub(b, 1, 1) == '-'
  if na ~= nb then return na end
  if na then a, b = sub(b, 2), sub(a, 2) end
  if #a ~= #b then return #a < #b end
  for i = 1, #a do -- byte by byte: '<' on strings follows the server's locale
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return false
end

-- integer reports whether v is a canonical decimal int64, the form HINCRBY takes.
local function integer(v)
  if v == '0' then return true end
  if not find(v, '^%-?[1-9]%d*$') or #v > 20 then return false end
  return not (less(v, '-9223372036854775808') or less('9223372036854775807', v))
end

-- value reads a field: its value ('0' where there is none), or nil and a result.
local function value(field)
  local v = pcall('HGET', container, field)
  if v == false then return '0' end
  if type(v) == 'table' then return nil, failed(v.err) end
  if not integer(v) then return nil, '!I' end
  return v
end

-- add adds n to a field: its new value, or nil and a result.
local function add(field, n)
  local r = pcall('HINCRBY', container, field, n)
  if type(r) == 'table' then return nil, failed(r.err) end
  return exact(field, r)
end

-- assign sets a field: n, or nil and a result.
local function assign(field, n)
  local r = pcall('HSET', container, field, n)
  if type(r) == 'table' and r.err then return nil, failed(r.err) end
  return n
end

local holds = {
  ['*'] = function() return true end,
  ['='] = function(v, n) return v == n end,
  ['!'] = function(v, n) return v ~= n end,
  ['<'] = function(v, n) return less(v, n) end,
  ['l'] = function(v, n) return not less(n, v) end,
  ['>'] = function(v, n) return less(n, v) end,
  ['g'] = function(v, n) return not less(v, n) end,
}

local at, stop = 3, #args
while at <= stop do
  local code, field = args[at], args[at + 1]
  local result, err
  if code == 'i' then
    result, err = add(field, args[at + 2])
    at = at + 3
  elseif code == 'g' then
    result, err = value(field)
    at = at + 2
  elseif code == 's' then
    result, err = assign(field, args[at + 2])
    at = at + 3
  elseif code == 'd' then
    result, err = value(field)
    if result then
      local gone = pcall('HDEL', container, field)
      if type(gone) == 'table' then result, err = nil, failed(gone.err) end
    end
    at = at + 2
  elseif code == 'm' then
    result, err = value(field)
    if result then
      if sub(result, 1, 1) ~= '-' then
        result, err = nil, '!O'
      else -- v + 2^63 in two steps, neither of which can overflow for a negative v
        result, err = add(field, '9223372036854775807')
        if result then result, err = add(field, '1') end
      end
    end
    at = at + 2
  elseif code == 'I' or code == 'S' then
    local old
    old, err = value(field)
    if old then
      if not holds[args[at + 3]](old, args[at + 4]) then
        result = old .. ':'
      else
        local new
        if code == 'I' then
          new, err = add(field, args[at + 2])
        else
          new, err = assign(field, args[at + 2])
        end
        if new then result = old .. ':' .. new end
      end
    end
    at = at + 5
  else -- 'c'
    local size = pcall('HLEN', container)
    if type(size) == 'table' then
      err = failed(size.err)
    else
      local gone = pcall('UNLINK', container)
      if type(gone) == 'table' then err = failed(gone.err) else result = '0' end
    end
    at = at + 1
  end
  count = count + 1
  out[count] = result or err
end

return finish()
