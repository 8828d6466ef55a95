#include "providers/process/port_owner.h"

#include <dirent.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <memory>
#include <sstream>

#include "common/file.h"

namespace k8sgpu::providers::process {
namespace {

constexpr std::size_t kMaxTable = 64U << 20U;  // some 400,000 sockets
constexpr std::string_view kListen = "0A";

template <typename Number>
bool read_number(std::string_view text, Number& value, int base) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return error == std::errc() && end == text.data() + text.size();
}

// The kernel prints the words of an address as they lie in memory.
std::string word(std::uint32_t host_order) {
    return fmt::format("{:08X}", htonl(host_order));
}

void classify(const std::string& address, ListeningSocket& socket) {
    static const std::string zero = word(0), loopback4 = word(INADDR_LOOPBACK);
    static const std::string mapped = zero + zero + word(0xffff);
    if (address.size() == 8) {
        socket.answers_v4 = address == zero || address == loopback4;
        return;
    }
    // Whether a socket on :: takes IPv4 too cannot be seen here: it counts as one that does.
    const bool any = address == zero + zero + zero + zero;
    socket.answers_v6 = any || address == zero + zero + zero + word(1);
    socket.answers_v4 = any || address == mapped + loopback4 || address == mapped + zero;
}

}  // namespace

std::vector<ListeningSocket> parse_listening(std::string_view table) {
    std::vector<ListeningSocket> found;
    std::istringstream lines{std::string(table)};
    std::string line;
    std::getline(lines, line);  // the heading
    while (std::getline(lines, line)) {
        std::istringstream fields(line);
        std::array<std::string, 10> field;
        for (std::string& text : field) fields >> text;
        const auto& local = field[1];
        const std::size_t colon = local.find(':');
        if (field[3] != kListen || colon == std::string::npos) continue;
        ListeningSocket socket;
        if (!read_number(std::string_view(local).substr(colon + 1), socket.port, 16)) continue;
        if (!read_number(std::string_view(field[9]), socket.inode, 10)) continue;
        classify(local.substr(0, colon), socket);
        found.push_back(socket);
    }
    return found;
}

std::optional<std::string> choose_loopback(const std::vector<ListeningSocket>& listening, std::uint16_t port,
                                           const std::set<std::uint64_t>& own) {
    for (const auto& [address, answers] : {std::pair{"127.0.0.1", &ListeningSocket::answers_v4},
                                           std::pair{"::1", &ListeningSocket::answers_v6}}) {
        bool any = false, others = false;
        for (const ListeningSocket& socket : listening) {
            if (socket.port != port || !(socket.*answers)) continue;
            (own.contains(socket.inode) ? any : others) = true;
        }
        if (any && !others) return address;
    }
    return std::nullopt;
}

std::set<std::uint64_t> sockets_of(const std::set<pid_t>& processes) {
    constexpr std::string_view prefix = "socket:[";
    std::set<std::uint64_t> inodes;
    for (const pid_t pid : processes) {
        const std::string directory = fmt::format("/proc/{}/fd", pid);
        const std::unique_ptr<DIR, int (*)(DIR*)> fds(::opendir(directory.c_str()), &::closedir);
        while (const dirent* entry = fds ? ::readdir(fds.get()) : nullptr) {
            std::array<char, 64> link{};
            const ssize_t size =
                ::readlink(fmt::format("{}/{}", directory, entry->d_name).c_str(), link.data(), link.size());
            std::string_view name(link.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
            std::uint64_t inode = 0;
            if (name.substr(0, prefix.size()) != prefix || name.back() != ']') continue;
            name = name.substr(prefix.size(), name.size() - prefix.size() - 1);
            if (read_number(name, inode, 10)) inodes.insert(inode);
        }
    }
    return inodes;
}

Result<std::vector<ListeningSocket>> read_listening() {
    std::vector<ListeningSocket> all;
    for (const char* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
        auto table = read_file(path, kMaxTable);
        // A kernel without IPv6 has no second one.
        if (!table && table.error().kind == ErrorKind::NotFound) continue;
        if (!table) return fail(table.error());
        for (const ListeningSocket& socket : parse_listening(*table)) all.push_back(socket);
    }
    return all;
}

}  // namespace k8sgpu::providers::process
