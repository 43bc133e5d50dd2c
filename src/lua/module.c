/* SPDX-License-Identifier: MIT */
/* Opens the module and holds what its files share.  Must not know any of the
   library's objects. */

#include "binding.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { RANDOM_MAX = 65536 }; /* bytes at once */

#if LUA_VERSION_NUM < 502
#define lua_rawlen lua_objlen

static void set_functions(lua_State *L, const luaL_Reg *functions) {
  for (; functions->name; functions++) {
    lua_pushcfunction(L, functions->func);
    lua_setfield(L, -2, functions->name);
  }
}
#else
static void set_functions(lua_State *L, const luaL_Reg *functions) {
  luaL_setfuncs(L, functions, 0);
}
#endif

void sw_lua_metatable(lua_State *L, const char *type, const luaL_Reg *methods) {
  luaL_newmetatable(L, type);
  set_functions(L, methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

void *sw_lua_check_marked(lua_State *L, const char *type, const void *mark,
                          size_t size) {
  const void **object = lua_touserdata(L, 1);
  if (object && lua_rawlen(L, 1) == size && *object == mark)
    return object;
  return luaL_checkudata(L, 1, type);
}

/* ---- Errors ------------------------------------------------------------ */

static void push_error_text(lua_State *L, int error, const char *text) {
  lua_pushfstring(L, "%s: %s", sipwire_error_name(error), text);
}

int sw_lua_result(lua_State *L, int error, const char *message) {
  if (!error) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_pushnil(L);
  push_error_text(L, error, message ? message : sipwire_error_text(error));
  lua_pushstring(L, sipwire_error_name(error));
  return 3;
}

static void set_string(lua_State *L, const char *field, const char *value,
                       size_t length) {
  if (!value)
    return;
  lua_pushlstring(L, value, length);
  lua_setfield(L, -2, field);
}

static void set_integer(lua_State *L, const char *field, int value) {
  if (!value)
    return;
  lua_pushinteger(L, value);
  lua_setfield(L, -2, field);
}

static void push_info(lua_State *L, const struct sipwire_info *info) {
  const char *phase = sipwire_phase_name(info->phase);
  lua_createtable(L, 0, 6);
  set_string(L, "phase", phase, phase ? strlen(phase) : 0);
  set_integer(L, "http_status", info->http_status);
  set_integer(L, "close_code", info->close_code);
  set_string(L, "close_reason", info->close_reason, info->close_reason_length);
  set_string(L, "tls_error", info->tls_error,
             info->tls_error ? strlen(info->tls_error) : 0);
  set_integer(L, "errno", info->sys_errno);
  if (info->close_code) {
    lua_pushboolean(L, info->was_clean);
    lua_setfield(L, -2, "was_clean");
  }
  if (info->http_headers) {
    sw_lua_push_headers(L, info->http_headers, info->http_headers_length);
    lua_setfield(L, -2, "http_headers");
  }
}

void sw_lua_push_error(lua_State *L, int error,
                       const struct sipwire_info *info) {
  if (!error) {
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushnil(L);
    return;
  }
  push_error_text(L, error, info ? info->text : sipwire_error_text(error));
  lua_pushstring(L, sipwire_error_name(error));
  if (info)
    push_info(L, info);
  else
    lua_newtable(L);
}

/* ---- Headers ----------------------------------------------------------- */

static void push_lower(lua_State *L, const char *name, size_t length) {
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  for (size_t i = 0; i < length; i++)
    luaL_addchar(&buffer, (char)tolower((unsigned char)name[i]));
  luaL_pushresult(&buffer);
}

/* Expects the table on top. */
static void add_header(lua_State *L, const char *line, size_t length) {
  const char *colon = memchr(line, ':', length);
  const char *value = colon ? colon + 1 : NULL, *end = line + length;
  if (!colon)
    return;
  while (value < end && (*value == ' ' || *value == '\t'))
    value++;
  while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
    end--;
  push_lower(L, line, (size_t)(colon - line));
  lua_pushvalue(L, -1);
  lua_rawget(L, -3);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushlstring(L, value, (size_t)(end - value));
  } else {
    lua_pushliteral(L, ", ");
    lua_pushlstring(L, value, (size_t)(end - value));
    lua_concat(L, 3);
  }
  lua_rawset(L, -3);
}

void sw_lua_push_headers(lua_State *L, const char *headers, size_t length) {
  const char *end = headers + length;
  lua_newtable(L);
  while (headers < end) {
    const char *stop = memchr(headers, '\r', (size_t)(end - headers));
    if (!stop)
      stop = end;
    add_header(L, headers, (size_t)(stop - headers));
    headers = stop + 2;
  }
}

void sw_lua_headers(lua_State *L, int index,
                    const struct sipwire_header **headers, size_t *count) {
  *headers = NULL;
  *count = 0;
  if (lua_isnoneornil(L, index)) {
    lua_pushnil(L);
    return;
  }
  luaL_checktype(L, index, LUA_TTABLE);
  while (lua_rawgeti(L, index, (int)*count + 1), !lua_isnil(L, -1)) {
    lua_pop(L, 1);
    ++*count;
  }
  lua_pop(L, 1);
  struct sipwire_header *list = lua_newuserdata(L, (*count + 1) * sizeof *list);
  for (size_t i = 0; i < *count; i++) {
    lua_rawgeti(L, index, (int)i + 1);
    lua_rawgeti(L, -1, 1);
    list[i].name = luaL_checkstring(L, -1);
    lua_rawgeti(L, -2, 2);
    list[i].value = luaL_checkstring(L, -1);
    lua_pop(L, 3);
  }
  *headers = list;
}

/* ---- Configurations ---------------------------------------------------- */

static bool get(lua_State *L, int index, const char *field) {
  lua_getfield(L, index, field);
  if (!lua_isnil(L, -1))
    return true;
  lua_pop(L, 1);
  return false;
}

static void get_string(lua_State *L, int index, const char *field,
                       const char **value) {
  if (!get(L, index, field))
    return;
  luaL_checktype(L, -1, LUA_TSTRING); /* a number would make a new string */
  *value = lua_tostring(L, -1);
  lua_pop(L, 1); /* the table keeps it */
}

static void get_int(lua_State *L, int index, const char *field, int *value) {
  if (!get(L, index, field))
    return;
  *value = (int)luaL_checkinteger(L, -1);
  lua_pop(L, 1);
}

static void get_size(lua_State *L, int index, const char *field,
                     size_t *value) {
  if (!get(L, index, field))
    return;
  *value = (size_t)luaL_checknumber(L, -1);
  lua_pop(L, 1);
}

static void get_bool(lua_State *L, int index, const char *field, bool *value) {
  if (!get(L, index, field))
    return;
  *value = lua_toboolean(L, -1);
  lua_pop(L, 1);
}

static void get_tls(lua_State *L, int index, struct sipwire_tls_config *tls) {
  get_string(L, index, "ca_file", &tls->ca_file);
  get_string(L, index, "ca_path", &tls->ca_path);
  get_string(L, index, "cert_file", &tls->cert_file);
  get_string(L, index, "key_file", &tls->key_file);
  get_string(L, index, "key_password", &tls->key_password);
  get_string(L, index, "server_name", &tls->server_name);
  get_string(L, index, "min_version", &tls->min_version);
  get_string(L, index, "ciphers", &tls->ciphers);
  get_string(L, index, "keylog_file", &tls->keylog_file);
  get_bool(L, index, "verify", &tls->verify);
}

void sw_lua_config(lua_State *L, int index, struct sipwire_config *config) {
  int method = SIPWIRE_KEEP_ALIVE_PING, frame = SIPWIRE_FRAME_AUTO;
  sipwire_config_init(config);
  get_string(L, index, "server", &config->server);
  get_string(L, index, "local_address", &config->local_address);
  get_string(L, index, "username", &config->username);
  get_string(L, index, "password", &config->password);
  get_string(L, index, "proxy", &config->proxy);
  get_int(L, index, "connection_timeout_ms", &config->connection_timeout_ms);
  get_int(L, index, "disconnect_timeout_ms", &config->disconnect_timeout_ms);
  get_int(L, index, "keep_alive_interval_ms", &config->keep_alive_interval_ms);
  get_int(L, index, "keep_alive_timeout_ms", &config->keep_alive_timeout_ms);
  get_int(L, index, "keep_alive_method", &method);
  get_int(L, index, "frame", &frame);
  get_bool(L, index, "raw", &config->raw);
  get_size(L, index, "max_message_size", &config->max_message_size);
  get_size(L, index, "send_queue_limit", &config->send_queue_limit);
  config->keep_alive_method = (enum sipwire_keep_alive)method;
  config->frame = (enum sipwire_frame)frame;
  if (get(L, index, "tls")) {
    get_tls(L, lua_gettop(L), &config->tls);
    lua_pop(L, 1);
  }
}

/* ---- Tags -------------------------------------------------------------- */

uint64_t sw_lua_check_tag(lua_State *L, int index) {
  return (uint64_t)luaL_optnumber(L, index, 0);
}

void sw_lua_push_tag(lua_State *L, uint64_t tag) {
#if LUA_VERSION_NUM >= 503
  lua_pushinteger(L, (lua_Integer)tag);
#else
  lua_pushnumber(L, (lua_Number)tag);
#endif
}

/* ---- Bytes and hashes -------------------------------------------------- */

static int hash(lua_State *L) {
  size_t length;
  char hex[SIPWIRE_HASH_SIZE];
  const char *name = luaL_checkstring(L, 1);
  const char *data = luaL_checklstring(L, 2, &length);
  int digits = sipwire_hash(name, data, length, hex);
  if (digits < 0)
    return sw_lua_result(L, digits, NULL);
  lua_pushlstring(L, hex, (size_t)digits);
  return 1;
}

static int random_bytes(lua_State *L) {
  lua_Integer length = luaL_checkinteger(L, 1);
  luaL_argcheck(L, length >= 0 && length <= RANDOM_MAX, 1, "0 to 65536");
  char *bytes = lua_newuserdata(L, (size_t)length + 1);
  int error = sipwire_random(bytes, (size_t)length);
  if (error)
    return sw_lua_result(L, error, NULL);
  lua_pushlstring(L, bytes, (size_t)length);
  return 1;
}

static int base64(lua_State *L) {
  size_t length;
  const char *data = luaL_checklstring(L, 1, &length);
  char *text = lua_newuserdata(L, SIPWIRE_BASE64_SIZE(length));
  int size = sipwire_base64(data, length, text);
  if (size < 0)
    return sw_lua_result(L, size, NULL);
  lua_pushlstring(L, text, (size_t)size);
  return 1;
}

static const luaL_Reg functions[] = {
    {"hash", hash}, {"random", random_bytes}, {"base64", base64}, {NULL, NULL}};

/* ---- The module -------------------------------------------------------- */

static void set_constant(lua_State *L, const char *name, int value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, name);
}

SIPWIRE_API int luaopen_sipwire_core(lua_State *L);

int luaopen_sipwire_core(lua_State *L) {
#if LUA_VERSION_NUM >= 502
  luaL_checkversion(L);
#endif
  lua_newtable(L);
  set_functions(L, functions);
  sw_lua_open_loop(L);
  sw_lua_open_transport(L);
  sw_lua_open_listener(L);
  sw_lua_open_timer(L);
  sw_lua_open_bridge(L);
  sw_lua_open_nginx(L);
  set_constant(L, "STATE", SIPWIRE_EVENT_STATE);
  set_constant(L, "CONNECT_DONE", SIPWIRE_EVENT_CONNECT_DONE);
  set_constant(L, "DISCONNECT_DONE", SIPWIRE_EVENT_DISCONNECT_DONE);
  set_constant(L, "SEND_DONE", SIPWIRE_EVENT_SEND_DONE);
  set_constant(L, "MESSAGE", SIPWIRE_EVENT_MESSAGE);
  set_constant(L, "REQUEST", SIPWIRE_EVENT_REQUEST);
  set_constant(L, "TIMER", SIPWIRE_EVENT_TIMER);
  set_constant(L, "LOG", SW_LUA_LOG);
  lua_pushliteral(L, SIPWIRE_VERSION);
  lua_setfield(L, -2, "VERSION");
  return 1;
}
