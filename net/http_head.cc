#include "net/http_head.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>

namespace k8sgpu::net {

namespace {

constexpr std::string_view kEnd = "\r\n\r\n";

Unexpected refuse(int status, std::string message) {
    return Unexpected(Error{ErrorKind::Invalid, std::move(message), status, {}});
}

// RFC 9110 §5.6.2 tchar.
bool is_token_char(char c) {
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
    return std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_token(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), is_token_char);
}

bool is_control(char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

// Field values may hold tabs and, for the sake of old senders, bytes above 0x7f.
bool is_field_value(std::string_view text) {
    return std::none_of(text.begin(), text.end(), [](char c) { return is_control(c) && c != '\t'; });
}

bool is_target(std::string_view text) {
    return !text.empty() &&
           std::none_of(text.begin(), text.end(), [](char c) { return is_control(c) || c == ' '; });
}

std::string_view take_line(std::string_view& rest) {
    const auto end = rest.find("\r\n");
    const auto line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 2);
    return line;
}

Result<void> check_size(std::string_view head, const HeadLimits& limits) {
    if (head.size() > limits.max_bytes) {
        return refuse(431, fmt::format("request head is larger than {} bytes", limits.max_bytes));
    }
    if (head.size() < kEnd.size() || head.substr(head.size() - kEnd.size()) != kEnd) {
        return refuse(400, "message head has no end");
    }
    return {};
}

Result<int> parse_version(std::string_view text) {
    if (text == "HTTP/1.1") return 1;
    if (text == "HTTP/1.0") return 0;
    if (text.substr(0, 5) == "HTTP/") return refuse(505, "only HTTP/1.0 and HTTP/1.1 are understood");
    return refuse(400, "message head does not name an HTTP version");
}

Result<HttpHeaders> parse_lines(std::string_view rest, const HeadLimits& limits) {
    HttpHeaders headers;
    while (true) {
        const auto line = take_line(rest);
        if (line.empty()) break;
        if (headers.lines().size() == limits.max_headers) {
            return refuse(431, fmt::format("message head has more than {} lines", limits.max_headers));
        }
        const auto colon = line.find(':');
        if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
            return refuse(400, fmt::format("header line {} has no valid name", headers.lines().size() + 1));
        }
        auto value = line.substr(colon + 1);
        while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
        while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
        if (!is_field_value(value)) {
            return refuse(400, fmt::format("header '{}' holds a control character", line.substr(0, colon)));
        }
        headers.add(line.substr(0, colon), std::string(value));
    }
    if (!rest.empty()) return refuse(400, "message head continues after its end");
    return headers;
}

std::string without_line_ends(std::string_view value) {
    std::string out(value);
    std::replace_if(
        out.begin(), out.end(), [](char c) { return c == '\r' || c == '\n' || c == '\0'; }, ' ');
    return out;
}

std::string write_head(std::string start_line, const HeaderLines& lines) {
    for (const auto& [name, value] : lines) {
        start_line += without_line_ends(name) + ": " + without_line_ends(value) + "\r\n";
    }
    return start_line + "\r\n";
}

template <typename Head, typename Parse>
Result<ReadHead<Head>> read_head(ByteStream& stream, const CallContext& ctx, std::string already,
                                 const HeadLimits& limits, Parse parse) {
    std::string bytes = std::move(already);
    std::size_t resume = 0;
    std::array<char, 16U << 10U> buffer;
    while (true) {
        // RFC 9112 §2.2: empty lines before a message are skipped.
        if (resume == 0) {
            while (bytes.compare(0, 2, "\r\n") == 0) bytes.erase(0, 2);
        }
        if (const auto end = find_head_end(bytes, &resume)) {
            auto head = parse(std::string_view(bytes).substr(0, *end), limits);
            if (!head) return fail(head.error());
            return ReadHead<Head>{*std::move(head), bytes.substr(0, *end), bytes.substr(*end)};
        }
        if (bytes.size() > limits.max_bytes) {
            return refuse(431, fmt::format("message head is larger than {} bytes", limits.max_bytes));
        }
        auto got = stream.read(buffer, ctx);
        const bool gone = !got && got.error().kind == ErrorKind::Unavailable;
        if (bytes.empty() && (gone || (got && *got == 0))) {
            return fail(ErrorKind::NotFound, "peer closed the connection before a message");
        }
        if (!got) return fail(got.error().with_context("reading the message head"));
        if (*got == 0)
            return fail(ErrorKind::Unavailable, "peer closed the connection inside a message head");
        bytes.append(buffer.data(), *got);
    }
}

}  // namespace

std::optional<std::size_t> find_head_end(std::string_view bytes, std::size_t* resume) {
    const auto at = bytes.find(kEnd, *resume);
    if (at != std::string_view::npos) return at + kEnd.size();
    // The end may straddle what comes next.
    *resume = bytes.size() < kEnd.size() ? 0 : bytes.size() - (kEnd.size() - 1);
    return std::nullopt;
}

Result<HttpRequestHead> parse_request_head(std::string_view head, const HeadLimits& limits) {
    if (auto ok = check_size(head, limits); !ok) return fail(ok.error());
    auto rest = head;
    const auto line = take_line(rest);
    const auto first = line.find(' ');
    const auto last = line.rfind(' ');
    if (first == std::string_view::npos || first == last) return refuse(400, "request line is incomplete");
    HttpRequestHead parsed;
    parsed.method = line.substr(0, first);
    parsed.target = line.substr(first + 1, last - first - 1);
    auto version = parse_version(line.substr(last + 1));
    if (!version) return fail(version.error());
    parsed.minor_version = *version;
    if (!is_token(parsed.method)) return refuse(400, "request method is not a word");
    if (!is_target(parsed.target)) return refuse(400, "request target is empty or holds a control character");
    auto headers = parse_lines(rest, limits);
    if (!headers) return fail(headers.error());
    parsed.headers = *std::move(headers);
    return parsed;
}

Result<HttpResponseHead> parse_response_head(std::string_view head, const HeadLimits& limits) {
    if (auto ok = check_size(head, limits); !ok) return fail(ok.error());
    auto rest = head;
    const auto line = take_line(rest);
    auto version = parse_version(line.substr(0, std::min<std::size_t>(8, line.size())));
    if (!version) return fail(version.error());
    const auto code = line.size() >= 12 ? line.substr(9, 3) : std::string_view{};
    const bool digits =
        !code.empty() && std::all_of(code.begin(), code.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || line[8] != ' ' || (line.size() > 12 && line[12] != ' ') || code[0] == '0') {
        return refuse(400, "status line has no valid status code");
    }
    HttpResponseHead parsed;
    parsed.minor_version = *version;
    parsed.status = (code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0');
    if (line.size() > 13) parsed.reason = line.substr(13);
    if (!is_field_value(parsed.reason)) return refuse(400, "status line holds a control character");
    auto headers = parse_lines(rest, limits);
    if (!headers) return fail(headers.error());
    parsed.headers = *std::move(headers);
    return parsed;
}

Result<ReadHead<HttpRequestHead>> read_request_head(ByteStream& stream, const CallContext& ctx,
                                                    std::string already, const HeadLimits& limits) {
    return read_head<HttpRequestHead>(stream, ctx, std::move(already), limits, parse_request_head);
}

Result<ReadHead<HttpResponseHead>> read_response_head(ByteStream& stream, const CallContext& ctx,
                                                      std::string already, const HeadLimits& limits) {
    return read_head<HttpResponseHead>(stream, ctx, std::move(already), limits, parse_response_head);
}

std::string write_request_head(std::string_view method, std::string_view target, const HeaderLines& lines) {
    return write_head(fmt::format("{} {} HTTP/1.1\r\n", without_line_ends(method), without_line_ends(target)),
                      lines);
}

std::string write_response_head(int status, const HeaderLines& lines) {
    return write_head(fmt::format("HTTP/1.1 {} {}\r\n", status, reason_phrase(status)), lines);
}

std::string write_simple_response(int status, std::string_view body, std::string_view content_type,
                                  const HeaderLines& more) {
    HeaderLines lines{{"Content-Type", std::string(content_type)},
                      {"Content-Length", std::to_string(body.size())},
                      {"Connection", "close"}};
    lines.insert(lines.end(), more.begin(), more.end());
    return write_response_head(status, lines).append(body);
}

std::string_view reason_phrase(int status) {
    switch (status) {
        case 101:
            return "Switching Protocols";
        case 200:
            return "OK";
        case 400:
            return "Bad Request";
        case 401:
            return "Unauthorized";
        case 403:
            return "Forbidden";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        case 408:
            return "Request Timeout";
        case 426:
            return "Upgrade Required";
        case 429:
            return "Too Many Requests";
        case 431:
            return "Request Header Fields Too Large";
        case 500:
            return "Internal Server Error";
        case 501:
            return "Not Implemented";
        case 503:
            return "Service Unavailable";
        case 504:
            return "Gateway Timeout";
        case 505:
            return "HTTP Version Not Supported";
        default:
            return "Status";  // the phrase carries no meaning (RFC 9112 §4)
    }
}

}  // namespace k8sgpu::net
