// SPDY/3 header blocks: name/value pairs through one zlib stream per direction that lives as long as the
// connection, with the dictionary both sides know. Every block of a direction must pass through, in order,
// even one whose frame is refused. Not synchronised.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "common/result.h"
#include "net/mux_session.h"

namespace k8sgpu::net::spdy {

class HeaderEncoder {
  public:
    HeaderEncoder();
    ~HeaderEncoder();
    HeaderEncoder(const HeaderEncoder&) = delete;
    HeaderEncoder& operator=(const HeaderEncoder&) = delete;

    // Names must be in lower case. Internal when zlib has no memory.
    Result<std::string> encode(const StreamHeaders& headers);

  private:
    struct Zlib;
    std::unique_ptr<Zlib> zlib_;
};

class HeaderDecoder {
  public:
    // Decoded bytes and pairs of one block: beyond them a few compressed bytes could ask for gigabytes.
    static constexpr std::size_t kMaxDecoded = 256U << 10U;
    static constexpr std::size_t kMaxPairs = 1000;

    HeaderDecoder();
    ~HeaderDecoder();
    HeaderDecoder(const HeaderDecoder&) = delete;
    HeaderDecoder& operator=(const HeaderDecoder&) = delete;

    // Of several values under one name the first is kept. Protocol on anything malformed; the connection is
    // then lost, since the stream cannot be resumed.
    Result<StreamHeaders> decode(std::string_view block);

  private:
    struct Zlib;
    std::unique_ptr<Zlib> zlib_;
};

// The dictionary of SPDY/3, 1423 bytes.
std::string_view header_dictionary();

}  // namespace k8sgpu::net::spdy
