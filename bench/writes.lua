-- What wrk sends for bench/writes.py: one template of path and body, with the marks {run}, {thread}, {number} and
-- {object} filled in anew for each request, and {revision} with what the last answer on this connection said.

local threads = 0

function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(args)
  token, method, kind, path, objects = args[1], args[2], args[3], args[4], tonumber(args[5])
  local file = assert(io.open(args[6]))
  run = args[7]
  body = file:read("*a")
  file:close()
  number, revision = 0, nil
  -- The headers of a GET and of the write never change.
  reading = { ["Authorization"] = "Bearer " .. token }
  writing = { ["Authorization"] = "Bearer " .. token, ["Content-Type"] = kind }
  if body:find("{revision}", 1, true) then
    response = remember
  end
end

local function filled(text)
  return (text:gsub("{(%l+)}", function(mark)
    if mark == "run" then return run end
    if mark == "thread" then return tostring(id) end
    if mark == "number" then return tostring(number) end
    if mark == "object" then return string.format("%06d", number % objects) end
    if mark == "revision" then return revision end
  end))
end

function request()
  number = number + 1
  if response and revision == nil then
    return wrk.format("GET", filled(path), reading)
  end
  return wrk.format(method, filled(path), writing, filled(body))
end

function remember(status, headers, text)
  revision = status == 200 and text:match('"resourceVersion":"(%d+)"') or nil
end
