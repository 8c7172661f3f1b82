-- Call events as RingMe sends them: a dial-in, its answer and its hangup, and a new call with every third request. The calls are spread
-- over 32 extensions, each with an event URL of its own. Arguments: a seed that makes the ids of this run its own, 16 hex digits.
local extensions = 32
local states = {"dial-in", "answer", "hangup"}
local status = {"CALLING", "ANSWER", "ANSWER"}
local offsets = {0, 6000000, 66000000}
local headers = {["Content-Type"] = "application/x-www-form-urlencoded"}
local n, seed, base = 0, "0000000000000000", 0

function init(args)
  seed = args[1] or seed
  base = (os.time() - 70) * 1000000
end

function request()
  local call, step = math.floor(n / 3), n % 3 + 1
  n = n + 1
  local i = call % extensions
  local short, own = 100 + i, 5100 + i
  local id = string.format("%s%016x", seed, call)
  local customer = call % 10000000
  local body = string.format("EventType=%s&EventTime=%.0f&CallID=%s&SubCallID=%d-%s&CallAPIID=1000000001-%s&CallFlow=in&CallStatus=%s" ..
    "&CallerIDNum=%%2B1202%07d&CallerIDName=%%2B1202%07d&CalledNumber=1234%%2A%d&CalledExtension=1234%%2A%d%%40sip.example.com" ..
    "&CalledExtensionID=%d&CalledDID=12025550100",
    states[step], base + call + offsets[step], id, own, id, id, status[step], customer, customer, short, short, own)
  if step == 3 then
    body = body .. string.format("&Duration=60000000&RecID=%d-%s", own, id)
  end
  return wrk.format("POST", string.format("/ext-event/%032d", i), headers, body)
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT requests=%d microseconds=%d p50=%d p99=%d status=%d connect=%d read=%d write=%d timeout=%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), e.status, e.connect, e.read, e.write, e.timeout))
end
