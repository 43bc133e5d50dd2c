-- SPDX-License-Identifier: MIT
-- Messages as text, for specs of sip.parse.
--
-- M.request([lines [, body]])   an INVITE with more header lines
-- M.strict_code(text)           true, or code and position of the first error

local assert = require "luassert"
local sip = require "sipwire.sip"

local M = {}

function M.request(more, body)
  local list = { "INVITE sip:bob@example.com SIP/2.0",
    "Via: SIP/2.0/WS a.invalid;branch=z9hG4bK1", "Max-Forwards: 70",
    'From: "Alice" <sip:alice@example.com>;tag=f1',
    "To: <sip:bob@example.com>", "Call-ID: c1", "CSeq: 7 INVITE" }
  for _, line in ipairs(more or {}) do
    list[#list + 1] = line
  end
  return table.concat(list, "\r\n") .. "\r\n\r\n" .. (body or "")
end

function M.strict_code(text)
  local m, err, code, info = sip.parse(text, { strict = true })
  if m then
    return true
  end
  assert.is_truthy(err:find("^" .. code .. ": %S"))
  assert.is_true(info.position >= 1 and info.position <= #text + 1)
  return code, info.position
end

return M
