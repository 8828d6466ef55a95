// What the fuzz targets share: a cursor over the fuzzer's bytes, a check that tells what broke, bytes as a
// file. One thread.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace k8sgpu::fuzz {

// Ends the process when something that must hold does not: that is how a fuzzer learns of it.
inline void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

// Takes choices from the front of the input; the rest is what is to be decoded. Reading past the end gives
// zeros.
class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) : bytes_(reinterpret_cast<const char*>(data), size) {}

    unsigned take_byte() {
        if (bytes_.empty()) return 0;
        const auto byte = static_cast<unsigned char>(bytes_.front());
        bytes_.remove_prefix(1);
        return byte;
    }
    std::string_view rest() const { return bytes_; }

    // The rest in two parts, cut where a byte of the input says: decoders must not care how bytes arrive.
    std::vector<std::string_view> rest_in_two() {
        const unsigned choice = take_byte();
        const std::size_t cut = bytes_.empty() ? 0 : choice % (bytes_.size() + 1);
        return {bytes_.substr(0, cut), bytes_.substr(cut)};
    }

  private:
    std::string_view bytes_;
};

// Bytes under a path, for decoders that read files. The path is good as long as the object lives.
class MemoryFile {
  public:
    explicit MemoryFile(std::string_view bytes) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
        require(fd_ >= 0 && ::write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
                "a file in memory can be made");
    }
    ~MemoryFile() { ::close(fd_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;

    std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

  private:
    int fd_;
};

}  // namespace k8sgpu::fuzz
