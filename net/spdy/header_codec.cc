#include "net/spdy/header_codec.h"

#include <spdlog/fmt/fmt.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

namespace k8sgpu::net::spdy {

namespace {

// Words of the dictionary, each preceded there by its length as u32 (SPDY/3 §2.6.10.1).
constexpr std::array<std::string_view, 65> kWords = {
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
};
constexpr std::string_view kTail =
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 "
    "Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 "
    "Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar "
    "Apr "
    "May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, "
    "GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/"
    "plain,text/"
    "javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

void append_u32(std::string& out, std::size_t value) {
    for (unsigned shift = 32; shift > 0;) {
        shift -= 8;
        out += static_cast<char>(value >> shift & 0xffU);
    }
}

// Takes a u32 and so many bytes off the front.
std::optional<std::uint32_t> take_u32(std::string_view& rest) {
    if (rest.size() < 4) return std::nullopt;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8U | static_cast<unsigned char>(rest[i]);
    rest.remove_prefix(4);
    return value;
}

std::optional<std::string_view> take_text(std::string_view& rest) {
    const auto length = take_u32(rest);
    if (!length || *length > rest.size()) return std::nullopt;
    const auto text = rest.substr(0, *length);
    rest.remove_prefix(*length);
    return text;
}

bool has_upper_case(std::string_view text) {
    return std::any_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

Result<StreamHeaders> parse_pairs(std::string_view rest) {
    const auto count = take_u32(rest);
    if (!count) return fail(ErrorKind::Protocol, "SPDY header block has no count");
    if (*count > HeaderDecoder::kMaxPairs) {
        return fail(ErrorKind::Protocol, fmt::format("SPDY header block of {} pairs", *count));
    }
    StreamHeaders headers;
    for (std::uint32_t i = 0; i < *count; ++i) {
        const auto name = take_text(rest);
        const auto value = name ? take_text(rest) : std::nullopt;
        if (!value) return fail(ErrorKind::Protocol, "SPDY header block is cut short");
        if (name->empty() || has_upper_case(*name)) {
            return fail(ErrorKind::Protocol, "SPDY header name is empty or has upper case letters");
        }
        const auto first = value->substr(0, value->find('\0'));
        if (!headers.emplace(std::string(*name), std::string(first)).second) {
            return fail(ErrorKind::Protocol, "SPDY header name appears twice in one block");
        }
    }
    if (!rest.empty()) return fail(ErrorKind::Protocol, "SPDY header block has bytes behind its pairs");
    return headers;
}

// zlib's interface predates const; it does not write through these.
Bytef* zlib_bytes(std::string_view text) {
    return reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
}

}  // namespace

std::string_view header_dictionary() {
    static const std::string dictionary = [] {
        std::string text;
        for (const auto word : kWords) {
            append_u32(text, word.size());
            text += word;
        }
        return text.append(kTail);
    }();
    return dictionary;
}

struct HeaderEncoder::Zlib {
    z_stream stream{};
    bool ready = false;
};

HeaderEncoder::HeaderEncoder() : zlib_(std::make_unique<Zlib>()) {
    const auto dictionary = header_dictionary();
    if (::deflateInit(&zlib_->stream, Z_BEST_COMPRESSION) != Z_OK) return;
    zlib_->ready = ::deflateSetDictionary(&zlib_->stream, zlib_bytes(dictionary),
                                          static_cast<uInt>(dictionary.size())) == Z_OK;
}

HeaderEncoder::~HeaderEncoder() {
    ::deflateEnd(&zlib_->stream);
}

Result<std::string> HeaderEncoder::encode(const StreamHeaders& headers) {
    if (!zlib_->ready) return fail(ErrorKind::Internal, "no memory for header compression");
    std::string plain;
    append_u32(plain, headers.size());
    for (const auto& [name, value] : headers) {
        append_u32(plain, name.size());
        plain += name;
        append_u32(plain, value.size());
        plain += value;
    }
    auto& stream = zlib_->stream;
    stream.next_in = zlib_bytes(plain);
    stream.avail_in = static_cast<uInt>(plain.size());
    std::string block;
    std::array<char, 4096> out;
    do {
        stream.next_out = zlib_bytes({out.data(), out.size()});
        stream.avail_out = static_cast<uInt>(out.size());
        if (::deflate(&stream, Z_SYNC_FLUSH) == Z_STREAM_ERROR) {
            return fail(ErrorKind::Internal, "compressing headers");
        }
        block.append(out.data(), out.size() - stream.avail_out);
    } while (stream.avail_out == 0);  // zlib.h: a full buffer means that there is more
    return block;
}

struct HeaderDecoder::Zlib {
    z_stream stream{};
    bool ready = false;
};

HeaderDecoder::HeaderDecoder() : zlib_(std::make_unique<Zlib>()) {
    zlib_->ready = ::inflateInit(&zlib_->stream) == Z_OK;
}

HeaderDecoder::~HeaderDecoder() {
    ::inflateEnd(&zlib_->stream);
}

Result<StreamHeaders> HeaderDecoder::decode(std::string_view block) {
    if (!zlib_->ready) return fail(ErrorKind::Internal, "no memory for header decompression");
    auto& stream = zlib_->stream;
    stream.next_in = zlib_bytes(block);
    stream.avail_in = static_cast<uInt>(block.size());
    std::string plain;
    std::array<char, 4096> out;
    while (true) {
        stream.next_out = zlib_bytes({out.data(), out.size()});
        stream.avail_out = static_cast<uInt>(out.size());
        const int rc = ::inflate(&stream, Z_SYNC_FLUSH);
        if (rc == Z_NEED_DICT) {
            const auto dictionary = header_dictionary();
            if (::inflateSetDictionary(&stream, zlib_bytes(dictionary),
                                       static_cast<uInt>(dictionary.size())) != Z_OK) {
                return fail(ErrorKind::Protocol, "SPDY headers use another dictionary");
            }
            continue;
        }
        // Z_BUF_ERROR: nothing was left to do, which is how a block that fills the buffer exactly ends.
        if (rc != Z_OK && rc != Z_BUF_ERROR) {
            return fail(ErrorKind::Protocol, "SPDY header block does not decompress");
        }
        plain.append(out.data(), out.size() - stream.avail_out);
        if (plain.size() > kMaxDecoded) {
            return fail(ErrorKind::Protocol, fmt::format("SPDY headers of more than {} bytes", kMaxDecoded));
        }
        if (stream.avail_out != 0) break;
    }
    if (stream.avail_in != 0) return fail(ErrorKind::Protocol, "SPDY header block ends its zlib stream");
    return parse_pairs(plain);
}

}  // namespace k8sgpu::net::spdy
