-- SPDX-License-Identifier: MIT
-- What SIP.js and JsSIP make of messages (node/parsers.mjs, in one process).
--
-- parsers.read(list of messages) -> list of { sipjs = {...}, jssip = {...} }
-- parsers.ours(m) -> the same fields of sipwire.sip's message

local process = require "spec.support.process"

local M = {}

local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"

function M.read(messages)
  local json = require "dkjson"
  local node = process.spawn { "node", here .. "node/parsers.mjs" }
  local lines, results = {}, {}
  for i, message in ipairs(messages) do lines[i] = json.encode(message) end
  node:write(table.concat(lines, "\n") .. "\n")
  node:close_stdin()
  for i = 1, #messages do results[i] = node:json(15) end
  node:stop()
  return results
end

local function unescaped(text)
  return text and (text:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

-- Both lower it.
local function parameters(params)
  local list = {}
  for name, value in pairs(params) do
    list[name] = name == "transport" and value:lower() or value
  end
  return list
end

local function uri(u)
  return u and { scheme = u.scheme, user = unescaped(u.user),
    host = u.host:lower(), port = u.port, params = parameters(u.params) }
end

local function address(a)
  return a and { display = a.display ~= "" and a.display or nil,
    uri = uri(a.uri), tag = a.tag, expires = a.expires and tostring(a.expires) }
end

function M.ours(m)
  local via, contacts = m.via[1], {}
  local challenge = m.www_authenticate and m.www_authenticate[1] or {}
  for i, contact in ipairs(m.contact or {}) do contacts[i] = address(contact) end
  return { method = m.method, uri = uri(m.uri), status = m.status,
    reason = m.reason, via = { transport = via.transport, host = via.host,
      port = via.port, branch = via.branch, received = via.received },
    vias = #m.via, from = address(m.from), to = address(m.to),
    call_id = m.call_id, cseq = m.cseq, contacts = contacts, body = m.body,
    max_forwards = m.max_forwards, expires = m.expires,
    content_type = m:get "Content-Type", realm = challenge.realm,
    nonce = challenge.nonce, qop = challenge.qop,
    algorithm = challenge.algorithm }
end

return M
