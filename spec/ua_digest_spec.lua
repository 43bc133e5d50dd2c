-- SPDX-License-Identifier: MIT
-- Digest for SIP: the RFCs' vectors, and which challenge is answered how often.

local digest = require "sipwire.ua.digest"
local helper = require "spec.helper"

helper.watch()

local NONCE = "dcd98b7102dd2f0e8b11d0f600bfb0c093"

-- From draft-smith-sipping-auth-examples, "bob" at biloxi.com.
local sdp = table.concat({ "v=0",
  "o=bob 2890844526 2890844526 IN IP4 media.biloxi.com", "s=-",
  "c=IN IP4 media.biloxi.com", "t=0 0", "m=audio 49170 RTP/AVP 0",
  "a=rtpmap:0 PCMU/8000", "m=video 51372 RTP/AVP 31",
  "a=rtpmap:31 H261/90000", "m=video 53000 RTP/AVP 32",
  "a=rtpmap:32 MPV/90000", "" }, "\r\n")

local function bob(more)
  local a = { username = "bob", password = "zanzibar", realm = "biloxi.com",
    nonce = NONCE, method = "INVITE", uri = "sip:bob@biloxi.com",
    nc = "00000001", cnonce = "0a4f113b" }
  for name, value in pairs(more or {}) do a[name] = value end
  return digest.response(a)
end

-- RFC 7616 section 3.9.1
local function mufasa(algorithm)
  return digest.response { username = "Mufasa", password = "Circle of Life",
    realm = "http-auth@example.org", method = "GET", uri = "/dir/index.html",
    nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc = "00000001",
    cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop = "auth",
    algorithm = algorithm }
end

describe("the digest of #text", function()
  it("RFC 2617 and 7616 is as they print it", function()
    assert.equal("8ca523f5e9506fed4657c9700eebdbec", mufasa "MD5")
    assert.equal("8ca523f5e9506fed4657c9700eebdbec", mufasa(nil))
    assert.equal("753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5" ..
      "856cb6c1", mufasa "SHA-256")
    assert.equal("6629fae49393a05397450978507c4ef1", digest.response {
      username = "Mufasa", password = "Circle Of Life", method = "GET",
      realm = "testrealm@host.com", uri = "/dir/index.html", nonce = NONCE,
      nc = "00000001", cnonce = "0a4f113b", qop = "auth" })
  end)

  -- The response that the RFC prints is wrong (erratum 4897): this one is of
  -- Python's hashlib.
  it("RFC 7616 section 3.9.2 is that of its words", function()
    assert.equal("7a4e1192babbba02e91182d2895bfdbf7adafc6e48d4e517ca301974" ..
      "843d840c", digest.response { username = "J\195\164s\195\184n Doe",
      password = "Secret, or not?", realm = "api@example.org",
      method = "GET", uri = "/doe.json", nc = "00000001", qop = "auth",
      nonce = "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
      cnonce = "NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm",
      algorithm = "SHA-512-256" })
  end)

  it("an INVITE is that of the SIP examples", function()
    assert.equal("bf57e4e0d0bffc0fbaedce64d59add5e", bob())
    assert.equal("bf57e4e0d0bffc0fbaedce64d59add5e", bob { qop = "" })
    assert.equal("89eb0059246c02b2f6ee02c7961d5ea3", bob { qop = "auth" })
    assert.equal("e4e4ea61d186d07a92c9e1f6919902e9",
      bob { qop = "auth", algorithm = "MD5-sess" })
    assert.equal("bdbeebb2da6adb6bca02599c2239e192",
      bob { qop = "auth-int", body = sdp })
  end)

  it("A1 needs no password", function()
    local core = require "sipwire.core"
    for _, name in ipairs { "MD5", "SHA-256", "SHA-512-256" } do
      for _, session in ipairs { "", "-sess" } do
        local algorithm = name .. session
        assert.equal(bob { algorithm = algorithm, qop = "auth" },
          bob { algorithm = algorithm, qop = "auth", password = "wrong",
            ha1 = core.hash(name:lower(), "bob:biloxi.com:zanzibar") })
      end
    end
  end)
end)

-- ---- Challenges -----------------------------------------------------------

local function challenge(more)
  local c = { scheme = "Digest", realm = "r", nonce = "n1", qop = "auth" }
  for name, value in pairs(more or {}) do c[name] = value or nil end
  return c
end

local function refused(...)
  return { status = 401, www_authenticate = { ... } }
end

local function proxy_refused(...)
  return { status = 407, proxy_authenticate = { ... } }
end

-- A request as far as digests look at it; fields in order.
local function request(method, uri, body)
  local self = { method = method or "REGISTER", uri = uri or "sip:x",
    body = body or "", added = {} }
  function self.add(_, name, value)
    self.added[#self.added + 1] = { name, value }
  end
  return self
end

local function parameters(value)
  local found = {}
  for name, text in value:gmatch "(%w+)=(%b\"\")" do
    found[name] = text:sub(2, -2)
  end
  for name, text in value:gsub('%b""', '""'):gmatch "(%w+)=([^%s,\"]+)" do
    found[name] = text
  end
  return found
end

-- What an authorized request has to show.
local function shown(credentials, ...)
  local r = request(...)
  credentials:authorize(r)
  local all = {}
  for i, field in ipairs(r.added) do
    assert.matches("^Digest ", field[2])
    all[i] = parameters(field[2])
    all[i].field = field[1]
  end
  return all
end

describe("credentials #text", function()
  local who
  before_each(function() who = digest.new("alice", "secret") end)

  it("show nothing before they are asked", function()
    assert.same({}, shown(who))
  end)

  it("answer a challenge, and count the uses of its nonce", function()
    assert.is_true(who:challenged(refused(challenge { opaque = "o\\\"p" }),
      "sip:x", {}))
    local first, cnonce = shown(who)[1], nil
    assert.equal("Authorization", first.field)
    cnonce, first.cnonce = first.cnonce, nil
    assert.equal(digest.response { username = "alice", password = "secret",
      realm = "r", nonce = "n1", nc = "00000001", cnonce = cnonce, qop = "auth",
      method = "REGISTER", uri = "sip:x" }, first.response)
    assert.matches("^" .. ("%x"):rep(32) .. "$", cnonce)
    assert.same({ "alice", "r", "n1", "sip:x", "00000001", "auth" },
      { first.username, first.realm, first.nonce, first.uri, first.nc,
        first.qop })
    assert.is_nil(first.algorithm)
    for i = 2, 17 do
      assert.equal(("%08x"):format(i), shown(who)[1].nc)
    end
  end)

  it("quote what needs it", function()
    who = digest.new('a"\\', "p")
    assert.is_true(who:challenged(refused(challenge { realm = 'x"y',
      opaque = "", algorithm = "md5" }), "sip:x", {}))
    local r = request()
    who:authorize(r)
    local value = r.added[1][2]
    assert.matches('username="a\\"\\\\", realm="x\\"y"', value, 1, true)
    assert.matches('opaque=""', value, 1, true)
    assert.matches("algorithm=md5", value, 1, true)
  end)

  it("leave qop away if the server does, but not cnonce of -sess", function()
    who:challenged(refused(challenge { qop = false }), "sip:x", {})
    local one = shown(who)[1]
    assert.same({}, { one.qop, one.nc, one.cnonce })
    who:challenged(refused(challenge { qop = false, nonce = "n2",
      algorithm = "MD5-sess" }), "sip:x", {})
    one = shown(who)[1]
    assert.equal(32, #one.cnonce)
    assert.equal(digest.response { username = "alice", password = "secret",
      realm = "r", nonce = "n2", cnonce = one.cnonce, algorithm = "MD5-sess",
      method = "REGISTER", uri = "sip:x" }, one.response)
  end)

  it("prefer auth to auth-int, and hash the body for that", function()
    who:challenged(refused(challenge { qop = "auth-int, Auth" }), "sip:x", {})
    assert.equal("auth", shown(who)[1].qop)
    who:challenged(refused(challenge { qop = "auth-int" }), "sip:x", {})
    local with, without = shown(who, "MESSAGE", "sip:x", "hi")[1],
      shown(who, "MESSAGE", "sip:x", "ho")[1]
    assert.equal("auth-int", with.qop)
    assert.not_equal(with.response, without.response)
    assert.equal(digest.response { username = "alice", password = "secret",
      realm = "r", nonce = "n1", nc = with.nc, cnonce = with.cnonce,
      qop = "auth-int", method = "MESSAGE", uri = "sip:x", body = "hi" },
      with.response)
  end)

  it("take the first of several challenges that can be done", function()
    assert.is_true(who:challenged(refused(
      challenge { scheme = "Basic" }, challenge { algorithm = "SHA-3" },
      challenge { algorithm = "SHA-512-256", qop = "auth-other" },
      challenge { algorithm = "SHA-256", nonce = "good" },
      challenge { algorithm = "MD5" }), "sip:x", {}))
    local all = shown(who)
    assert.same({ 1, "SHA-256", "good" },
      { #all, all[1].algorithm, all[1].nonce })
  end)

  it("give up where there is none", function()
    for _, c in ipairs { challenge { scheme = "Bearer" },
      challenge { algorithm = "SHA-1" }, challenge { realm = false },
      challenge { nonce = false }, challenge { qop = "token" },
      challenge { realm = "a\0" }, challenge { nonce = "\r\n" },
      challenge { opaque = "\127" } } do
      assert.is_false(who:challenged(refused(c), "sip:x", {}))
    end
    assert.is_false(who:challenged({ status = 401 }, "sip:x", {}))
    assert.is_false(who:challenged({ status = 407,
      www_authenticate = { challenge() } }, "sip:x", {}))
    assert.same({}, shown(who))
  end)

  it("end after the second refusal, and forget what was refused", function()
    local answered = {}
    assert.is_true(who:challenged(refused(challenge()), "sip:x", answered))
    assert.is_false(who:challenged(refused(challenge { nonce = "n2" }),
      "sip:x", answered))
    assert.same({}, shown(who))
    -- a new request begins anew
    assert.is_true(who:challenged(refused(challenge()), "sip:x", {}))
  end)

  it("go on when only the nonce was stale, but not for ever", function()
    local answered, count = {}, 0
    repeat
      count = count + 1
      local again = who:challenged(refused(challenge { nonce = "n" .. count,
        stale = "TRUE" }), "sip:x", answered)
    until not again or count > 20
    assert.equal(4, count)
    answered = {}
    who:challenged(refused(challenge()), "sip:x", answered)
    assert.is_false(who:challenged(refused(challenge { stale = "true" }),
      "sip:x", answered), "the same nonce again")
    assert.is_false(who:challenged(refused(challenge { nonce = "n3",
      stale = "false" }), "sip:x", { ["Authorization r"] = 1 }))
  end)

  it("answer once more when a kept nonce is refused without a word", function()
    who:challenged(refused(challenge()), "sip:x", {})
    shown(who)
    local answered = {}
    assert.is_true(who:challenged(refused(challenge { nonce = "n2" }), "sip:x",
      answered))
    local now = shown(who)[1]
    assert.same({ "n2", "00000001" }, { now.nonce, now.nc })
    assert.is_false(who:challenged(refused(challenge { nonce = "n3" }),
      "sip:x", answered))
  end)

  it("end when there is a new realm each time, and remember the last ones",
    function()
      local answered, count = {}, 0
      repeat
        count = count + 1
        local again = who:challenged(proxy_refused(challenge {
          realm = "r" .. count }), "sip:x", answered)
      until not again or count > 100
      assert.equal(21, count)
      for i = 1, 100 do
        who:challenged(refused(challenge { realm = "q" .. i }), "sip:x", {})
      end
      local all = shown(who)
      assert.same({ 50, "q51", "q100" }, { #all, all[1].realm, all[50].realm })
    end)

  it("take two requests that are refused at once", function()
    local one, two = {}, {}
    who:challenged(proxy_refused(challenge { realm = "p" }), "sip:x", {})
    for _, answered in ipairs { one, two } do
      assert.is_true(who:challenged(refused(challenge()), "sip:x", answered))
    end
    assert.is_false(who:challenged(refused(challenge { nonce = "n2" }),
      "sip:x", one))
    assert.is_true(who:challenged(refused(challenge { nonce = "n3",
      stale = "true" }), "sip:x", two))
    who:challenged(refused(challenge { nonce = "n4" }), "sip:x", one)
    assert.is_false(who:challenged(refused(challenge { nonce = "n5" }),
      "sip:x", two))
    assert.equal("p", shown(who)[1].realm)
  end)

  it("keep proxies and servers apart, by realm and target", function()
    local answered = {}
    assert.is_true(who:challenged(proxy_refused(challenge { realm = "p1" },
      challenge { realm = "p2" }), "sip:x", answered))
    assert.is_true(who:challenged(refused(challenge { realm = "p1" }),
      "sip:x", answered))
    local function fields(...)
      local list = {}
      for i, one in ipairs(shown(who, ...)) do
        list[i] = one.field .. " " .. one.realm
      end
      return list
    end
    assert.same({ "Proxy-Authorization p1", "Proxy-Authorization p2",
      "Authorization p1" }, fields("INVITE", "sip:x"))
    assert.same({ "Proxy-Authorization p1", "Proxy-Authorization p2" },
      fields("INVITE", "sip:y"))
  end)

  it("go on with the next nonce if told so", function()
    who:challenged(refused(challenge()), "sip:x", {})
    shown(who)
    local function response(value)
      return { get = function(_, name)
        return name == "Authentication-Info" and value or nil
      end }
    end
    who:answered(response 'qop=auth, nextnonce="n9"', "sip:y")
    assert.equal("n1", shown(who)[1].nonce)
    who:answered(response 'qop=auth, nextnonce="n9"', "sip:x")
    local now = shown(who)[1]
    assert.same({ "n9", "00000001" }, { now.nonce, now.nc })
    who:answered(response 'nextnonce="n\0"', "sip:x")
    who:answered(response "rspauth=\"00\"", "sip:x")
    assert.equal("00000002", shown(who)[1].nc)
  end)

  it("do with A1 alone what its hash can", function()
    local core = require "sipwire.core"
    local md5 = core.hash("md5", "alice:r:secret")
    local sha = core.hash("sha-256", "alice:r:secret")
    who = digest.new("alice", nil, md5:upper())
    assert.is_false(who:challenged(refused(challenge {
      algorithm = "SHA-256" }), "sip:x", {}))
    assert.is_true(who:challenged(refused(challenge()), "sip:x", {}))
    local one = shown(who)[1]
    assert.equal(digest.response { username = "alice", password = "secret",
      realm = "r", nonce = "n1", nc = one.nc, cnonce = one.cnonce, qop = "auth",
      method = "REGISTER", uri = "sip:x" }, one.response)
    who = digest.new("alice", nil, { ["SHA-256"] = sha })
    assert.is_false(who:challenged(refused(challenge()), "sip:x", {}))
    assert.is_true(who:challenged(refused(challenge {
      algorithm = "SHA-256-sess" }), "sip:x", {}))
    assert.is_true(digest.new("alice", nil, sha):challenged(refused(challenge {
      algorithm = "SHA-256" }), "sip:x", {}))
    for _, wrong in ipairs { "xyz", { sha1 = md5 }, { md5 = 1 }, { md5 } } do
      assert.has_error(function() digest.new("a", nil, wrong) end,
        "option 'ha1' must be hex, or a table of hex by the hash's name")
    end
  end)

  it("do not print the password", function()
    assert.equal("sipwire.ua.digest: alice", tostring(who))
  end)
end)
