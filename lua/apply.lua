-- apply.lua: apply one numbered batch of a writer, exactly once.
--
-- ARGV[1] says what to do:
--
--   a number   apply this batch, 1, 2, 3, ... (below 2^53), of a lane
--     KEYS[1]  the container: the hash that holds the counters, field -> decimal int64
--     KEYS[2]  the lane's ledger: "<number> <nonce> <kept> <results>" of its last batch,
--              in the container's slot; without the last two parts, of a lane just opened
--     KEYS[3]  where the batch deletes: the mark that somebody emptied the container
--     KEYS[4…] the once-keys of the transactions with an ID: "<digest> <outcome>" of the
--              first with the ID; KEYS[2] or KEYS[3] is the container where there is none
--     ARGV[2]  the batch's nonce: 64 random bits in decimal
--     ARGV[3]  the nonce of the batch before it, or of the opening
--     ARGV[4]  the ledger's lifetime in milliseconds, renewed by every batch; of a window
--              a blank and when the container expires follow, in Unix milliseconds
--     ARGV[5…] the operations, see below
--   "bare"     apply this batch, without a ledger: nobody may send it twice
--     KEYS[1]  the container;  KEYS[4…] as above
--     ARGV[5…] the operations
--   "open"     begin a lane, unless there is its ledger already
--     KEYS[1]  the ledger;  ARGV[2] the nonce of the opening;  ARGV[4] the lifetime
--   "fence"    let no batch pass this lane any more, late copies included
--     KEYS[1]  the ledger;  ARGV[4] the lifetime
--
-- The operations: how many they are, then of each its code and its operands, as in
-- the table "verbs" below; or, for increments only, which is faster: how many, "+",
-- how many of them, from the first, are to answer a value (none of the others
-- does), and then a field and its n an operation. One of those that answer may be the
-- sum of several of its field: its place, from 1, and they, joined by ',', then follow
-- at the end. Should it overflow they are carried out one by one.
--
-- A transaction is an operation "t", the head, with the operations behind it as its
-- steps: all of them are carried out, each on what those before it left, or none. They
-- are counted one by one, and answer together.
--
-- Returns one string:
--   "A<before> <kept> <results>"  applied by this call
--   "R<now> <kept> <results>"     applied by an earlier call of the same batch
--   "G<now> <last>"  gap: the ledger stands at <last>, before the number that comes
--                    before this one; "-": there is no ledger. Nothing changed.
--   "X<now>"         conflict: the lane is somebody else's as well. Nothing changed.
--   "O"              opened, now or before
--   "F- -", "F- <last> <nonce> <kept> <results>"  fenced: where the ledger stood when
--                    it was first fenced; "-": there is none
--   before, now: is there a container, 1 or 0: when this call came; kept: when the
--   batch had been applied, and 2 more if there had been none when it came first.
--   results are joined by ' ', one an operation:
--     123      value
--     -        value of a read: there is no such field
--     5,!O     of a sum that overflowed: those of what it is of
--     5:8      change, applied (old:new)
--     5:       change, condition did not hold (old)
--     !O !I !W overflow, not an integer, wrong type: nothing changed
--     !E<text> any other error of that operation, blanks turned to '_': nothing changed
--     !?<text> applied, but the new value could not be read
--     Y5:8,123 transaction, applied: the results of its steps, joined by ','
--     N5:8,5:  transaction, not applied: those up to the step that failed, or whose
--              condition did not hold; the others as if it had been applied
--     y… n…    the outcome of an earlier transaction of the same ID and digest
--     !C       that of this ID had another digest: nothing changed
--     !B       that of this ID was broken off after its first write
--   Of increments that are to answer no value only those that failed come last, each
--   as its place in the batch, from 1, and the error, and then a full stop: 7!O .
-- or an error reply:
--   "NOTWRITTEN <text>"  nothing was changed, and why: what Redis said, or which
--                        argument is not as above
--   "READONLY <text>"    nothing was changed: the server is a replica. By that word
--                        clients know that they are connected to the wrong one.
--
-- Atomicity: the ledger is the first write and records number and nonce, so no
-- failure after it can make a second call apply again. What may fail before it is
-- answered NOTWRITTEN; after it every call goes by pcall, so an operation's error is
-- that operation's result, its neighbours go on, and no error is raised. The
-- results join the ledger last: a ledger without them is answered "R" with none,
-- which the client reports as unknown. A once-key is written likewise: first of its
-- transaction, and the outcome joins it last.
--
-- int64: Lua numbers are doubles, exact below 2^53 only. Arguments go to Redis
-- as the strings they are; a result of HINCRBY at or above 2^53 is read back
-- by HGET; comparisons work on decimal strings.

local pcall, type, args = redis.pcall, type, ARGV
local find, sub, format = string.find, string.sub, string.format

local function nothing(why)
  if type(why) == 'table' then why = why.err end
  local readonly = find(why, 'READONLY', 1, true) -- Redis before 7.0 puts something before it
  if readonly then return {err = sub(why, readonly)} end
  return {err = 'NOTWRITTEN ' .. why}
end

local task = args[1]

if task == 'open' then
  local opened = pcall('SET', KEYS[1], '0 ' .. args[2], 'PX', args[4], 'NX')
  if type(opened) == 'table' and opened.err then return nothing(opened) end
  return 'O'
end

if task == 'fence' then
  local fence, held = '9007199254740991 0 ', pcall('GET', KEYS[1])
  if type(held) == 'table' then return nothing(held) end
  if not held then return 'F- -' end
  if sub(held, 1, #fence) == fence then return 'F- ' .. sub(held, #fence + 1) end
  local fenced = pcall('SET', KEYS[1], fence .. held, 'PX', args[4])
  if type(fenced) == 'table' and fenced.err then return nothing(fenced) end
  return 'F- ' .. held
end

local container, ledger, mark = KEYS[1], KEYS[2], KEYS[3]
if ledger == container then ledger = nil end
if mark == container then mark = nil end
local before = pcall('EXISTS', container)
if type(before) == 'table' then return nothing(before) end
before = before == 1 and '1' or '0'

-- elsewhere answers for a ledger that does not stand at the batch before this one.
local function elsewhere(held)
  if not held then return 'G' .. before .. ' -' end
  local number, last, nonce, rest = tonumber(task), string.match(held, '^(%d+) (%d+) ?(.*)$')
  last = tonumber(last)
  if not number or not last then return nothing('no batch number, or no ledger: ' .. sub(held, 1, 40)) end
  if number == last and nonce == args[2] then return 'R' .. before .. ' ' .. rest end
  if last < number - 1 then return 'G' .. before .. ' ' .. format('%.0f', last) end
  return 'X' .. before
end

if task ~= 'bare' then
  local held = pcall('GET', ledger)
  if type(held) == 'table' then return nothing(held) end
  local at = held and find(held, ' ', 1, true)
  if not at or tonumber(sub(held, 1, at - 1)) ~= (tonumber(task) or 0) - 1 or sub(held, at + 1, (find(held, ' ', at + 1, true) or 0) - 1) ~= args[3] then
    return elsewhere(held)
  end
end

-- expires is when a container that this batch makes is to expire, or nil.
local lifetime, expires = args[4], nil
local blank = find(lifetime, ' ', 1, true)
if blank then -- gopher-lua assigns from left to right
  expires, lifetime = sub(lifetime, blank + 1), sub(lifetime, 1, blank - 1)
end

local count, out, freed = tonumber(args[5]), {}, false -- freed: something was deleted
if not count then return nothing('ERR the number of operations is missing') end

-- opened is the batch's first write: nil, or the error that kept it from it. A bare
-- batch has none, so it asks whether it might write, with what changes nothing.
local function opened()
  if task == 'bare' then
    local asked = pcall('SETRANGE', container, 0, '')
    local refused = type(asked) == 'table' and not find(asked.err, 'WRONGTYPE', 1, true) and not find(asked.err, 'NOPERM', 1, true)
    return refused and not find(asked.err, "can't run this command", 1, true) and asked or nil
  end
  local set = pcall('SET', ledger, task .. ' ' .. args[2], 'PX', lifetime)
  if type(set) == 'table' and set.err then return set end
end

-- finish stores what a replay must answer, and answers.
local function finish()
  local kept = 1
  if expires and (before == '0' or freed) then pcall('PEXPIREAT', container, expires) end
  if (before == '0' or freed) and pcall('EXISTS', container) == 0 then
    kept = 0
    if mark and before == '1' then pcall('SET', mark, '', 'PX', '604800000') end
  end
  if before == '0' then kept = kept + 2 end
  local results = ' ' .. kept .. ' ' .. table.concat(out, ' ')
  if ledger then pcall('APPEND', ledger, results) end
  return 'A' .. before .. results
end

-- failed turns an error reply into a result.
local function failed(text)
  if find(text, 'overflow', 1, true) then return '!O' end
  if find(text, 'not an integer', 1, true) then return '!I' end
  if find(text, 'WRONGTYPE', 1, true) then return '!W' end
  return '!E' .. string.gsub(sub(text, 1, 200), '%s', '_')
end

-- exact is the value that HINCRBY left in a field, r being it as a double.
local function exact(field, r)
  if r > -9007199254740992 and r < 9007199254740992 then return format('%.0f', r) end
  local v = pcall('HGET', container, field)
  if type(v) == 'table' then return nil, '!?' .. string.gsub(sub(v.err, 1, 200), '%s', '_') end
  return v
end

if args[6] == '+' then
  local silent, stop, given, sums = tonumber(args[7]), 7 + 2 * count, #args, {}
  if not silent or silent < 0 or silent > count or stop > given or (given - stop) % 2 ~= 0 then
    return nothing('ERR ' .. count .. ' increments do not have ' .. given .. ' arguments')
  end
  for at = stop + 1, given, 2 do
    local place = tonumber(args[at])
    if not place or place % 1 ~= 0 or place < 1 or place > silent or not find(args[at + 1], ',', 1, true) then
      return nothing('ERR no sum of increments: ' .. sub(args[at] .. ' ' .. args[at + 1], 1, 40))
    end
    sums[place] = args[at + 1]
  end
  local err = opened()
  if err then return nothing(err) end
  silent = 8 + 2 * silent
  for at = 8, silent - 1, 2 do
    local r = pcall('HINCRBY', container, args[at], args[at + 1])
    if type(r) == 'table' then
      local of, each = sums[(at - 6) / 2], {}
      r = failed(r.err)
      if of and r == '!O' then
        for n in string.gmatch(of, '[^,]+') do
          local one = pcall('HINCRBY', container, args[at], n)
          if type(one) == 'table' then
            each[#each + 1] = failed(one.err)
          else
            local v, unread = exact(args[at], one)
            each[#each + 1] = v or unread
          end
        end
        r = table.concat(each, ',')
      end
    elseif r <= -1e14 or r >= 1e14 then -- concat writes 14 digits
      local v, unread = exact(args[at], r)
      r = v or unread
    end
    out[#out + 1] = r
  end
  for at = silent, stop, 2 do
    local r = pcall('HINCRBY', container, args[at], args[at + 1])
    if type(r) == 'table' then out[#out + 1] = (at - 6) / 2 .. failed(r.err) end
  end
  if silent < stop then out[#out + 1] = '.' end
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
  return #v < 19 or not (less(v, '-9223372036854775808') or less('9223372036854775807', v))
end

-- value reads a field: its value, '0' and true where there is none, or nil and a
-- result.
local function value(field)
  local v = pcall('HGET', container, field)
  if v == false then return '0', true end
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

-- holds reports whether v compares with n as cmp says; absent is whether there is
-- no field, and v then '0'.
local function holds(v, absent, cmp, n)
  if cmp == '*' then return true end
  if cmp == 'a' then return absent end
  if cmp == 'p' then return not absent end
  if cmp == '=' then return v == n end
  if cmp == '!' then return v ~= n end
  if cmp == '<' then return less(v, n) end
  if cmp == 'l' then return not less(n, v) end
  if cmp == '>' then return less(n, v) end
  return not less(v, n)
end

-- fits reports whether v can be an operand: a field (f), a number (n), a comparator
-- (c), a once-key's place (o), a digest (h), a time or a number of steps (p).
local function fits(kind, v)
  if v == nil or kind == 'f' then return v ~= nil end
  if kind == 'n' then return integer(v) end
  if kind == 'c' then return #v == 1 and find('*=!<l>gap', v, 1, true) ~= nil end
  if kind == 'o' then return v == '0' or find(v, '^[1-9]%d*$') and tonumber(v) > 3 and KEYS[tonumber(v)] ~= nil end
  if kind == 'h' then return find(v, '^%x+$') ~= nil end
  return find(v, '^[1-9]%d*$') ~= nil and #v < 16
end

-- verbs: a row a verb: its operands. What it does is in "carry": a table of
-- functions would take longer to make than most batches to carry out.
local verbs = {
  g = 'f',    -- read                       -> value, or -
  i = 'fn',   -- add n                      -> value
  m = 'f',    -- subtract -2^63             -> value
  s = 'fn',   -- assign n                   -> value
  d = 'f',    -- delete                     -> the value it had
  c = '',     -- delete the whole container -> 0
  I = 'fncn', -- add n if value cmp n       -> change
  S = 'fncn', -- assign n if value cmp n    -> change
  t = 'ohpp', -- the head of a transaction: once-key, digest, lifetime in ms, steps
}

-- carry carries out an operation: its result, or nil and that of its failure.
local function carry(verb, field, n, cmp, than)
  if verb == 'i' then return add(field, n) end
  if verb == 's' then return assign(field, n) end
  if verb == 'c' then
    local size = pcall('HLEN', container)
    if type(size) == 'table' then return nil, failed(size.err) end
    local gone = pcall('UNLINK', container)
    if type(gone) == 'table' then return nil, failed(gone.err) end
    freed = true
    return '0'
  end
  local old, info = value(field) -- info: absent, or the failure
  if not old then return nil, info end
  local absent = info == true
  if verb == 'g' then return absent and '-' or old end
  if verb == 'd' then
    local gone = pcall('HDEL', container, field)
    if type(gone) == 'table' then return nil, failed(gone.err) end
    freed = true
    return old
  end
  if verb == 'm' then -- old + 2^63 in two steps, neither of which can overflow for a negative one
    if sub(old, 1, 1) ~= '-' then return nil, '!O' end
    local half, err = add(field, '9223372036854775807')
    if not half then return nil, err end
    return add(field, '1')
  end
  if verb ~= 'I' and verb ~= 'S' then return nil, '!Everb_not_carried_out' end
  if not holds(old, absent, cmp, than) then return old .. ':' end
  local new, err
  if verb == 'I' then new, err = add(field, n) else new, err = assign(field, n) end
  if not new then return nil, err end
  return old .. ':' .. new
end

-- sum adds two decimal numbers of at most 19 digits, exactly: by halves, of which
-- the lower has 9 digits, each with the number's sign.
local function sum(a, b)
  if #a < 16 and #b < 16 then return format('%.0f', a + b) end
  local high, low = 0, 0
  for _, v in ipairs({a, b}) do
    local sign, digits = string.match(v, '^(%-?)(%d+)$')
    sign = sign == '-' and -1 or 1
    high = high + sign * (tonumber(sub(digits, 1, -10)) or 0)
    low = low + sign * tonumber(sub(digits, -9))
  end
  local sign = ''
  if high < 0 or high == 0 and low < 0 then sign, high, low = '-', -high, -low end
  if low < 0 then high, low = high - 1, low + 1e9 elseif low >= 1e9 then high, low = high + 1, low - 1e9 end
  if high == 0 then return sign .. format('%d', low) end
  return sign .. format('%.0f%09d', high, low)
end

-- step carries out a step of a transaction on what those before it left: now holds a
-- text, or false, of each of the fields that they touched, and was what Redis holds.
-- It returns a result, and whether that keeps the transaction from being applied.
local function step(was, now, fields, verb, field, n, cmp, than)
  local old = now[field]
  if old == nil then
    old = pcall('HGET', container, field)
    if type(old) == 'table' then return failed(old.err), true end
    was[field], now[field], fields[#fields + 1] = old, old, field
  end
  if verb == 's' then
    now[field] = n
    return n
  end
  local absent = not old
  old = old or '0'
  if not integer(old) then return '!I', true end
  if verb == 'g' then return absent and '-' or old end
  if verb == 'd' then
    now[field] = false
    return old
  end
  local new, conditional = n, verb == 'I' or verb == 'S'
  if conditional and not holds(old, absent, cmp, than) then return old .. ':', true end
  if verb ~= 'S' then new = sum(old, verb == 'm' and '9223372036854775808' or n) end
  if not integer(new) then return '!O', true end
  now[field] = new
  return conditional and old .. ':' .. new or new
end

-- write gives the fields their new texts, or changes nothing and returns an error:
-- where both commands are needed, one may not be permitted.
local function write(was, now, fields)
  local set, unset, gone, created = {}, {}, {}, nil
  for _, field in ipairs(fields) do
    local old, new = was[field], now[field]
    if not new and old then
      gone[#gone + 1] = field
    elseif new ~= old then
      set[#set + 1], set[#set + 2] = field, new
      unset[#unset + 1], unset[#unset + 2] = field, old
      if not old then created = field end
    end
  end
  if #gone > 0 and created then -- which could not be undone without HDEL
    local asked = pcall('HDEL', container, created)
    if type(asked) == 'table' then return asked.err end
  end
  if #set > 0 then
    local r = pcall('HSET', container, unpack(set))
    if type(r) == 'table' and r.err then return r.err end
  end
  if #gone > 0 then
    local r = pcall('HDEL', container, unpack(gone))
    if type(r) == 'table' then
      if #set > 0 then pcall('HSET', container, unpack(unset)) end
      return r.err
    end
    freed = true
  end
end

-- transact carries out the transaction whose head is args[at]: its result.
local function transact(at)
  local once, digest, left = KEYS[tonumber(args[at + 1])], args[at + 2], tonumber(args[at + 4])
  if once then
    local held = pcall('GET', once)
    if type(held) == 'table' then return '!E' .. string.gsub(sub(held.err, 1, 200), '%s', '_') end
    if held then
      local known, outcome = string.match(held, '^(%x+) ?(.*)$')
      if known ~= digest then return '!C' end
      if outcome == '' then return '!B' end
      return string.lower(sub(outcome, 1, 1)) .. sub(outcome, 2)
    end
    local set = pcall('SET', once, digest, 'PX', args[at + 3])
    if type(set) == 'table' and set.err then return failed(set.err) end
  end
  local was, now, fields, results, fails = {}, {}, {}, {}, false
  at = at + 5
  repeat
    results[#results + 1], fails = step(was, now, fields, args[at], args[at + 1], args[at + 2], args[at + 3], args[at + 4])
    at, left = at + 1 + #verbs[args[at]], left - 1
  until fails or left == 0
  if not fails then
    fails = write(was, now, fields)
    if fails then results[#results] = failed(fails) end
  end
  local outcome = (fails and 'N' or 'Y') .. table.concat(results, ',')
  if once then pcall('APPEND', once, ' ' .. outcome) end
  return outcome
end

-- Every operation is looked at before the first is carried out.
local at, seen, stop, steps = 6, 0, #args, 0 -- steps: of a transaction, yet to come
while at <= stop do
  local verb = args[at]
  local operands = verbs[verb]
  if not operands then return nothing('ERR unknown verb ' .. string.gsub(sub(verb, 1, 20), '[^%w]', '?')) end
  if steps > 0 then
    if verb == 't' or verb == 'c' then return nothing('ERR verb ' .. verb .. ' is no step') end
    steps = steps - 1
  end
  for i = 1, #operands do
    if not fits(sub(operands, i, i), args[at + i]) then
      return nothing('ERR operand ' .. i .. ' of verb ' .. verb .. ' is missing or wrong')
    end
  end
  if verb == 't' then
    steps = tonumber(args[at + 4])
    if steps > 1000 then return nothing('ERR a transaction of ' .. steps .. ' steps') end -- Lua cannot unpack any number
  end
  at, seen = at + 1 + #operands, seen + 1
end
if steps > 0 then return nothing('ERR ' .. steps .. ' steps are missing') end
if seen ~= count then return nothing('ERR ' .. seen .. ' operations are not the number announced') end

local err = opened()
if err then return nothing(err) end

at = 6
while at <= stop do
  local verb = args[at]
  if steps > 0 then -- it was part of the transaction
    steps = steps - 1
  elseif verb == 't' then
    out[#out + 1], steps = transact(at), tonumber(args[at + 4])
  else
    local result, failure = carry(verb, args[at + 1], args[at + 2], args[at + 3], args[at + 4])
    out[#out + 1] = result or failure
  end
  at = at + 1 + #verbs[verb]
end

return finish()
