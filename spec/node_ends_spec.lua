-- SPDX-License-Identifier: MIT
-- Refusals and ends with node's ws as the peer, over ws and wss: close codes
-- in both directions, as each side saw them.

local sipwire = require "sipwire"
local helper = require "spec.helper"
local node_pair = require "spec.support.node_pair"
local pair = require "spec.support.pair"
local scale = require "spec.support.run".scale

local messages = node_pair.messages
local run_until = helper.run_until

helper.watch()

local peer

setup(function() peer = node_pair.start() end)
teardown(function() peer:stop() end)

local function closed(...) node_pair.closed(peer, ...) end

-- Time enough to get as far as the upgrade, in which nothing comes any more.
local brief = 0.3 * math.min(scale, 4)

local reasons = { "", "going away", ("x"):rep(123), ("\195\164"):rep(61),
                  "\240\159\147\158" }

for _, scheme in ipairs { "ws", "wss" } do
  local function open(path, more)
    return node_pair.open(peer, scheme, path, more)
  end

  describe("over " .. scheme .. ", a close by node", function()
    -- Has the peer leave by |command|; it must see |answer| as the code.
    local function leaves(command, answer)
      local t, seen, asked = open()
      t:send(command)
      pair.gone(t)
      assert.same({ "Connecting", "Connected", "Disconnected" }, seen.states)
      assert.same({ "up", "connected", "down" }, seen.order)
      assert.equal("open", seen.info.phase)
      assert.equal(seen.code .. ": ", seen.err:sub(1, #seen.code + 2))
      closed(asked.id, answer)
      assert.equal(0, peer:seen("error", { id = asked.id }))
      return seen.code, seen.info
    end

    it("is told with code and reason, and answered (C35, C37, R28)", function()
      for code = 1000, 5000 do
        local legal = code <= 1014 and not (code >= 1004 and code <= 1006)
        if legal or code == 3000 or code == 3999 or code == 4000 or
          code == 4999 then
          local reason = reasons[code % #reasons + 1]
          local why, info = leaves(("CLOSE %d %s"):format(code, reason), code)
          assert.equal("closed", why)
          assert.equal(code, info.close_code)
          assert.equal(reason, info.close_reason)
          assert.is_true(info.was_clean)
        end
      end
    end)

    it("without a code is 1005 for both sides (R28)", function()
      local code, info = leaves("CLOSE", 1005)
      assert.equal("closed", code)
      assert.equal(1005, info.close_code)
      assert.is_true(info.was_clean)
    end)

    it("comes after all messages before it", function()
      local t, seen, asked = open()
      t:send "MANY 500 200"
      t:send "CLOSE 4001 done"
      pair.gone(t)
      assert.equal(500, #seen.messages)
      assert.equal(4001, seen.info.close_code)
      closed(asked.id, 4001)
    end)

    it("that crosses ours is no error (C35)", function()
      local t, seen, asked = open()
      t:send "CLOSE 4001 crossing"
      t:disconnect(helper.counted(function(err) assert.is_nil(err) end))
      pair.gone(t)
      assert.is_nil(seen.err)
      assert.equal(1, seen.downs)
      closed(asked.id, 1000)
    end)

    it("by FIN or RST alone is 1006, and not clean (C37)", function()
      local code, info = leaves("FIN", 1006)
      assert.equal("closed", code)
      assert.equal(1006, info.close_code)
      assert.is_false(info.was_clean)
      assert.is_nil(info.close_reason)
      code, info = leaves("TERMINATE", 1006)
      assert.equal("reset", code)
      assert.equal(1006, info.close_code)
      assert.is_false(info.was_clean)
      assert.is_nil(info.close_reason)
    end)
  end)

  describe("over " .. scheme .. ", node sees", function()
    it("1000 and no reason from disconnect() and dispose() (C26, C45)",
      function()
        local t, seen, asked = open()
        t:disconnect(helper.counted(function(err) assert.is_nil(err) end))
        pair.gone(t)
        closed(asked.id, 1000)
        assert.is_nil(seen.err)
        assert.equal(1, seen.downs)
        t, seen, asked = open()
        t:send "last"
        t:dispose()
        closed(asked.id, 1000)
        assert.equal(4, peer:event("message", { id = asked.id }).size)
        assert.same({ "up", "connected" }, seen.order)
      end)

    it("1001 from a loop that is closed", function()
      local loop = sipwire.loop()
      local t, seen = pair.client(node_pair.options(peer, scheme, "/",
        { loop = loop }))
      t:connect()
      run_until(function()
        loop:step(0)
        return t:is_connected()
      end)
      assert(loop:close())
      closed(peer:event "open".id, 1001)
      assert.equal(0, seen.downs)
    end)

    it("1009 from us for a message that is too big", function()
      for _, command in ipairs { "TEXT 101", "BINARY 101", "FRAGMENT 101 3",
                                 "TEXT 1048577" } do
        local t, seen, asked = open("/", { max_message_size = 100 })
        t:send "TEXT 100"
        t:send "FRAGMENT 100 100"
        messages(seen, 2)
        t:send(command)
        pair.gone(t)
        assert.equal("too_big", seen.code)
        assert.equal("open", seen.info.phase)
        assert.equal(2, #seen.messages)
        closed(asked.id, 1009)
      end
    end)

    it("nothing of a connect() that was given up (C18, C22)", function()
      local t, seen = pair.client(node_pair.options(peer, scheme, "/hang"))
      local outcome = pair.connect(t)
      peer:event("refused", { path = "/hang" })
      t:disconnect(helper.counted(function(err) assert.is_nil(err) end))
      pair.gone(t)
      assert.equal("aborted", outcome.code)
      assert.same({ "Connecting", "Disconnecting", "Disconnected" },
        seen.states)
      assert.equal(0, #seen.order)
      assert.equal(0, peer:seen "open")
    end)
  end)

  describe("over " .. scheme .. ", node refuses", function()
    local t, seen

    local function fails(code, path, more)
      t, seen = pair.client(node_pair.options(peer, scheme, path, more))
      local outcome = pair.finish(pair.connect(t, seen))
      assert.equal(code, outcome.code)
      assert.equal(code .. ": ", outcome.err:sub(1, #code + 2))
      assert.equal("upgrade", outcome.info.phase)
      assert.is_nil(outcome.info.close_code)
      assert.same({ "Connecting", "Disconnected" }, seen.states)
      assert.same({ "connected" }, seen.order)
      return outcome.info
    end

    it("with a status, headers and a body (C15, R25)", function()
      for _, status in ipairs { 200, 400, 401, 403, 404, 426, 500, 503 } do
        local path = "/refuse?status=" .. status
        local info = fails("http", path, { headers = { Cookie = "a=b" } })
        assert.equal(status, info.http_status)
        assert.same({ ["content-length"] = "7", connection = "close" },
          info.http_headers)
        local refused = peer:event("refused", { path = path })
        assert.equal(status, refused.status)
        assert.equal("sip", refused.headers["sec-websocket-protocol"])
        assert.equal("a=b", refused.headers.cookie)
      end
    end)

    it("by sending us elsewhere or asking who we are (R15, R25)", function()
      local info = fails("http", "/redirect")
      assert.equal(302, info.http_status)
      assert.equal("ws://localhost/elsewhere", info.http_headers.location)
      assert.equal(302, peer:event("refused", { path = "/redirect" }).status)
      info = fails("http", "/basic")
      assert.equal(401, info.http_status)
      assert.equal('Basic realm="spec"', info.http_headers["www-authenticate"])
      assert.equal(401, peer:event("refused", { path = "/basic" }).status)
      assert.equal(0, peer:seen "refused") -- one request each
    end)

    it("by silence (C16)", function()
      local info = fails("timeout", "/hang", { connection_timeout = brief })
      assert.is_nil(info.http_status)
      peer:event("refused", { path = "/hang" })
    end)

    it("to speak sip (R2)", function()
      for _, path in ipairs { "/noproto", "/proto?name=xmpp",
                              "/proto?name=sips", "/proto?name=SIP" } do
        fails("subprotocol", path)
        local asked = peer:event("open", { path = path })
        closed(asked.id, 1006) -- no frame of ours came
      end
      local asked
      t, seen, asked = open "/proto?name=sip"
      node_pair.leave(peer, t, asked.id)
      assert.same({ "up", "connected", "down" }, seen.order)
    end)

    it("and the same transport connects later (C20)", function()
      local path = "/refuse?status=503"
      local options = node_pair.options(peer, scheme, path)
      options.server = function()
        return node_pair.options(peer, scheme, path).server
      end
      t, seen = pair.client(options)
      for _ = 1, 3 do
        path = "/refuse?status=503"
        assert.equal("http", pair.finish(pair.connect(t)).code)
        peer:event("refused", { path = path })
        path = "/again"
        assert.is_nil(pair.finish(pair.connect(t)).err)
        t:send "hello"
        messages(seen, 1)
        assert.same({ "hello" }, seen.messages)
        seen.messages = {}
        node_pair.leave(peer, t, peer:event("open", { path = path }).id)
      end
      assert.equal(3, seen.ups)
      assert.equal(3, seen.downs)
    end)
  end)
end
