local helper = require "spec.helper"
local sipwire = require "sipwire"
local rawpeer = require "spec.support.rawpeer"
helper.watch()
describe("x", function()
  it("connects", function()
    local server = rawpeer.listen()
    local t = sipwire.new { server = server:url("/ws?x=1") }
    local ok
    t:connect(function(e) ok = e or true end)
    local peer = server:accept()
    local head = peer:answer_upgrade()
    print(head.raw)
    helper.run_until(function() return ok end)
    t:disconnect()
    print(peer:answer_close())
    helper.run_until(function() return t.state == "Disconnected" end)
  end)
end)
