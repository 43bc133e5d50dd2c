-- SPDX-License-Identifier: MIT
-- SIP messages (RFC 3261) for the wire of RFC 7118: reading and building them.
-- The transport does not need this.

local build = require "sipwire.sip.build"
local messages = require "sipwire.sip.message"
local random = require "sipwire.sip.random"
local raise = require "sipwire.raise"
local uris = require "sipwire.sip.uri"

--- SIP messages in text. What a peer sent never raises an error; mistakes of
--- the caller do.
local sip = {}

local function wants_string(value, what)
  if type(value) ~= "string" then
    raise("%s needs a string, not %s", what, type(value))
  end
end

---@class sipwire.sip.ParseOptions
---@field strict? boolean default false: what is wrong is forgiven where it
--- makes sense, and told in `warnings`; true: the first error is returned

--- Where the error is.
---@class sipwire.sip.Info
---@field position integer of a byte, from 1

--- Reads one message, such as a WebSocket message.
---@param text string
---@param options? sipwire.sip.ParseOptions
---@return sipwire.sip.Message|nil message
---@return string|nil err
---@return string|nil code "start_line"; with `strict` also "version", "header",
--- "value", "missing", "repeated", "mismatch", "body"
---@return sipwire.sip.Info|nil info
function sip.parse(text, options)
  wants_string(text, "parse")
  local strict = options ~= nil and build.parse_options(options).strict
  local message, position = messages.parse(text)
  if not message then
    return nil, "start_line: this does not begin like a SIP message",
      "start_line", { position = position }
  end
  local problem = strict and messages.error(message)
  if problem then
    return nil, problem.code .. ": " .. problem.text, problem.code,
      { position = problem.position }
  end
  return message
end

sip.request = build.request

--- Reads a URI: sip, sips and tel; of other schemes only their name.
---@param text string
---@return sipwire.sip.Uri|nil uri
---@return string|nil err
---@return string|nil code "uri"
---@return sipwire.sip.Info|nil info
function sip.uri(text)
  wants_string(text, "uri")
  return uris.parse(text)
end

sip.uri_equal = uris.equal
sip.token = random.token
sip.tag = random.tag
sip.branch = random.branch
sip.call_id = random.call_id
sip.host = random.host

return sip
