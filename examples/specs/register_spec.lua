-- SPDX-License-Identifier: MIT
-- Specs of a SIP server, written with sipwire.busted. The server here is a
-- scripted one; $SIP_URL names another.

local sip = require "sipwire.sip"
local sipwire = require "sipwire"
local specs = require "sipwire.busted"
local it_async, expect = specs.it_async, specs.expect_message

local function register(url)
  local c = assert(sipwire.open { server = url })
  local request = sip.request { method = "REGISTER",
    uri = "sip:example.invalid", from = "sip:alice@example.invalid" }
  assert(c:send(tostring(request)))
  return c
end

describe("a registrar", function()
  it_async("asks who we are", function()
    local server = specs.server {
      { expect = "REGISTER", reply = 401,
        headers = { 'WWW-Authenticate: Digest realm="here", nonce="1"' } },
    }
    local c = register(os.getenv "SIP_URL" or server.url)
    local _, realm = expect(c, '\r\nWWW%-Authenticate: Digest realm="(%w+)"')
    assert.equal("here", realm)
  end)

  it_async("tells when to come again", function()
    local server = specs.server(function(request)
      assert.matches("^REGISTER sip:", request)
      return { reply = 503, headers = { "Retry-After: 30" }, delay = 0.01 }
    end)
    local _, seconds = expect(register(server.url), "^SIP/2.0 503 .-" ..
      "Retry%-After: (%d+)")
    assert.equal("30", seconds)
    assert.equal(1, #server.received)
  end)
end)
