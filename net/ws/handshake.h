// The WebSocket opening handshake's own arithmetic (RFC 6455 §4): keys and the checks on a request or answer.
// Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"
#include "net/http_head.h"

namespace k8sgpu::net::ws {

std::string new_client_key();                         // Sec-WebSocket-Key: 16 random bytes in base64
std::string accept_key(std::string_view client_key);  // Sec-WebSocket-Accept

// Invalid (http_status 400 or 426) unless `head` is GET, HTTP/1.1, an upgrade to websocket, version 13, with
// a key of 16 bytes.
Result<void> check_upgrade_request(const HttpRequestHead& head);
// The 101 answer; `protocol` "" sends no Sec-WebSocket-Protocol.
std::string write_upgrade_response(const HttpRequestHead& request, std::string_view protocol);

// Header lines of a client's request: Connection, Upgrade, key, version and the offered protocols.
HeaderLines upgrade_request_headers(std::string_view client_key, const std::vector<std::string>& protocols);
// Protocol when a 101 answer does not fit the key. The chosen protocol is in `sec-websocket-protocol`.
Result<void> check_upgrade_response(const HttpResponseHead& head, std::string_view client_key);

}  // namespace k8sgpu::net::ws
