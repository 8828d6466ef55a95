#include "kubelet_api/remote_command.h"

#include <fmt/format.h>

#include <set>

#include "common/json.h"
#include "common/log.h"
#include "kubelet_api/command_io.h"

namespace k8sgpu::kubelet_api {

namespace {

// How long the last words may take towards a client that does not read.
constexpr Duration kStatusLimit{10'000};

std::set<std::string, std::less<>> expected_types(const CommandOptions& options) {
    std::set<std::string, std::less<>> types = {"error"};
    if (options.streams.in) types.insert("stdin");
    if (options.streams.out) types.insert("stdout");
    if (options.streams.err) types.insert("stderr");
    if (options.streams.tty && options.protocol.resize) types.insert("resize");
    return types;
}

// Accepts until all expected streams are there, in any order. What is of no use is reset at once, because a
// stream that nobody reads would stop the session.
Result<StreamsByType> collect(net::MuxSession& mux, const CommandOptions& options, const CallContext& ctx) {
    const auto expected = expected_types(options);
    StreamsByType streams;
    while (streams.size() < expected.size()) {
        auto stream = mux.accept(ctx);
        if (!stream) return fail(stream.error());
        const auto& headers = (*stream)->headers();
        const auto type = headers.find("streamtype");
        if (type == headers.end() || expected.count(type->second) == 0 || streams.count(type->second) != 0) {
            (*stream)->reset();
            continue;
        }
        streams.emplace(type->second, *stream);
    }
    return streams;
}

Json failure(std::string_view reason, int code, const std::string& message) {
    Json status = {
        {"metadata", Json::object()}, {"status", "Failure"}, {"message", message}, {"reason", reason}};
    if (code != 0) status["code"] = code;
    return status;
}

}  // namespace

Result<CommandStreams> decode_command_streams(const Query& query) {
    CommandStreams streams{query.flag("input"), query.flag("output"), query.flag("error"), query.flag("tty")};
    if (streams.tty) streams.err = false;
    if (!streams.in && !streams.out && !streams.err)
        return fail(ErrorKind::Invalid, "you must specify at least 1 of stdin, stdout, stderr");
    return streams;
}

CommandProtocol command_protocol(std::string_view negotiated) {
    if (negotiated.starts_with("v4.") || negotiated.starts_with("v5.")) return {true, true};
    if (negotiated.starts_with("v3.")) return {false, true};
    return {};
}

std::string command_status(const Result<providers::ExitStatus>& result, const CommandProtocol& protocol,
                           std::string_view doing) {
    if (result && result->code == 0) {
        return protocol.json_status ? dump_json({{"metadata", Json::object()}, {"status", "Success"}}) : "";
    }
    const std::string why =
        result ? fmt::format("command terminated with exit code {}", result->code) : result.error().message;
    const std::string text = fmt::format("error {}: {}", doing, why);
    if (!protocol.json_status) return text;
    if (!result) return dump_json(failure("InternalError", 500, "Internal error occurred: " + text));
    Json status =
        failure("NonZeroExitCode", 0, fmt::format("command terminated with non-zero exit code: {}", text));
    status["details"]["causes"] = {{{"reason", "ExitCode"}, {"message", std::to_string(result->code)}}};
    return dump_json(status);
}

void serve_remote_command(net::MuxSession& mux, const CommandOptions& options, Session& session, Clock& clock,
                          const RunCommand& run) {
    session.also_stop_with(mux.ended());
    const std::stop_callback cut(session.kill_token(), [&mux] { mux.cancel(); });

    auto streams =
        collect(mux, options, CallContext::with_timeout(clock, options.stream_creation, session.token()));
    if (!streams) {
        // The kubelet closes without a word, too: there may be no error stream to say it on.
        log().debug("remote command: waiting for streams: {}", streams.error().message);
        mux.cancel();
        return;
    }

    CommandIo io(*streams);
    Result<providers::ExitStatus> result = run(io, CallContext::until_stopped(clock, session.token()));
    if (mux.ended().stop_requested()) {
        mux.cancel();
        return;
    }
    if (const std::string reason = session.reason(); !result && !reason.empty())
        result = fail(ErrorKind::Cancelled, reason);

    for (const char* type : {"stdout", "stderr"}) {
        if (const auto output = streams->find(type); output != streams->end())
            (void)output->second->shut_write();
    }
    const auto& error = streams->at("error");
    const CallContext last_words = CallContext::with_timeout(clock, kStatusLimit, session.kill_token());
    if (const std::string status = command_status(result, options.protocol, options.doing); !status.empty()) {
        if (auto told = error->write(status, last_words); !told)
            log().debug("remote command: telling the end: {}", told.error().message);
    }
    (void)error->shut_write();
    mux.close(options.linger);
}

}  // namespace k8sgpu::kubelet_api
