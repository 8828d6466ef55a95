// k8sgpu: parse, run, exit code. Everything else is in app.cc.
#include <malloc.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "common/log.h"
#include "providers/process/shim.h"
#include "vnode/app.h"
#include "vnode/commands.h"
#include "vnode/options.h"

namespace {

// A session takes about ten descriptors, and the usual soft limit of 1024 is a hundred sessions. Programs
// that wait with select(), for which the limit was made, are none of ours.
void use_all_descriptors() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) try {
    using namespace k8sgpu;
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    const auto environment = [](const std::string& name) {
        const char* value = std::getenv(name.c_str());
        return std::string(value == nullptr ? "" : value);
    };
    const auto read_options = [&] {
        return vnode::parse_command_line(arguments, environment, K8SGPU_VERSION);
    };
    auto command = read_options();
    if (!command) {
        std::fprintf(stderr, "k8sgpu: %s\n", command.error().message.c_str());
        return 1;
    }
    switch (command->kind) {
        case vnode::Command::Kind::ShowText:
            std::fputs(command->text.c_str(), stdout);
            return 0;
        case vnode::Command::Kind::ProcessShim:
            return providers::process::shim_main(argc - 1, argv + 1);
        case vnode::Command::Kind::Drain:
            return vnode::run_drain(command->options);
        case vnode::Command::Kind::Uninstall:
            return vnode::run_uninstall(command->options);
        case vnode::Command::Kind::Run:
            break;
    }
    use_all_descriptors();
    // Dozens of threads that mostly wait would have an arena each, and what one frees no other uses again.
    mallopt(M_ARENA_MAX, 2);
    configure_log(command->options.log_level);
    return vnode::App(std::move(*command), read_options, K8SGPU_VERSION).run();
} catch (const std::exception& e) {
    std::fprintf(stderr, "k8sgpu: %s\n", e.what());
    return 1;
}
