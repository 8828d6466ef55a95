// POST /run: a command without streams, its output in one body. Texts as the kubelet's RunInContainer and CRI
// client.
#include <fmt/format.h>

#include "common/log.h"
#include "kubelet_api/pod_containers.h"
#include "kubelet_api/routes/routes.h"
#include "net/text_sink.h"
#include "providers/port/exec.h"

namespace k8sgpu::kubelet_api::routes {

namespace {

constexpr std::size_t kMaxOutput = 16U << 20U;  // per stream, as runtimes bound it; the rest is dropped

class CollectingIo final : public providers::ExecIo {
  public:
    net::ByteStream* stdin_stream() override { return nullptr; }
    net::ByteStream* stdout_stream() override { return &out; }
    net::ByteStream* stderr_stream() override { return &err; }
    Result<std::optional<providers::TerminalSize>> next_size(const CallContext& /*ctx*/) override {
        return std::optional<providers::TerminalSize>();
    }
    net::TextSink out{kMaxOutput}, err{kMaxOutput};
};

// As strings.Split: a text without blanks is one word, an empty one is one empty word.
std::vector<std::string> split_at_blanks(const std::string& text) {
    std::vector<std::string> words;
    std::size_t begin = 0;
    for (std::size_t end; (end = text.find(' ', begin)) != std::string::npos; begin = end + 1)
        words.push_back(text.substr(begin, end - begin));
    words.push_back(text.substr(begin));
    return words;
}

}  // namespace

void run(Exchange& exchange, ApiContext& api) {
    const auto answer = [&](int status, std::string_view text) {
        (void)exchange.response.text(status, text, exchange.ctx);
    };
    const auto view = api.pods.find(exchange.param("ns"), exchange.param("pod"));
    if (!view) return answer(404, "pod does not exist");
    const std::string& uid = exchange.param("uid");
    providers::ExecRequest request;
    request.pod = view->id;
    request.container = exchange.param("container");
    request.command = split_at_blanks(exchange.query.first("cmd").value_or(""));
    if ((!uid.empty() && uid != view->id.uid) || !is_running(*view->pod, request.container))
        return answer(500, fmt::format("container not found (\"{}\")", request.container));
    providers::Executor* executor = view->provider->executor();
    if (executor == nullptr)
        return answer(501, fmt::format("provider {} does not support exec", view->provider->name()));

    const auto session = api.sessions.enter(view->id.uid);
    session->also_stop_with(exchange.connection.token());
    log().info("run {} container={} by {}", view->id, request.container, exchange.user.name);
    CollectingIo io;
    const auto ended = executor->exec(request, io, exchange.ctx.with_stop(session->token()));
    if (!ended) {
        const std::string why = session->reason();
        return answer(status_of(ended.error()) == 429 ? 429 : 500, why.empty() ? ended.error().message : why);
    }
    if (ended->code != 0)
        return answer(500, fmt::format("command '{}' exited with {}: {}", fmt::join(request.command, " "),
                                       ended->code, io.err.text()));
    (void)exchange.response.send(200, "application/json", io.out.text() + io.err.text(), exchange.ctx);
}

}  // namespace k8sgpu::kubelet_api::routes
