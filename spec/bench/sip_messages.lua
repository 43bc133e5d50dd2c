-- SPDX-License-Identifier: MIT
-- A REGISTER and its 200, for the bench of parsers.
local M = {}

local function message(...)
  return table.concat({ ... }, "\r\n") .. "\r\n\r\n"
end

M.REGISTER = message("REGISTER sip:example.com SIP/2.0",
  "Via: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK56sdasks",
  "Max-Forwards: 70", 'From: "Alice" <sip:alice@example.com>;tag=asdyka899',
  "To: <sip:alice@example.com>", "Call-ID: asidkj3ss9d0a8sd09asd",
  "CSeq: 1 REGISTER",
  "Contact: <sip:alice@df7jal23ls0d.invalid;transport=ws>;reg-id=1;" ..
  '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"',
  "Supported: path, outbound", "Expires: 600", "Content-Length: 0")

M["200"] = message("SIP/2.0 200 OK",
  "Via: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK56sdasks;" ..
  "received=127.0.0.1;rport=53422",
  'From: "Alice" <sip:alice@example.com>;tag=asdyka899',
  "To: <sip:alice@example.com>;tag=12sdasd91",
  "Call-ID: asidkj3ss9d0a8sd09asd", "CSeq: 1 REGISTER",
  "Contact: <sip:alice@df7jal23ls0d.invalid;transport=ws>;expires=600;" ..
  '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"',
  "Supported: path, outbound", "Allow: INVITE, ACK, CANCEL, OPTIONS, BYE",
  "Date: Sat, 13 Nov 2010 23:29:00 GMT", "Server: Kamailio",
  "Content-Length: 0")

return M
