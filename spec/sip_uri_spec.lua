-- SPDX-License-Identifier: MIT
-- URIs: what they consist of, which are malformed, which are equal.

local sip = require "sipwire.sip"

local function uri(text)
  local u, err = sip.uri(text)
  return assert.is_truthy(u, err) and u
end

describe("sip.uri #text", function()
  it("takes URIs apart", function()
    local u = uri("SIPS:al%69ce;x=1:p,w@[2001:DB8::1]:5061;TransPort=WS;lr" ..
      "?Subject=a%20b&Priority=urgent")
    assert.same({ "sips", "al%69ce;x=1", "p,w", "[2001:DB8::1]", 5061 },
      { u.scheme, u.user, u.password, u.host, u.port })
    assert.same({ transport = "WS", lr = "" }, u.params)
    assert.same({ subject = "a%20b", priority = "urgent" }, u.headers)
    assert.is_truthy(tostring(u):find "^SIPS:al%%69ce")
  end)

  it("needs no more than a host", function()
    local u = uri "sip:example.com"
    assert.same({ "sip", "example.com", {}, {} },
      { u.scheme, u.host, u.params, u.headers })
    assert.is_nil(u.user or u.password or u.port)
    u = uri "sip:a@b:1"
    assert.same({ "a", "b", 1 }, { u.user, u.host, u.port })
    u = uri "sip:b:1;x?y=z"
    assert.same({ "b", 1, { x = "" }, { y = "z" } },
      { u.host, u.port, u.params, u.headers })
    assert.same({ y = "" }, uri "sip:a@b?y=".headers)
    assert.same({ "a?b", "c" }, { uri "sip:a?b@c".user, uri "sip:a?b@c".host })
  end)

  it("passes tel and others through", function()
    local u = uri "tel:+1-201-555-0123;ext=7;isub=1"
    assert.same({ "tel", "+1-201-555-0123", { ext = "7", isub = "1" } },
      { u.scheme, u.number, u.params })
    assert.equal("urn", uri "urn:service:sos".scheme)
    assert.equal("http://a/b?c#d", tostring(uri "http://a/b?c#d"))
  end)

  it("rejects what is malformed", function()
    for _, text in ipairs { "", "a", "sip", "sip:", ":a", "1a:b", "sip:@a",
      "sip:a@", "sip:a b@c", "sip:a@b c", "sip:a@b:", "sip:a@b:0x1",
      "sip:a@b:65536", "sip:a@b;", "sip:a@b;;c", "sip:a@b;=c", "sip:a@b;c=",
      "sip:a@b;c=d=e", "sip:a@b;c;C", "sip:a@b?", "sip:a@b?c", "sip:a@b?=c",
      "sip:a%4@b", "sip:a%zz@b", "sip:a@-b", "sip:a@b-", "sip:a@b..c",
      "sip:a@.b", "sip:a@b_c", "sip:[::1", "sip:a@[x]", "sip:[1]", "<sip:a>",
      "sip:a<b", "sip:a\"@b", "sip:a@b@c", "sip:a@b\r\n", "sip:a\0", "tel:",
      "tel:x", "tel:+", "tel:1;", "foo:a b", "foo:<a>" } do
      local u, err, code = sip.uri(text)
      assert.is_nil(u, text)
      assert.equal("uri", code)
      assert.is_truthy(err:find "^uri: it has ")
    end
  end)
end)

describe("sip.uri_equal #text", function()
  local function check(wanted, a, b)
    for _, pair in ipairs { { a, b }, { b, a } } do
      assert.equal(wanted, sip.uri_equal(pair[1], pair[2]),
        pair[1] .. " and " .. pair[2])
      assert.equal(wanted, sip.uri(pair[1]) == sip.uri(pair[2]))
    end
  end

  it("is what RFC 3261 section 19.1.4 says", function()
    for _, pair in ipairs {
      { "sip:%61lice@atlanta.com;transport=TCP",
        "sip:alice@AtLanTa.CoM;Transport=tcp" },
      { "sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5" },
      { "sip:carol@chicago.com", "sip:carol@chicago.com;security=on" },
      { "sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on" },
      { "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com" },
      { "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:alice@atlanta.com?priority=urgent&subject=project%20x" } } do
      check(true, pair[1], pair[2])
    end
    for _, pair in ipairs {
      { "SIP:ALICE@AtLanTa.CoM;Transport=udp",
        "sip:alice@AtLanTa.CoM;Transport=UDP" },
      { "sip:bob@biloxi.com", "sip:bob@biloxi.com:5060" },
      { "sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp" },
      { "sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp" },
      { "sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting" },
      { "sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4" },
      { "sip:carol@chicago.com;security=on",
        "sip:carol@chicago.com;security=off" } } do
      check(false, pair[1], pair[2])
    end
  end)

  it("looks at every part", function()
    check(false, "sip:a@b", "sips:a@b")
    check(false, "sip:a@b", "sip:b")
    check(false, "sip:a:p@b", "sip:a:q@b")
    check(false, "sip:a:p@b", "sip:a@b")
    check(false, "sip:a@b:1", "sip:a@b:2")
    for _, name in ipairs { "user", "ttl", "method", "maddr", "transport" } do
      check(false, "sip:a@b", "sip:a@b;" .. name .. "=1")
      check(true, "sip:a@b;x;" .. name .. "=A", "sip:a@b;" .. name .. "=a")
    end
    check(false, "sip:a%40b@c", "sip:a%41b@c")
    check(true, "sip:a%3fb@c", "sip:a%3Fb@c")
    check(false, "sip:a%3fb@c", "sip:a?b@c") -- reserved: not the same
    check(true, "sip:a@b;%78=1", "sip:a@b;x=1")
    check(false, "sip:a@b?c=D", "sip:a@b?c=d")
    check(true, "tel:+1-201-555", "TEL:+1(201)555")
    check(false, "tel:+1201555", "tel:+1201555;ext=1")
    check(false, "tel:1", "sip:1")
    check(true, "HTTP://a/B", "http://a/B")
    check(false, "http://a/B", "http://a/b")
  end)

  it("is false for what is no URI", function()
    assert.is_false(sip.uri_equal("a", "a"))
    assert.is_false(sip.uri_equal(nil, "sip:a"))
    assert.is_false(sip.uri_equal("sip:a", 1))
    assert.is_false(sip.uri_equal({}, {}))
    assert.is_true(sip.uri_equal(sip.uri "sip:a", "sip:A"))
  end)
end)
