// Runs fuzz targets on files instead of on a fuzzer's ideas: what keeps the corpus true in every test run,
// with the ordinary compiler.   fuzz_replay TARGET FILE|DIRECTORY…
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

// fuzz_targets.inc: K8SGPU_FUZZ_TARGET(name) for each; the build renames every target's entry to fuzz_<name>.
#define K8SGPU_FUZZ_TARGET(name) extern "C" int fuzz_##name(const std::uint8_t* data, std::size_t size);
#include <fuzz_targets.inc>
#undef K8SGPU_FUZZ_TARGET

namespace {

using Entry = int (*)(const std::uint8_t*, std::size_t);

Entry find_target(const char* wanted) {
#define K8SGPU_FUZZ_TARGET(name) \
    if (std::strcmp(wanted, #name) == 0) return fuzz_##name;
#include <fuzz_targets.inc>
#undef K8SGPU_FUZZ_TARGET
    return nullptr;
}

void run(Entry entry, const std::filesystem::path& file) {
    std::ifstream stream(file, std::ios::binary);
    const std::vector<char> bytes(std::istreambuf_iterator<char>(stream), {});
    std::fprintf(stderr, "%s\n", file.c_str());  // the last line names what a crash was about
    entry(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
    const Entry entry = argc < 2 ? nullptr : find_target(argv[1]);
    if (entry == nullptr || argc < 3) {
        std::fprintf(stderr, "usage: fuzz_replay TARGET FILE|DIRECTORY...\n");
        return 2;
    }
    std::size_t count = 0;
    for (int i = 2; i < argc; ++i) {
        const std::filesystem::path path(argv[i]);
        if (!std::filesystem::is_directory(path)) {
            run(entry, path);
            ++count;
            continue;
        }
        for (const auto& file : std::filesystem::directory_iterator(path)) {
            run(entry, file.path());
            ++count;
        }
    }
    if (count == 0) {
        std::fprintf(stderr, "no input: every target needs a corpus\n");
        return 1;
    }
    std::fprintf(stderr, "%s: %zu inputs\n", argv[1], count);
    return 0;
}
