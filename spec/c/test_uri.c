/* SPDX-License-Identifier: MIT */

/* URIs, good and bad.  Each text is parsed from memory that ends at a guard
   page, right behind its NUL. */

#include "test.h"
#include "uri.h"

/* Parses |text|; a good |*uri| points into |text| itself. */
static const char *parse(const char *text, struct sw_uri *uri) {
  size_t length = strlen(text);
  char *copy = test_guarded(text, length + 1);
  const char *fault = sw_uri_parse(copy, uri);
  if (!fault) {
    const char *host = uri->host.data, *target = uri->target.data;
    CHECK(host > copy && host + uri->host.length <= copy + length);
    CHECK(target > copy && target + uri->target.length == copy + length);
    uri->host.data = text + (host - copy);
    uri->target.data = text + (target - copy);
  }
  test_unguard(copy, length + 1);
  return fault;
}

static const struct {
  const char *text, *host, *target;
  bool secure;
  unsigned port;
  bool default_port;
} good[] = {
    {"ws://a", "a", "", false, 80, true},
    {"wss://a", "a", "", true, 443, true},
    {"ws://a/", "a", "/", false, 80, true},
    {"WS://A", "A", "", false, 80, true},
    {"wSS://a", "a", "", true, 443, true},
    {"wss://pbx.example:8443/ws?x=1", "pbx.example", "/ws?x=1", true, 8443,
     false},
    {"ws://PBX.Example/Path", "PBX.Example", "/Path", false, 80, true},
    {"ws://a?q", "a", "?q", false, 80, true},
    {"ws://a:81?q", "a", "?q", false, 81, false},
    {"ws://a?", "a", "?", false, 80, true},
    {"ws://a/?", "a", "/?", false, 80, true},
    {"ws://a//b/../c;d=1,2/", "a", "//b/../c;d=1,2/", false, 80, true},
    {"ws://a/b?c/d?e@f:g", "a", "/b?c/d?e@f:g", false, 80, true},
    {"ws://a/x@y:z", "a", "/x@y:z", false, 80, true},
    {"ws://a?u@v", "a", "?u@v", false, 80, true},
    {"ws://a/-._~!$&'()*+,;=:@", "a", "/-._~!$&'()*+,;=:@", false, 80, true},
    {"ws://a/%00%fF%41?%2f%C3%a9", "a", "/%00%fF%41?%2f%C3%a9", false, 80,
     true},
    /* ports */
    {"ws://a:", "a", "", false, 80, true},
    {"wss://a:/", "a", "/", true, 443, true},
    {"ws://a:?q", "a", "?q", false, 80, true},
    {"ws://a:80", "a", "", false, 80, true},
    {"wss://a:443/", "a", "/", true, 443, true},
    {"ws://a:443/", "a", "/", false, 443, false},
    {"wss://a:80/", "a", "/", true, 80, false},
    {"ws://a:1", "a", "", false, 1, false},
    {"ws://a:65535", "a", "", false, 65535, false},
    {"ws://a:0080", "a", "", false, 80, true},
    {"ws://a:00000000000000000000005060", "a", "", false, 5060, false},
    /* names */
    {"ws://a.", "a.", "", false, 80, true},
    {"ws://a.b.c.", "a.b.c.", "", false, 80, true},
    {"ws://my_host-1.x", "my_host-1.x", "", false, 80, true},
    {"ws://-", "-", "", false, 80, true},
    {"ws://1a", "1a", "", false, 80, true},
    {"ws://1.2.3.4.example", "1.2.3.4.example", "", false, 80, true},
    {"ws://xn--bcher-kva.example", "xn--bcher-kva.example", "", false, 80,
     true},
    {"ws://ws", "ws", "", false, 80, true},
};

static void good_uris_are_taken_apart(void) {
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    struct sw_uri uri;
    memset(&uri, 0xa5, sizeof uri);
    if (!CHECK_STR(parse(good[i].text, &uri), NULL)) {
      fprintf(stderr, "  for %s\n", good[i].text);
      continue;
    }
    CHECK_MEM(uri.host.data, uri.host.length, good[i].host,
              strlen(good[i].host));
    CHECK_MEM(uri.target.data, uri.target.length, good[i].target,
              strlen(good[i].target));
    CHECK_INT(uri.secure, good[i].secure);
    CHECK_INT(uri.port, good[i].port);
    CHECK_INT(uri.default_port, good[i].default_port);
    CHECK(!uri.ip_literal && !uri.ipv6_literal);
  }
}

static const struct {
  const char *text, *host;
  bool ipv6;
} addresses[] = {
    {"ws://1.2.3.4", "1.2.3.4", false},
    {"ws://0.0.0.0", "0.0.0.0", false},
    {"ws://255.255.255.255:80/", "255.255.255.255", false},
    {"ws://127.0.0.1:5060?x", "127.0.0.1", false},
    {"ws://10.20.30.40/x", "10.20.30.40", false},
    {"ws://[::1]", "::1", true},
    {"ws://[::]:", "::", true},
    {"ws://[::1]:80/x", "::1", true},
    {"wss://[2001:DB8::a:b]:8443/ws?x", "2001:DB8::a:b", true},
    {"ws://[1:2:3:4:5:6:7:8]/", "1:2:3:4:5:6:7:8", true},
    {"ws://[::ffff:1.2.3.4]?x", "::ffff:1.2.3.4", true},
    {"ws://[fe80::1]", "fe80::1", true},
    {"ws://[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]",
     "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", true},
};

static void addresses_are_known_as_such(void) {
  for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
    struct sw_uri uri = {0};
    if (!CHECK_STR(parse(addresses[i].text, &uri), NULL)) {
      fprintf(stderr, "  for %s\n", addresses[i].text);
      continue;
    }
    CHECK_MEM(uri.host.data, uri.host.length, addresses[i].host,
              strlen(addresses[i].host));
    CHECK(uri.ip_literal);
    CHECK_INT(uri.ipv6_literal, addresses[i].ipv6);
  }
}

static void brackets_do_not_hide_port_and_target(void) {
  struct sw_uri uri = {0};
  CHECK_STR(parse("wss://[2001:db8::1]:8443/ws?x", &uri), NULL);
  CHECK_INT(uri.port, 8443);
  CHECK(!uri.default_port);
  CHECK_MEM(uri.target.data, uri.target.length, "/ws?x", 5);
  CHECK_STR(parse("wss://[::1]", &uri), NULL);
  CHECK_INT(uri.port, 443);
  CHECK(uri.default_port);
  CHECK_INT(uri.target.length, 0);
}

#define PORT_RANGE "port must be from 1 to 65535"
#define PORT_NUMBER "port is not a number"
#define HOST_BYTE "host has a character that is not allowed"
#define HOST_V4 "host is not a valid IPv4 address"
#define HOST_V6 "host is not a valid IPv6 address"
#define HOST_BEHIND "host has something behind its bracket"
#define PATH_BYTE "path has a character that is not allowed"
#define PATH_ESCAPE "path has an incomplete percent escape"
#define QUERY_BYTE "query has a character that is not allowed"
#define QUERY_ESCAPE "query has an incomplete percent escape"
#define SCHEME "scheme must be ws or wss"
#define SLASHES "scheme must be followed by //"

static const struct {
  const char *text, *fault;
} bad[] = {
    {"", "URL is empty"},
    /* scheme */
    {"http://a", SCHEME},
    {"https://a", SCHEME},
    {"w://a", SCHEME},
    {"wsss://a", SCHEME},
    {"wws://a", SCHEME},
    {"a", SCHEME},
    {"//a", SCHEME},
    {"a:80", SCHEME},
    {"ws", SCHEME},
    {"wss", SCHEME},
    {"ws//a", SCHEME},
    {" ws://a", SCHEME},
    {"\tws://a", SCHEME},
    {"w s://a", SCHEME},
    {"ws ://a", SCHEME},
    {"\x17s://a", SCHEME}, /* 'W' and 'w' but for one bit */
    {"7s://a", SCHEME},
    {"ws:", SLASHES},
    {"wss:/", SLASHES},
    {"ws:a", SLASHES},
    {"ws:/a", SLASHES},
    {"ws:\\\\a", SLASHES},
    /* userinfo */
    {"ws://u@a", "userinfo is not allowed"},
    {"ws://u:p@a:80/", "userinfo is not allowed"},
    {"ws://@a", "userinfo is not allowed"},
    {"ws://:@a", "userinfo is not allowed"},
    {"ws://a@", "userinfo is not allowed"},
    {"ws://u@[::1]", "userinfo is not allowed"},
    /* host */
    {"ws://", "host is empty"},
    {"wss:///", "host is empty"},
    {"ws:///path", "host is empty"},
    {"ws://?q", "host is empty"},
    {"ws://#f", "host is empty"},
    {"ws://:80", "host is empty"},
    {"ws://:", "host is empty"},
    {"ws://.", "host has an empty label"},
    {"ws://..", "host has an empty label"},
    {"ws://.a", "host has an empty label"},
    {"ws://a..b", "host has an empty label"},
    {"ws://a..", "host has an empty label"},
    {"ws://.1.2.3.4", "host has an empty label"},
    {"ws://1..3.4", "host has an empty label"},
    {"ws:// a", HOST_BYTE},
    {"ws://a ", HOST_BYTE},
    {"ws://a b/", HOST_BYTE},
    {"ws://a\tb", HOST_BYTE},
    {"ws://a\n", HOST_BYTE},
    {"ws://a\r\nX: y/", HOST_BYTE},
    {"ws://a\x01", HOST_BYTE},
    {"ws://a\x7f", HOST_BYTE},
    {"ws://b\xc3\xbc"
     "cher",
     HOST_BYTE},
    {"ws://\xff", HOST_BYTE},
    {"ws://a%41", HOST_BYTE},
    {"ws://a\\b", HOST_BYTE},
    {"ws://a,b", HOST_BYTE},
    {"ws://a;b", HOST_BYTE},
    {"ws://a]", HOST_BYTE},
    {"ws://a[::1]", HOST_BYTE},
    {"ws://a*", HOST_BYTE},
    {"ws://a~", HOST_BYTE},
    {"ws://a`", HOST_BYTE},
    {"ws://a{", HOST_BYTE},
    /* IPv4 */
    {"ws://1.2.3", HOST_V4},
    {"ws://1", HOST_V4},
    {"ws://2130706433", HOST_V4},
    {"ws://1.2.3.4.5", HOST_V4},
    {"ws://1.2.3.4.", HOST_V4},
    {"ws://1.2.3.", HOST_V4},
    {"ws://256.1.1.1", HOST_V4},
    {"ws://1.1.1.256", HOST_V4},
    {"ws://1.1.1.1000", HOST_V4},
    {"ws://01.2.3.4", HOST_V4},
    {"ws://1.2.3.04", HOST_V4},
    {"ws://00.0.0.0", HOST_V4},
    {"ws://1.2.3.4294967300", HOST_V4},
    /* IPv6 */
    {"ws://[]", HOST_V6},
    {"ws://[:]", HOST_V6},
    {"ws://[:::]", HOST_V6},
    {"ws://[1::2::3]", HOST_V6},
    {"ws://[1:2:3:4:5:6:7]", HOST_V6},
    {"ws://[1:2:3:4:5:6:7:8:9]", HOST_V6},
    {"ws://[12345::]", HOST_V6},
    {"ws://[g::1]", HOST_V6},
    {"ws://[::1 ]", HOST_V6},
    {"ws://[ ::1]", HOST_V6},
    {"ws://[::256.1.1.1]", HOST_V6},
    {"ws://[::1.2.3]", HOST_V6},
    {"ws://[1.2.3.4]", HOST_V6},
    {"ws://[a]", HOST_V6},
    {"ws://[v1.a]", HOST_V6},
    {"ws://[fe80::1%25eth0]", HOST_V6},
    {"ws://[fe80::1%eth0]", HOST_V6},
    {"ws://[[::1]]", HOST_V6},
    {"ws://[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2555]", HOST_V6},
    {"ws://[", "host lacks its closing bracket"},
    {"ws://[::1", "host lacks its closing bracket"},
    {"ws://[::1:80/", "host lacks its closing bracket"},
    {"ws://[::1/]", "host lacks its closing bracket"},
    {"ws://[::1?]", "host lacks its closing bracket"},
    {"ws://[::1]x", HOST_BEHIND},
    {"ws://[::1]80", HOST_BEHIND},
    {"ws://[::1]]", HOST_BEHIND},
    {"ws://[::1] ", HOST_BEHIND},
    {"ws://[::1].", HOST_BEHIND},
    {"ws://::1", "host must have brackets around an IPv6 address"},
    {"ws://fe80::1/x", "host must have brackets around an IPv6 address"},
    /* port */
    {"ws://a:0", PORT_RANGE},
    {"ws://a:000", PORT_RANGE},
    {"ws://a:65536", PORT_RANGE},
    {"ws://a:655350", PORT_RANGE},
    {"ws://a:65616", PORT_RANGE},                /* 80 in 16 bits */
    {"ws://a:4294967376", PORT_RANGE},           /* 80 in 32 bits */
    {"ws://a:18446744073709551696", PORT_RANGE}, /* 80 in 64 bits */
    {"ws://a:99999999999", PORT_RANGE},
    {"ws://[::1]:0", PORT_RANGE},
    {"ws://[::1]:65536/", PORT_RANGE},
    {"ws://a:+1", PORT_NUMBER},
    {"ws://a:-1", PORT_NUMBER},
    {"ws://a: 80", PORT_NUMBER},
    {"ws://a:80 ", PORT_NUMBER},
    {"ws://a:80\n", PORT_NUMBER},
    {"ws://a:8o", PORT_NUMBER},
    {"ws://a:0x50", PORT_NUMBER},
    {"ws://a:80:", PORT_NUMBER},
    {"ws://a:80:90", PORT_NUMBER},
    {"ws://x::80", PORT_NUMBER},
    {"ws://[::1]:x", PORT_NUMBER},
    {"ws://[::1]::", PORT_NUMBER},
    {"ws://a:\xb2", PORT_NUMBER},
    {"ws://a:http/", PORT_NUMBER},
    /* path */
    {"ws://a/ ", PATH_BYTE},
    {"ws://a/b c", PATH_BYTE},
    {"ws://a/\t", PATH_BYTE},
    {"ws://a/\r\n", PATH_BYTE},
    {"ws://a/ HTTP/1.1\r\nX: y", PATH_BYTE},
    {"ws://a/\x01", PATH_BYTE},
    {"ws://a/\x7f", PATH_BYTE},
    {"ws://a/\x80", PATH_BYTE},
    {"ws://a/\xc3\xa9", PATH_BYTE},
    {"ws://a/\"", PATH_BYTE},
    {"ws://a/<", PATH_BYTE},
    {"ws://a/>", PATH_BYTE},
    {"ws://a/[", PATH_BYTE},
    {"ws://a/]", PATH_BYTE},
    {"ws://a/\\", PATH_BYTE},
    {"ws://a/^", PATH_BYTE},
    {"ws://a/`", PATH_BYTE},
    {"ws://a/{", PATH_BYTE},
    {"ws://a/|", PATH_BYTE},
    {"ws://a/}", PATH_BYTE},
    {"ws://a/%", PATH_ESCAPE},
    {"ws://a/%4", PATH_ESCAPE},
    {"ws://a/%4g", PATH_ESCAPE},
    {"ws://a/%g4", PATH_ESCAPE},
    {"ws://a/%%41", PATH_ESCAPE},
    {"ws://a/%4?x", PATH_ESCAPE},
    /* query */
    {"ws://a?b c", QUERY_BYTE},
    {"ws://a/?\n", QUERY_BYTE},
    {"ws://a/?\x80", QUERY_BYTE},
    {"ws://a/?x=[1]", QUERY_BYTE},
    {"ws://a/?x=\"", QUERY_BYTE},
    {"ws://a/?x|y", QUERY_BYTE},
    {"ws://a/?%", QUERY_ESCAPE},
    {"ws://a?%4", QUERY_ESCAPE},
    {"ws://a?%zz", QUERY_ESCAPE},
    /* fragment */
    {"ws://a#", "fragment is not allowed"},
    {"ws://a#f", "fragment is not allowed"},
    {"ws://a:80#f", "fragment is not allowed"},
    {"ws://a/#f", "fragment is not allowed"},
    {"ws://a/b?c#", "fragment is not allowed"},
    {"ws://[::1]#f", "fragment is not allowed"},
};

static void bad_uris_name_the_part(void) {
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct sw_uri uri, before;
    memset(&before, 0xa5, sizeof before);
    memcpy(&uri, &before, sizeof uri);
    if (!CHECK_STR(parse(bad[i].text, &uri), bad[i].fault))
      fprintf(stderr, "  for %s\n", bad[i].text);
    CHECK(!memcmp(&uri, &before, sizeof uri));
  }
  CHECK_STR(sw_uri_parse(NULL, NULL), "URL is empty");
}

/* "ws://" + |count| times |c| + |tail|. */
static const char *parse_long(char c, size_t count, const char *tail) {
  static char text[SW_URI_MAX * 2];
  struct sw_uri uri = {0};
  memcpy(text, "ws://", 5);
  memset(text + 5, c, count);
  strcpy(text + 5 + count, tail);
  return parse(text, &uri);
}

static void labels_have_a_limit(void) {
  const char *fault = "host has a label of more than 63 bytes";
  CHECK_STR(parse_long('a', 63, ""), NULL);
  CHECK_STR(parse_long('a', 63, ".b./x"), NULL);
  CHECK_STR(parse_long('a', 64, ""), fault);
  CHECK_STR(parse_long('a', 64, ".b"), fault);
}

/* Labels of |first| and 63, 63, 63 bytes: 192 + |first| in all. */
static const char *parse_name(size_t first, const char *tail) {
  char rest[256] = "";
  for (int label = 0; label < 3; label++) {
    strcat(rest, ".");
    size_t length = strlen(rest);
    memset(rest + length, 'b', 63);
    rest[length + 63] = '\0';
  }
  strcat(rest, tail);
  return parse_long('a', first, rest);
}

static void names_have_a_limit(void) {
  const char *fault = "host has more than 253 bytes";
  CHECK_STR(parse_name(61, ""), NULL);
  CHECK_STR(parse_name(61, ":80/x"), NULL);
  CHECK_STR(parse_name(60, "."), NULL);
  CHECK_STR(parse_name(62, ""), fault);
  CHECK_STR(parse_name(61, "."), fault);
  CHECK_STR(parse_name(62, ":80/x"), fault);
}

static void uris_have_a_limit(void) {
  static char path[SW_URI_MAX * 2];
  memset(path, 'p', sizeof path - 1);
  path[0] = '/';
  path[SW_URI_MAX - 6] = '\0';
  CHECK_STR(parse_long('a', 1, path), NULL);
  path[SW_URI_MAX - 6] = 'p';
  path[SW_URI_MAX - 5] = '\0';
  CHECK_STR(parse_long('a', 1, path), "URL has more than 8192 bytes");
}

static bool in_set(int c, const char *set) {
  return c && strchr(set, c);
}

static bool is_alnum(int c) {
  return in_set(c, "0123456789abcdefghijklmnopqrstuvwxyz"
                   "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

/* |before| and |after| around |c|: NULL or the fault. */
static const char *parse_around(const char *before, int c, const char *after) {
  char text[32];
  struct sw_uri uri = {0};
  snprintf(text, sizeof text, "%s%c%s", before, c, after);
  return parse(text, &uri);
}

/* The character sets of RFC 3986, byte by byte. */
static void every_byte_in_every_part(void) {
  for (int c = 1; c < 256; c++) {
    bool pchar = is_alnum(c) || in_set(c, "-._~!$&'()*+,;=:@");
    bool target = pchar || in_set(c, "/?");
    CHECK_INT(!parse_around("ws://a/x", c, "yz"), target);
    CHECK_INT(!parse_around("ws://a?x", c, "yz"), target);
    /* Those that end the host or begin something else are tried above. */
    if (!in_set(c, "/?#:@"))
      CHECK_INT(!parse_around("ws://x", c, "z"),
                is_alnum(c) || in_set(c, "-_."));
    CHECK_INT(!parse_around("ws://a/%", c, "0"),
              in_set(c, "0123456789abcdefABCDEF"));
    CHECK_INT(!parse_around("ws://a:", c, "0"), in_set(c, "123456789/?"));
  }
}

static void every_prefix_is_read_within_bounds(void) {
  const char *const texts[] = {"wss://[2001:db8::1]:8443/ws%20x?y=%41#z",
                               "ws://user@pbx.example:65535/%C3%A9?a/b?c",
                               "ws://255.255.255.255:99999/"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    for (size_t length = 0; length <= strlen(texts[i]); length++) {
      char text[64] = "";
      struct sw_uri uri = {0};
      memcpy(text, texts[i], length);
      const char *fault = parse(text, &uri);
      CHECK(fault || uri.port);
    }
}

static void a_bare_host_is_checked_alone(void) {
  const char *const fine[] = {"a", "a.test.", "A-1_b.test", "::1", "127.0.0.1"};
  const char *const faulty[] = {"",      ".a",    "a..b",     "[::1]",
                                "1.2.3", "a b",   "a/b",      "::1%lo",
                                "a:1",   "a\xc3", "1.2.3.4.5"};
  for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
    CHECK(!sw_uri_host_fault((struct sw_slice){fine[i], strlen(fine[i])}));
  for (size_t i = 0; i < sizeof faulty / sizeof *faulty; i++) {
    struct sw_slice host = {faulty[i], strlen(faulty[i])};
    const char *fault = sw_uri_host_fault(host);
    CHECK(fault && !strncmp(fault, "host ", 5));
  }
}

/* ---- Proxies ----------------------------------------------------------- */

/* Parses a proxy's URL; |*uri| points into |text| if it is good. */
static const char *parse_proxy(const char *text, struct sw_uri *uri) {
  size_t length = strlen(text);
  char *copy = test_guarded(text, length + 1);
  const char *fault = sw_uri_parse_proxy(copy, uri);
  if (!fault) {
    uri->host.data = text + (uri->host.data - copy);
    if (uri->userinfo.data)
      uri->userinfo.data = text + (uri->userinfo.data - copy);
  }
  test_unguard(copy, length + 1);
  return fault;
}

static const struct {
  const char *text, *host, *userinfo;
  unsigned port;
  bool ipv6;
} proxies[] = {
    {"http://a", "a", "", 80, false},
    {"HTTP://A/", "A", "", 80, false},
    {"http://a:", "a", "", 80, false},
    {"http://a:3128", "a", "", 3128, false},
    {"http://a:65535/", "a", "", 65535, false},
    {"http://10.0.0.1:8080", "10.0.0.1", "", 8080, false},
    {"http://[::1]", "::1", "", 80, true},
    {"http://[2001:db8::1]:3128/", "2001:db8::1", "", 3128, true},
    {"http://u@a", "a", "u", 80, false},
    {"http://u:p@a:1", "a", "u:p", 1, false},
    {"http://@a", "a", "", 80, false},
    {"http://:@a", "a", ":", 80, false},
    {"http://:p@a", "a", ":p", 80, false},
    {"http://u:@[::1]:1/", "::1", "u:", 1, true},
    {"http://u:p:q:@a", "a", "u:p:q:", 80, false},
    {"http://-._~!$&'()*+,;=:@a", "a", "-._~!$&'()*+,;=:", 80, false},
    {"http://%40%3a:%2F%23%5B@a:81", "a", "%40%3a:%2F%23%5B", 81, false},
    {"http://80:80@80a:80", "80a", "80:80", 80, false},
};

static void good_proxies_are_taken_apart(void) {
  for (size_t i = 0; i < sizeof proxies / sizeof *proxies; i++) {
    struct sw_uri uri = {0};
    if (!CHECK_STR(parse_proxy(proxies[i].text, &uri), NULL)) {
      fprintf(stderr, "  for %s\n", proxies[i].text);
      continue;
    }
    CHECK_MEM(uri.host.data, uri.host.length, proxies[i].host,
              strlen(proxies[i].host));
    CHECK_MEM(uri.userinfo.data, uri.userinfo.length, proxies[i].userinfo,
              strlen(proxies[i].userinfo));
    CHECK_INT(uri.port, proxies[i].port);
    CHECK_INT(uri.ipv6_literal, proxies[i].ipv6);
    CHECK(!uri.secure);
  }
}

#define USERINFO_BYTE "userinfo has a character that is not allowed"

static const struct {
  const char *text, *fault;
} bad_proxies[] = {
    {"", "URL is empty"},
    {"https://a", NULL},
    {"ws://a", NULL},
    {"wss://a", NULL},
    {"socks5://a", NULL},
    {"a:3128", NULL},
    {"http:a", NULL},
    {"http:/a", NULL},
    {"httpx://a", NULL},
    {"http://", "host is empty"},
    {"http://u:p@", "host is empty"},
    {"http://u:p@:80", "host is empty"},
    {"http://a/b", "path is not allowed"},
    {"http://a//", "path is not allowed"},
    {"http://a?", "query is not allowed"},
    {"http://a?b", "query is not allowed"},
    {"http://a#b", "fragment is not allowed"},
    {"http://u:p#@a", "port is not a number"},
    {"http://u:p/@a", "port is not a number"},
    {"http://u@v@a", USERINFO_BYTE},
    {"http://u:p@q@a", USERINFO_BYTE},
    {"http://u:%@a", USERINFO_BYTE},
    {"http://u:%4@a", USERINFO_BYTE},
    {"http://u:%4g@a", USERINFO_BYTE},
    {"http://u:%g4@a", USERINFO_BYTE},
    {"http://u p@a", USERINFO_BYTE},
    {"http://u:p\r\nX:@a", USERINFO_BYTE},
    {"http://u:\xc3\xa4@a", USERINFO_BYTE},
    {"http://u:[p]@a", USERINFO_BYTE},
    {"http://a b", HOST_BYTE},
    {"http://u@1.2.3", HOST_V4},
    {"http://u@::1", "host must have brackets around an IPv6 address"},
    {"http://u@[::g]", HOST_V6},
    {"http://a:0", PORT_RANGE},
    {"http://u:p@a:65536", PORT_RANGE},
    {"http://a:8o", PORT_NUMBER},
};

/* What is wrong is said without what was given: it may hold a password. */
static void bad_proxies_name_the_part(void) {
  for (size_t i = 0; i < sizeof bad_proxies / sizeof *bad_proxies; i++) {
    struct sw_uri uri = {.port = 7};
    const char *fault = parse_proxy(bad_proxies[i].text, &uri);
    if (!bad_proxies[i].fault)
      CHECK(fault && !strncmp(fault, "scheme ", 7));
    else if (!CHECK_STR(fault, bad_proxies[i].fault))
      fprintf(stderr, "  for %s\n", bad_proxies[i].text);
    CHECK_INT(uri.port, 7);
  }
}

static void every_byte_in_userinfo(void) {
  for (int c = 1; c < 256; c++) {
    char text[32];
    struct sw_uri uri = {0};
    if (in_set(c, "/?#@"))
      continue; /* they end it */
    snprintf(text, sizeof text, "http://u%cv@a", c);
    CHECK_INT(!parse_proxy(text, &uri),
              is_alnum(c) || in_set(c, "-._~!$&'()*+,;=:"));
  }
}

/* A server's URL has no place for a password. */
static void only_proxies_have_userinfo(void) {
  struct sw_uri uri = {0};
  CHECK_STR(parse("ws://u:p@a", &uri), "userinfo is not allowed");
  CHECK_STR(parse("ws://@a", &uri), "userinfo is not allowed");
  CHECK_STR(parse("ws://a", &uri), NULL);
  CHECK_INT(uri.userinfo.length, 0);
}

static void every_prefix_of_a_proxy_is_read_within_bounds(void) {
  const char *text = "http://us%65r:p%40ss@[2001:db8::1]:8443/";
  for (size_t length = 0; length <= strlen(text); length++) {
    char part[64] = "";
    struct sw_uri uri = {0};
    memcpy(part, text, length);
    const char *fault = parse_proxy(part, &uri);
    CHECK(fault || uri.port);
  }
}

static void escapes_are_resolved(void) {
  static const struct {
    const char *text, *want; /* NULL: refused */
  } texts[] = {
      {"", ""},           {"abc", "abc"},       {"%41%62", "Ab"},
      {"%25", "%"},       {"%2541", "%41"},     {"%e4%F6", "\xe4\xf6"},
      {"%20~%7e", " ~~"}, {"%3A%3a%40", "::@"}, {"a%ff", "a\xff"},
      {"%00", NULL},      {"a%0d", NULL},       {"%0A", NULL},
      {"%1f", NULL},      {"%7F", NULL},        {"%09", NULL},
      {"\t", NULL},       {"a\x7f", NULL},      {"%80", "\x80"},
      {"a%4", "a%4"},     {"a%", "a%"},
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    size_t length = strlen(texts[i].text);
    char *copy = test_guarded(texts[i].text, length);
    char *out = test_guarded(texts[i].text, length + 1);
    bool decoded = sw_uri_decode((struct sw_slice){copy, length}, out);
    CHECK_INT(decoded, texts[i].want != NULL);
    if (decoded)
      CHECK_STR(out, texts[i].want);
    test_unguard(copy, length);
    test_unguard(out, length + 1);
  }
}

int main(void) {
  RUN(good_uris_are_taken_apart);
  RUN(addresses_are_known_as_such);
  RUN(brackets_do_not_hide_port_and_target);
  RUN(bad_uris_name_the_part);
  RUN(labels_have_a_limit);
  RUN(names_have_a_limit);
  RUN(uris_have_a_limit);
  RUN(every_byte_in_every_part);
  RUN(every_prefix_is_read_within_bounds);
  RUN(a_bare_host_is_checked_alone);
  RUN(good_proxies_are_taken_apart);
  RUN(bad_proxies_name_the_part);
  RUN(every_byte_in_userinfo);
  RUN(only_proxies_have_userinfo);
  RUN(every_prefix_of_a_proxy_is_read_within_bounds);
  RUN(escapes_are_resolved);
  return test_summary("test_uri");
}
