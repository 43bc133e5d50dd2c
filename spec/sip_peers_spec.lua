-- SPDX-License-Identifier: MIT
-- sipwire.sip and the others: SIP.js and JsSIP read what it builds and read the
-- same as it does, Kamailio finds nothing wrong with it.

local helper = require "spec.helper"
local parsers = require "spec.support.sip_parsers"
local phone = require "spec.support.phone"
local sip = require "sipwire.sip"
local variants = require "spec.support.sip_variants"

helper.watch()

-- SIP.js leaves backslashes where they are, and has numbers for "expires". Both
-- count in UTF-16 units where Content-Length counts bytes.
local function alike(fields, who)
  local function plain(text)
    return who == "sipjs" and text and text:gsub("\\(.)", "%1") or text
  end
  local function address(a)
    a.expires = a.expires and tostring(a.expires)
    a.display = plain(a.display)
  end
  address(fields.from)
  address(fields.to)
  for _, contact in ipairs(fields.contacts) do address(contact) end
  fields.realm = plain(fields.realm)
  if fields.body:find "[\128-\255]" then fields.body = "(not ASCII)" end
  return fields
end

local function compare(text, theirs, who)
  local m, err = sip.parse(text, { strict = true })
  assert.is_truthy(m, (err or "") .. "\n" .. text)
  assert.is_truthy(theirs, who .. " rejects\n" .. text)
  local ours, they = alike(parsers.ours(m)), alike(theirs, who)
  for name, value in pairs(ours) do
    assert.same(value, they[name], ("%s of %s in\n%s"):format(name, who, text))
  end
  for name, value in pairs(they) do
    assert.same(ours[name], value, ("%s of %s in\n%s"):format(name, who, text))
  end
end

local function compare_all(texts)
  for i, result in ipairs(parsers.read(texts)) do
    compare(texts[i], result.sipjs, "sipjs")
    compare(texts[i], result.jssip, "jssip")
  end
end

describe("SIP.js and JsSIP #text", function()
  it("accept and understand what the builder makes", function()
    local texts = {}
    for seed = 1, 150 do texts[seed] = tostring(variants.built(seed)) end
    compare_all(texts)
  end)

  it("read the same in 300 spellings", function()
    local texts = {}
    for seed = 1, 300 do texts[seed] = variants.written(seed) end
    compare_all(texts)
  end)
end)

describe("Kamailio's sanity check #slow", function()
  local k

  setup(function() k = helper.kamailio "NO_AUTH" end)

  local function answer(p, m)
    return p:ask(tostring(m), m.call_id)
  end

  it("finds nothing wrong with requests of the builder", function()
    local p = phone.open(k, "ws")
    local asked = 0
    for seed = 1, 120 do
      local m = variants.built(seed)
      if m.is_request and m.method ~= "ACK" then
        m:set("Call-ID", "sane-" .. seed):set("X-Sanity", "yes")
        local status = answer(p, m).status
        assert.equal(200, status, tostring(m))
        asked = asked + 1
      end
    end
    assert.is_true(asked > 40)
    phone.hang_up(p)
  end)

  -- What the caller gets for a MESSAGE that is answered with build(request).
  local function relayed(alice, bob, build)
    local m = sip.request { method = "MESSAGE", uri = bob.user.uri,
      from = alice.user.uri }
    assert(alice.t:send(tostring(m)))
    local _, text = bob:incoming "MESSAGE"
    assert(bob.t:send(tostring(build(sip.parse(text)))))
    local _, got = alice:take("final answer", function(message)
      return message.call_id == m.call_id and message.status >= 200
    end)
    return sip.parse(got)
  end

  it("finds nothing wrong with responses of the builder", function()
    local alice, bob = phone.open(k, "ws"), phone.open(k, "ws")
    phone.check_registered(bob:ask(bob.user:register()), bob.user)
    for seed = 1, 80 do
      local status, built = 199 + seed * 6, nil
      local got = relayed(alice, bob, function(request)
        built = variants.answer(seed, request, status,
          { ["X-Sanity"] = "yes" })
        return built
      end)
      assert.equal("yes", got:get "X-Sane", tostring(built))
      assert.equal(status, got.status)
    end
    phone.hang_up(alice, bob)
  end)

  it("is one that finds something in responses", function()
    local alice, bob = phone.open(k, "ws"), phone.open(k, "ws")
    phone.check_registered(bob:ask(bob.user:register()), bob.user)
    local got = relayed(alice, bob, function(request)
      return request:response(200, nil,
        { headers = { ["X-Sanity"] = "yes", Expires = "soon" } })
    end)
    assert.equal("no", got:get "X-Sane")
    phone.hang_up(alice, bob)
  end)

  it("is one that finds something in requests", function()
    local p = phone.open(k, "ws")
    local m = sip.request { method = "OPTIONS", uri = "sip:localhost",
      from = "sip:alice@localhost", headers = { ["X-Sanity"] = "yes" } }
    m:set("CSeq", "1 INVITE")
    assert.equal(400, answer(p, m).status)
    phone.hang_up(p)
  end)
end)
