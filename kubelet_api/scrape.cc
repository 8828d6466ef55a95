#include "kubelet_api/scrape.h"

#include <zlib.h>

#include <algorithm>

namespace k8sgpu::kubelet_api {

namespace {

constexpr std::string_view kTextFormat = "text/plain; version=0.0.4; charset=utf-8";
constexpr int kGzipWindow = 15 + 16;  // zlib: the largest window, with gzip's head and tail

bool refused(std::string_view parameters) {
    std::string bare;
    std::copy_if(parameters.begin(), parameters.end(), std::back_inserter(bare),
                 [](char c) { return c != ' '; });
    return bare.starts_with("q=0") && bare.find_first_of("123456789") == std::string::npos;
}

}  // namespace

bool accepts_gzip(const net::HttpHeaders& headers) {
    for (const std::string& entry : headers.list("accept-encoding")) {
        const auto semicolon = entry.find(';');
        std::string_view coding = std::string_view(entry).substr(0, semicolon);
        while (coding.ends_with(' ')) coding.remove_suffix(1);
        if (coding != "gzip" && coding != "*") continue;
        return semicolon == std::string::npos || !refused(std::string_view(entry).substr(semicolon + 1));
    }
    return false;
}

Result<std::string> gzip(std::string_view bytes) {
    z_stream stream{};
    if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return fail(ErrorKind::Internal, "zlib cannot start");
    std::string out(deflateBound(&stream, static_cast<uLong>(bytes.size())), '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const int ended = deflate(&stream, Z_FINISH);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    if (ended != Z_STREAM_END) return fail(ErrorKind::Internal, "zlib did not finish");
    return out;
}

void answer_scrape(Exchange& exchange, const std::string& text) {
    if (accepts_gzip(exchange.head.headers)) {
        if (const auto small = gzip(text)) {
            (void)exchange.response.send(200, kTextFormat, *small, exchange.ctx,
                                         {{"Content-Encoding", "gzip"}});
            return;
        }
    }
    (void)exchange.response.send(200, kTextFormat, text, exchange.ctx);
}

}  // namespace k8sgpu::kubelet_api
