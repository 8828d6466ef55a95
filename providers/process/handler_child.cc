#include "providers/process/handler_child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "common/call_context.h"
#include "common/file.h"
#include "net/dial.h"
#include "net/socket_stream.h"
#include "net/tls_context.h"
#include "net/tls_stream.h"

namespace k8sgpu::providers::process {
namespace {

constexpr std::size_t kMaxOutput = 10U << 10U;  // what the kubelet keeps of a probe's output
constexpr std::size_t kMaxHead = 64U << 10U;
constexpr const char* kAgent = "kube-probe/k8sgpu";

int left_ms(const CallContext& ctx) {
    return static_cast<int>(std::clamp<std::int64_t>(ctx.remaining().count(), 0, 3'600'000));
}

HandlerResult run_command(const Handler& handler, SpawnRequest command, const CallContext& ctx,
                          Duration timeout) {
    std::array<int, 2> fds{};
    if (::pipe2(fds.data(), O_CLOEXEC) != 0) return {HandlerOutcome::Error, "no pipe"};
    const net::Fd ours(fds[0]);
    net::Fd theirs(fds[1]);
    command.argv = handler.argv;
    command.out = command.err = theirs.get();
    command.die_with_parent = true;
    const auto pid = spawn(command);
    theirs.reset();
    if (!pid) return {HandlerOutcome::Failure, pid.error().message};
    std::string output;
    std::array<char, 4096> chunk;
    int status = 0;
    pid_t ended = 0;
    bool open = true;
    while ((ended = ::waitpid(*pid, &status, WNOHANG)) == 0 && ctx.check()) {
        // Without output nothing wakes us when the command ends: looked for again soon.
        pollfd wait{open ? ours.get() : -1, POLLIN, 0};
        if (::poll(&wait, 1, std::min(20, left_ms(ctx))) <= 0) continue;
        const ssize_t got = ::read(ours.get(), chunk.data(), chunk.size());
        if (got <= 0) open = false;
        if (got > 0 && output.size() < kMaxOutput) output.append(chunk.data(), static_cast<std::size_t>(got));
    }
    if (ended == 0) {
        ::kill(-*pid, SIGKILL);
        ::waitpid(*pid, &status, 0);
        return {HandlerOutcome::Failure, fmt::format("command \"{}\" timed out after {}s", handler.describe(),
                                                     timeout.count() / 1000)};
    }
    ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
    for (ssize_t got = 0;
         output.size() < kMaxOutput && (got = ::read(ours.get(), chunk.data(), chunk.size())) > 0;) {
        output.append(chunk.data(), static_cast<std::size_t>(got));
    }
    output.resize(std::min(output.size(), kMaxOutput));
    const bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return {good ? HandlerOutcome::Success : HandlerOutcome::Failure, output};
}

// In Go's words, which tests and people know.
std::string dial_error(const Handler& handler, const Error& error) {
    const bool refused = error.message.find("refused") != std::string::npos;
    const std::string where = fmt::format("dial tcp {}:{}", handler.host, handler.port);
    if (error.kind == ErrorKind::Timeout) return where + ": i/o timeout";
    return where + (refused ? ": connect: connection refused" : ": " + error.message);
}

std::string request_of(const Handler& handler) {
    std::string host = fmt::format("{}:{}", handler.host, handler.port), extra;
    bool agent = false, accept = false;
    for (const auto& [name, value] : handler.headers) {
        const auto is = [&name = name](std::string_view other) {
            return std::equal(name.begin(), name.end(), other.begin(), other.end(),
                              [](char a, char b) { return std::tolower(a) == std::tolower(b); });
        };
        if (is("host")) {
            host = value;
            continue;
        }
        agent = agent || is("user-agent");
        accept = accept || is("accept");
        extra += fmt::format("{}: {}\r\n", name, value);
    }
    if (!agent) extra += fmt::format("User-Agent: {}\r\n", kAgent);
    if (!accept) extra += "Accept: */*\r\n";
    return fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\n{}Connection: close\r\n\r\n", handler.path, host,
                       extra);
}

HandlerResult judge(const std::string& head) {
    int code = 0;
    if (std::sscanf(head.c_str(), "HTTP/%*d.%*d %3d", &code) != 1) {
        return {HandlerOutcome::Failure, "malformed HTTP response"};
    }
    if (code >= 200 && code < 400) return {HandlerOutcome::Success, ""};
    return {HandlerOutcome::Failure, fmt::format("HTTP probe failed with statuscode: {}", code)};
}

HandlerResult ask(const Handler& handler, net::Fd socket, const CallContext& ctx) {
    const auto failed = [&](const Error& error) {
        const bool late = error.kind == ErrorKind::Timeout;
        return HandlerResult{HandlerOutcome::Failure,
                             fmt::format("Get \"{}\": {}", handler.describe(),
                                         late ? "context deadline exceeded (Client.Timeout exceeded while "
                                                "awaiting headers)"
                                              : error.message)};
    };
    std::unique_ptr<net::TlsClientContext> context;
    std::unique_ptr<net::ByteStream> stream;
    if (handler.tls) {
        net::TlsClientOptions options;
        options.insecure = true;
        auto made = net::TlsClientContext::create(options);
        if (!made) return {HandlerOutcome::Error, made.error().message};
        context = std::move(*made);
        auto secured = net::TlsStream::connect(std::move(socket), *context, handler.host, ctx);
        if (!secured) return failed(secured.error());
        stream = std::move(*secured);
    } else {
        stream = std::make_unique<net::SocketStream>(std::move(socket));
    }
    if (auto sent = stream->write(request_of(handler), ctx); !sent) return failed(sent.error());
    std::string head;
    std::array<char, 4096> chunk;
    // The status line is enough; the body is nobody's.
    while (head.find("\r\n") == std::string::npos && head.size() < kMaxHead) {
        const auto got = stream->read(chunk, ctx);
        if (!got) return failed(got.error());
        if (*got == 0) break;
        head.append(chunk.data(), *got);
    }
    return judge(head);
}

HandlerResult connect(const Handler& handler, const CallContext& ctx) {
    auto socket = net::dial(handler.host, handler.port, ctx);
    if (!socket) {
        const std::string text = dial_error(handler, socket.error());
        if (handler.kind == Handler::Kind::Tcp) return {HandlerOutcome::Failure, text};
        return {HandlerOutcome::Failure, fmt::format("Get \"{}\": {}", handler.describe(), text)};
    }
    if (handler.kind == Handler::Kind::Tcp) return {HandlerOutcome::Success, ""};
    return ask(handler, std::move(*socket), ctx);
}

}  // namespace

HandlerResult run_handler(const Handler& handler, const SpawnRequest& command, Duration timeout) {
    SystemClock clock;
    const auto ctx = CallContext::with_timeout(clock, timeout, {});
    switch (handler.kind) {
        case Handler::Kind::Exec:
            return run_command(handler, command, ctx, timeout);
        case Handler::Kind::Sleep:
            ::poll(nullptr, 0,
                   static_cast<int>(std::min<std::int64_t>(handler.sleep.count() * 1000, left_ms(ctx))));
            return {HandlerOutcome::Success, ""};
        default:
            return connect(handler, ctx);
    }
}

Result<HandlerChild> HandlerChild::start(const Handler& handler, const SpawnRequest& command,
                                         Duration timeout) {
    std::array<int, 2> fds{};
    if (::pipe2(fds.data(), O_CLOEXEC) != 0) return fail(error_from_errno(errno, "pipe"));
    net::Fd ours(fds[0]), theirs(fds[1]);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return fail(error_from_errno(errno, "fork"));
    if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (::getppid() != parent) ::_exit(1);
        ::setpgid(0, 0);
        // Nothing of the shim's may live on in here: its lock, its pipes, the sessions attached to it.
        const int report = ::dup2(theirs.get(), 3) == 3 ? 3 : -1;
        ::close_range(4, ~0U, 0);
        sigset_t none;
        ::sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        const HandlerResult result = run_handler(handler, command, timeout);
        const std::string bytes = static_cast<char>(result.outcome) + result.text;
        [[maybe_unused]] const ssize_t put = ::write(report, bytes.data(), bytes.size());
        ::_exit(0);
    }
    ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
    return HandlerChild(std::move(ours), pid);
}

HandlerChild::HandlerChild(HandlerChild&& other) noexcept
    : fd_(std::move(other.fd_)), pid_(std::exchange(other.pid_, -1)), received_(std::move(other.received_)) {}

HandlerChild& HandlerChild::operator=(HandlerChild&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(pid_, other.pid_);
    std::swap(received_, other.received_);
    return *this;
}

// Its command dies with it; the shim reaps both.
HandlerChild::~HandlerChild() {
    if (pid_ > 0 && fd_.valid()) ::kill(pid_, SIGKILL);
}

std::optional<HandlerResult> HandlerChild::read() {
    std::array<char, 4096> chunk;
    while (true) {
        const ssize_t got = ::read(fd_.get(), chunk.data(), chunk.size());
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
        if (got <= 0) break;
        received_.append(chunk.data(), static_cast<std::size_t>(got));
    }
    fd_.reset();
    if (received_.empty()) return HandlerResult{HandlerOutcome::Error, "the probe was killed"};
    return HandlerResult{static_cast<HandlerOutcome>(received_[0]), received_.substr(1)};
}

}  // namespace k8sgpu::providers::process
