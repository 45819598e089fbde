-- wrk's side of a load: sends one request over and over, and holds every answer against what was expected.
-- Arguments: method, body, expected status, prefix the Location header must have ("" for no redirect).
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  wrk.method = args[1]
  if args[2] ~= "" then
    wrk.body = args[2]
  end
  expected_status = tonumber(args[3])
  expected_location = args[4]
  unexpected = 0
  sample = ""
end

-- A refused authorization request is a 302 too, so the status alone does not tell.
local function goes_to(prefix, headers)
  local location = headers["location"] or headers["Location"] or ""
  return location:sub(1, #prefix) == prefix
end

function response(status, headers, body)
  if status ~= expected_status or not goes_to(expected_location, headers) then
    unexpected = unexpected + 1
    sample = status .. " " .. (headers["location"] or headers["Location"] or body)
  end
end

function done(summary, latency, requests)
  local unexpected, sample = 0, ""
  for _, thread in ipairs(threads) do
    unexpected = unexpected + thread:get("unexpected")
    sample = thread:get("sample")
  end
  local errors = summary.errors
  -- Not errors.timeout: those answers came and were as expected, only late (wrk counts them after 2 s).
  local failed = errors.connect + errors.read + errors.write
  io.write(string.format("%d %d %d %s\n", summary.requests, unexpected, failed, sample:gsub("%c", " ")))
end
