#include "net/ws/handshake.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <array>

#include "common/encoding.h"

namespace k8sgpu::net::ws {

namespace {

Unexpected refuse(int status, std::string message) {
    return Unexpected(Error{ErrorKind::Invalid, std::move(message), status, {}});
}

}  // namespace

std::string new_client_key() {
    std::array<unsigned char, 16> bytes{};
    RAND_bytes(bytes.data(), static_cast<int>(bytes.size()));
    return base64_encode({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

std::string accept_key(std::string_view client_key) {
    // The constant of RFC 6455 §1.3.
    const auto text = std::string(client_key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr);
    return base64_encode({reinterpret_cast<const char*>(digest.data()), size});
}

Result<void> check_upgrade_request(const HttpRequestHead& head) {
    if (head.method != "GET" || head.minor_version != 1) {
        return refuse(400, "a websocket starts with a GET request of HTTP/1.1");
    }
    if (!head.is_upgrade_to("websocket")) return refuse(400, "request does not ask for a websocket");
    if (head.headers.get("sec-websocket-version") != "13") {
        return refuse(426, "only version 13 of websocket is understood");
    }
    const auto key = base64_decode(head.headers.get("sec-websocket-key"));
    if (!key || key->size() != 16) return refuse(400, "sec-websocket-key is not 16 bytes in base64");
    return {};
}

std::string write_upgrade_response(const HttpRequestHead& request, std::string_view protocol) {
    HeaderLines lines{{"Upgrade", "websocket"},
                      {"Connection", "Upgrade"},
                      {"Sec-WebSocket-Accept", accept_key(request.headers.get("sec-websocket-key"))}};
    if (!protocol.empty()) lines.emplace_back("Sec-WebSocket-Protocol", protocol);
    return write_response_head(101, lines);
}

HeaderLines upgrade_request_headers(std::string_view client_key, const std::vector<std::string>& protocols) {
    HeaderLines lines{{"Connection", "Upgrade"},
                      {"Upgrade", "websocket"},
                      {"Sec-WebSocket-Version", "13"},
                      {"Sec-WebSocket-Key", std::string(client_key)}};
    std::string offered;
    for (const auto& protocol : protocols) offered += (offered.empty() ? "" : ", ") + protocol;
    if (!offered.empty()) lines.emplace_back("Sec-WebSocket-Protocol", offered);
    return lines;
}

Result<void> check_upgrade_response(const HttpResponseHead& head, std::string_view client_key) {
    if (head.status != 101 || !head.headers.has_token("upgrade", "websocket") ||
        !head.headers.has_token("connection", "upgrade")) {
        return fail(ErrorKind::Protocol, "answer does not switch to websocket");
    }
    if (head.headers.get("sec-websocket-accept") != accept_key(client_key)) {
        return fail(ErrorKind::Protocol, "answer to the websocket handshake has the wrong accept key");
    }
    return {};
}

}  // namespace k8sgpu::net::ws
