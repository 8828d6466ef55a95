// The test program is also its own shim, as the daemon is, and a server that listens in a pod.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "providers/process/shim.h"

namespace {

// Listens on a port of its own at `address`, prints the port, and answers each connection, once it has heard
// all of it, with what it heard.
int serve(const char* address) {
    const bool v6 = std::string_view(address).find(':') != std::string_view::npos;
    sockaddr_storage at{};
    auto* four = reinterpret_cast<sockaddr_in*>(&at);
    auto* six = reinterpret_cast<sockaddr_in6*>(&at);
    at.ss_family = v6 ? AF_INET6 : AF_INET;
    socklen_t size = v6 ? sizeof *six : sizeof *four;
    ::inet_pton(at.ss_family, address,
                v6 ? static_cast<void*>(&six->sin6_addr) : static_cast<void*>(&four->sin_addr));
    const int listener = ::socket(at.ss_family, SOCK_STREAM, 0);
    if (::bind(listener, reinterpret_cast<sockaddr*>(&at), size) != 0 || ::listen(listener, 100) != 0)
        return 1;
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size);
    std::printf("%d\n", ntohs(v6 ? six->sin6_port : four->sin_port));
    std::fflush(stdout);
    while (true) {
        const int peer = ::accept(listener, nullptr, nullptr);
        std::string heard;
        char chunk[4096];
        for (ssize_t got = 0; (got = ::read(peer, chunk, sizeof chunk)) > 0;)
            heard.append(chunk, static_cast<std::size_t>(got));
        heard = "heard " + heard;
        [[maybe_unused]] const ssize_t put = ::write(peer, heard.data(), heard.size());
        ::close(peer);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view role = argc > 1 ? argv[1] : "";
    if (role == "process-shim") return k8sgpu::providers::process::shim_main(argc - 1, argv + 1);
    if (role == "serve" && argc == 3) return serve(argv[2]);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
