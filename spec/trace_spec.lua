-- SPDX-License-Identifier: MIT
-- What a trace shows and hides (sipwire.mask, trace, trace_secrets), and where
-- a loop's log goes.

local helper = require "spec.helper"
local sipwire = require "sipwire"
local mask = require "sipwire.mask"
local pair = require "spec.support.pair"
local process = require "spec.support.process"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"

helper.watch()

-- A secret is between braces: "a {bc} d" means that "a bc d" becomes "a ** d".
local function masks(marked)
  local text = marked:gsub("[{}]", "")
  local shown = marked:gsub("{(.-)}", function(secret)
    return (secret:gsub("%S", "*"))
  end)
  assert.equal(shown, mask(text))
  assert.equal(#text, #mask(text))
end

-- As a message with CRLF, one with LF only, one without an end, and one behind
-- the blank lines that RFC 3261 section 7.5 lets in.
local function masks_header(marked)
  local head = "REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/WS h\r\n" .. marked
  masks(head .. "\r\nTo: <sip:a@h>\r\n\r\nbody")
  masks((head .. "\r\n\r\nbody"):gsub("\r", "") .. "")
  masks(head)
  masks(head .. "\r\n")
  masks("\r\n\r\n\r\n" .. head .. "\r\n\r\n")
end

describe("a masked message", function()
  it("shows no digest response", function()
    for _, name in ipairs { "Authorization", "Proxy-Authorization",
                            "AUTHORIZATION", "proxy-authorization",
                            "Authorization " } do
      masks_header(name .. ': Digest username="a", realm="r", nonce="n",' ..
        ' uri="sip:h", response="{0123456789abcdef}", algorithm=MD5')
    end
    masks_header 'Authorization: Digest response="{ab}"'
    masks_header 'Authorization:Digest response={ab},cnonce="c"'
    masks_header 'Authorization: DIGEST RESPONSE = "{ab}" , qop=auth'
    masks_header 'Authorization:\tdigest Response\t=\t{ab}\t,qop=auth'
    masks_header 'Authorization: Digest realm="r", response="{ab, cd}'
    masks_header 'Authorization: Digest response="{ab}", response="{cd}"'
    masks_header 'Authorization: Digest xresponse="ab", response="{cd}"'
    masks_header 'Authorization: Digest response="", nonce="n"'
    masks_header 'Authentication-Info: qop=auth, rspauth="{ab}", nc=00000001'
    masks_header 'Proxy-Authentication-Info: RSPAUTH={ab}'
  end)

  it("shows none when the quotes are not what they seem", function()
    for _, user in ipairs { '"response="', '"response"', '"a=\\"', '"a\\""',
                            '"', '"response=\\"', "response", '"=",' } do
      for _, secret in ipairs { '"5ec7e7"', "5ec7e7", ' "5ec7e7', '"5ec7e7",' }
      do
        local text = ("A: b\r\nAuthorization: Digest username=%s, response=%s")
          :format(user, secret)
        assert.is_nil(mask(text):find("5ec7e7", 1, true), text)
        assert.equal(#text, #mask(text))
      end
    end
  end)

  it("shows nothing of other credentials but the scheme", function()
    masks_header "Authorization: Basic {QWxhZGRpbjpvcGVuIHNlc2FtZQ==}"
    masks_header 'Proxy-Authorization: Bearer {abc.def,} {x="y"}'
    masks_header "Authorization: Digester {response=ab}"
    masks_header "Authorization: Basic{,QWxhZA==}"
    masks_header "Authorization: {\"QWxhZA==\"}"
    masks_header "Authorization: Negotiate"
    masks_header "Authorization:"
  end)

  it("reads folded headers", function()
    masks_header('Authorization: Digest username="a",\r\n response\r\n\t=' ..
      '\r\n "{ab}",\r\n qop=auth')
    masks_header "Authorization:\r\n Basic\r\n\t{QWxh}\r\n {ZA==}\r\nX: y"
    masks_header "Authorization\r\n : Basic {QWxhZA==}"
  end)

  it("shows no password of a SIP URI", function()
    masks "INVITE sip:alice:{pw}@h;p=q SIP/2.0\r\n\r\n"
    masks_header "To: \"A:b@c\" <sips:alice:{p%40$w}@h>;tag=1"
    masks_header "Contact: <SIP:a:{b}@h>, <sip:c:{d}@[::1]:5060>"
    masks_header "From: sip:a:@h"
    masks_header "Route: <sip:h:5060;lr>, <sip:a@h:5060>, <sip:a:{1}@h:2>"
    masks_header 'Authorization: Digest uri="sip:a:{pw}@h", response="{ab}"'
    masks_header 'Refer-To: <sip:a:{b}@c?Replaces=d%40e>'
  end)

  it("shows no keys in SDP", function()
    local sip = "SIP/2.0 200 OK\r\nContent-Type: application/sdp\r\n\r\n"
    for _, body in ipairs {
      "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{d0RmdmcmVC/+==}|2^20|1:4",
      "a=crypto:1 F8 inline:{abc}|2^20;inline:{def}|1:4 UNENCRYPTED_SRTP",
      "a=ice-ufrag:8hhY\r\na=ice-pwd:{asd88fgpdd777uzjYhagZg}\r\nm=audio 1",
      "a=key-mgmt:mikey {AQAFgM0XflABAAAAAAAAAAAAAAsAyO}",
      "k=base64:{YWJj}", "k=clear:{abc def}", "k=prompt", "k={@}",
      "s=a=ice-pwd:x", "i=k=clear:x", "a=fingerprint:sha-256 AB:CD",
    } do
      masks(sip .. "v=0\r\n" .. body .. "\r\nt=0 0\r\n")
      masks(sip .. body)
      masks((sip .. body .. "\r\n"):gsub("\r", "") .. "")
    end
  end)

  it("is otherwise what it was", function()
    for _, text in ipairs { "", "\r\n", "\r\n\r\n", "\n\n\n", "x", "\0\255\r",
      "Authorization", ":", " : ", "MESSAGE sip:a@b SIP/2.0\r\n\r\nresponse=" ..
      '"x"\r\nAuthorization: Basic x\r\nsip:a:b@c',
      'Www-Authenticate: Digest response="x"', 'X-Authorization: Digest response="x"', "a=ice-pwd:x",
      'Authorizations: Basic x', "To: <tel:a:b@c>, <gossip: a:b@c>" } do
      assert.equal(text, mask(text))
    end
    local all = {}
    for c = 0, 255 do all[#all + 1] = string.char(c) end
    local junk = table.concat(all):rep(20)
    assert.equal(#junk, #mask(junk))
  end)

  it("never shows a secret that was planted (property) #slow", function()
    local secret = "5ec7e7"
    local planted = { 'Authorization: Digest a="b", response="%s"',
      "Proxy-Authorization: Basic %s", "To: <sip:a:%s@h>", 'AUTHORIZATION:' ..
      '\n Digest response=%s, x="', "Authorization : Bearer x=%s" }
    local junk = { "\r\n", "\n", "A: b", "response", "=", '"', "sip:", "@", ":",
      "Authorization", "Digest", "Basic", ",", "\0", "\255", "x", "/", "<",
      "\t", " ", "sip:a:b@c", "k=", "a=ice-pwd:", ";", "%" }
    math.randomseed(26)
    for _ = 1, 3000 do
      local parts, before = {}, {}
      for i = 1, math.random(0, 12) do
        before[i] = junk[math.random(#junk)]
      end
      -- a blank line would make it a body's text
      local head = table.concat(before):gsub("\r", ""):gsub("\n+", "\n")
      parts[1] = head:gsub("\n+$", "") .. "\n"
      parts[2] = planted[math.random(#planted)]:format(secret)
      for i = 3, math.random(3, 12) do parts[i] = junk[math.random(#junk)] end
      local text = parts[1] .. parts[2] .. "\n" .. table.concat(parts, "", 3)
      local shown = mask(text)
      assert.equal(#text, #shown)
      assert.is_nil(shown:find(secret, 1, true), text)
      for at = 1, #text do
        local c = shown:byte(at)
        if c ~= 42 and c ~= text:byte(at) then error("changed: " .. text) end
      end
    end
  end)

  it("takes linear time #timing", function()
    local kinds = { "\n", "\n ", "a", "sip:", "sip:a:", "sip:a:b@", '"', "a=",
      "response", "response=", 'response="', " ", "x ", "=", "a=\"",
      "Authorization: Digest ", "\r\n\r", "a=crypto:inline:", "k=", ":" }
    local function time(text)
      local began = os.clock()
      mask(text)
      return os.clock() - began
    end
    local function ratio(text, kind, n)
      local once = time(text .. kind:rep(n))
      return time(text .. kind:rep(4 * n)) / math.max(once, 0.002)
    end
    for _, kind in ipairs(kinds) do
      for _, first in ipairs { "Authorization: Digest ", "X: ",
                               "A: b\n\na=crypto:" } do
        local n, tries = math.floor(16000 / #kind), 0
        repeat -- somebody else's work may come in between
          tries = tries + 1
          assert.is_true(tries < 5, first .. kind)
        until ratio(first, kind, n) < 9
      end
    end
    assert.is_true(time("Authorization: Digest " .. ('a="'):rep(333333)) <
      2 * run.scale)
  end)
end)

local SECRET = 'REGISTER sip:h SIP/2.0\r\nAuthorization: Digest a="b", ' ..
  'response="5ec7e7"\r\n\r\n'
local SHOWN = SECRET:gsub("5ec7e7", "******")

describe("trace", function()
  local function traced(options)
    local list = {}
    options.trace = function(direction, message, t)
      list[#list + 1] = { direction, message, t }
    end
    return options, list
  end

  for _, secrets in ipairs { false, true } do
    local shown = secrets and SECRET or SHOWN
    it(secrets and "hides nothing with trace_secrets = true" or
      "hides secrets in both directions, and nobody else gets asterisks",
      function()
        local options, list = traced { trace_secrets = secrets }
        local t, peer, seen = pair.open(options)
        t:send(SECRET)
        assert.equal(SECRET, peer:read_message().payload)
        peer:send("text", SECRET)
        helper.run_until(function() return seen.messages[1] end)
        assert.equal(SECRET, seen.messages[1])
        assert.same({ { "out", shown, t }, { "in", shown, t } }, list)
        pair.part(t, peer)
      end)

    it("does so for accepted transports, trace_secrets = " ..
      tostring(secrets), function()
      local options, list = traced { trace_secrets = secrets }
      local served
      options.on_connection = function(t)
        served = t
        t.on_message = function(_, text) t:send(text) end
      end
      local listener = assert(sipwire.listen(options))
      run.track { close = function() listener:close() end }
      local t, seen = pair.client { server = listener.url }
      assert.is_nil(pair.finish(pair.connect(t)).err)
      t:send(SECRET)
      helper.run_until(function() return seen.messages[1] end)
      assert.equal(SECRET, seen.messages[1])
      assert.same({ { "in", shown, served }, { "out", shown, served } }, list)
      t:disconnect()
      pair.gone(t)
      pair.gone(served)
    end)
  end

  it("wants a boolean and a function", function()
    for name, bad in pairs { trace_secrets = "yes", trace = true } do
      local ok, err = pcall(sipwire.new, { server = "ws://a", [name] = bad })
      assert.is_false(ok)
      assert.matches("option '" .. name .. "' must be a", err, 1, true)
    end
  end)
end)

describe("a loop's log", function()
  -- A warning of the loop: nobody checks whom it speaks to.
  local function provoke(loop)
    local server = rawpeer.listen()
    local t = sipwire.new { server = server:url():gsub("^ws", "wss") .. "",
      tls = { verify = false, min_version = "1.3" }, loop = loop }
    t:connect()
    server:accept():close()
    pair.gone(t)
  end

  local function new(options)
    local loop = helper.add_loop(sipwire.loop(options))
    run.track { close = function() loop:close() end }
    return loop
  end

  it("goes to on_log, as option and as field", function()
    local first, calls = helper.counted()
    local loop = new { on_log = first }
    provoke(loop)
    assert.equal(2, calls.last.n)
    assert.matches("^tls.verify is false: .* 127%.0%.0%.1", calls.last[1])
    assert.equal("warn", calls.last[2])
    assert.equal(first, loop.on_log)
    loop = new { on_log = helper.never() }
    local second, later = helper.counted()
    loop.on_log = second
    provoke(loop)
    assert.equal(1, later.count)
  end)

  it("tells on_error when it raises", function()
    local errors = {}
    local loop = new {
      on_error = function(err, t, name) errors = { err, t, name } end,
      on_log = function() error "oops" end }
    provoke(loop)
    assert.matches("oops", errors[1])
    assert.equal("on_log", errors[3])
    assert.equal("function", type(loop.on_error))
  end)

  it("goes to stderr otherwise, a line for each", function()
    local path = helper.tmpdir() .. "/child.lua"
    local out = assert(io.open(path, "w"))
    out:write [[
      local sipwire = require "sipwire"
      local t = sipwire.new { server = arg[1], tls = { verify = false } }
      for _ = 1, 3 do
        t:connect()
        sipwire.run()
      end]]
    out:close()
    local refusing = rawpeer.listen()
    refusing:each(function(c) c:close() end)
    local command = process.lua(path, (refusing:url():gsub("^ws", "wss")))
    command.as_is, command.limit = true, 20
    local code, text, err = process.run(command)
    assert.same({ 0, "" }, { code, text })
    assert.matches("^sipwire: tls%.verify is false: [^\n]+\n$", err)
  end)

  it("wants functions", function()
    for name, bad in pairs { on_log = 1, on_error = "x", on_lag = print } do
      local ok, err = pcall(sipwire.loop, { [name] = bad })
      assert.is_false(ok)
      assert.matches("option '" .. name, err, 1, true)
    end
    local loop = sipwire.loop()
    assert.is_false((pcall(function() loop.on_log = 1 end)))
    loop:close()
  end)
end)
