// A Transport for tests that answers from a script and remembers what it was asked.
//
//   FakeTransport api;
//   api.reply("GET", "/api/v1/nodes/n", 200, node);            // every time
//   api.reply_once("POST", "/api/v1/nodes", 409, status);      // the next time only; once-answers go first
//   api.handle("PATCH", "/api/v1/*", [](const Request& r) -> Result<Response> { … });
//   auto watch = api.stream_once("GET", "/api/v1/pods");       // the next open() gets this stream
//   watch->push(line); watch->end();
//
// Paths are compared without the query; a trailing '*' matches any rest. What matches nothing gets 404, so a
// forgotten answer shows as one. Handlers run on the calling thread without a lock held. Any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/guarded.h"
#include "common/json.h"
#include "kube/transport.h"

namespace k8sgpu::kube {

// The far end of a streamed response: the test pushes, the code under test reads. Any thread.
class ScriptedStream {
  public:
    void push(std::string chunk) {
        state_.lock()->chunks.push_back(std::move(chunk));
        changed_.notify_all();
    }
    void end() { finish(std::nullopt); }
    void fail_with(Error error) { finish(std::move(error)); }
    bool cancelled() const { return state_.lock()->cancelled; }

    int status = 200;
    Headers headers;

    Result<std::string> next(const CallContext& ctx) {
        auto state = state_.lock();
        const auto ready = [&] { return !state->chunks.empty() || state->ended || state->cancelled; };
        // What is there already must not show up as a sleeper of a FakeClock.
        if (!ready() && !state.wait_until(ctx.clock(), changed_, ctx.deadline(), ctx.stop(), ready)) {
            if (ctx.stop().stop_requested()) return fail(ErrorKind::Cancelled, "stopped");
            return fail(ErrorKind::Timeout, "deadline passed");
        }
        if (state->cancelled) return fail(ErrorKind::Cancelled, "cancelled");
        if (!state->chunks.empty()) {
            std::string chunk = std::move(state->chunks.front());
            state->chunks.pop_front();
            return chunk;
        }
        if (state->error) return fail(*state->error);
        return std::string();
    }
    void cancel() {
        state_.lock()->cancelled = true;
        changed_.notify_all();
    }

  private:
    struct State {
        std::deque<std::string> chunks;
        std::optional<Error> error;
        bool ended = false;
        bool cancelled = false;
    };
    void finish(std::optional<Error> error) {
        auto state = state_.lock();
        state->ended = true;
        state->error = std::move(error);
        changed_.notify_all();
    }
    Guarded<State> state_;
    std::condition_variable_any changed_;
};

class FakeTransport final : public Transport {
  public:
    using Handler = std::function<Result<Response>(const Request&)>;
    using UpgradeHandler = std::function<Result<Upgraded>(const Request&)>;

    void handle(std::string method, std::string path, Handler handler) {
        add({std::move(method), std::move(path), std::move(handler), {}, {}, false});
    }
    void handle_once(std::string method, std::string path, Handler handler) {
        add({std::move(method), std::move(path), std::move(handler), {}, {}, true});
    }
    void reply(std::string method, std::string path, int status, const Json& body) {
        handle(std::move(method), std::move(path), answer(status, body));
    }
    void reply_once(std::string method, std::string path, int status, const Json& body) {
        handle_once(std::move(method), std::move(path), answer(status, body));
    }
    void fail_once(std::string method, std::string path, Error error) {
        handle_once(std::move(method), std::move(path),
                    [error = std::move(error)](const Request&) -> Result<Response> { return fail(error); });
    }
    std::shared_ptr<ScriptedStream> stream_once(std::string method, std::string path, int status = 200) {
        auto stream = std::make_shared<ScriptedStream>();
        stream->status = status;
        add({std::move(method), std::move(path), {}, stream, {}, true});
        return stream;
    }
    void handle_upgrade(std::string path, UpgradeHandler handler) {
        add({"", std::move(path), {}, {}, std::move(handler), false});
    }

    // Everything asked so far, in order, or what matches.
    std::vector<Request> requests() const { return state_.lock()->requests; }
    std::vector<Request> requests(std::string_view method, std::string_view path) const {
        std::vector<Request> found;
        auto state = state_.lock();
        for (const Request& request : state->requests) {
            if (matches(method, path, request)) found.push_back(request);
        }
        return found;
    }
    // Returns once `count` requests matched; false after ten real seconds, so that a test fails, not hangs.
    bool wait_for_requests(std::string_view method, std::string_view path, std::size_t count) const {
        std::unique_lock lock(waiting_);
        return asked_.wait_for(lock, std::chrono::seconds(10),
                               [&] { return requests(method, path).size() >= count; });
    }

    Result<Response> send(const Request& request, const CallContext& ctx) override {
        if (auto alive = ctx.check(); !alive) return fail(alive.error());
        const Rule rule = take(request);
        if (rule.handler) return rule.handler(request);
        return not_found(request);
    }
    Result<std::unique_ptr<ResponseStream>> open(const Request& request, const CallContext& ctx) override {
        if (auto alive = ctx.check(); !alive) return fail(alive.error());
        const Rule rule = take(request);
        auto script = rule.stream;
        if (!script) {
            auto response = rule.handler ? rule.handler(request) : not_found(request);
            if (!response) return fail(response.error());
            script = std::make_shared<ScriptedStream>();
            script->status = response->status;
            script->headers = response->headers;
            if (!response->body.empty()) script->push(response->body);
            script->end();
        }
        return std::unique_ptr<ResponseStream>(std::make_unique<Stream>(std::move(script)));
    }
    Result<Upgraded> upgrade(const Request& request, const CallContext& ctx) override {
        if (auto alive = ctx.check(); !alive) return fail(alive.error());
        const Rule rule = take(request);
        if (rule.upgrade) return rule.upgrade(request);
        auto response = rule.handler ? rule.handler(request) : not_found(request);
        if (!response) return fail(response.error());
        return fail(error_from_response(response->status, response->headers, response->body));
    }

  private:
    struct Rule {
        std::string method;  // empty matches all
        std::string path;
        Handler handler;
        std::shared_ptr<ScriptedStream> stream;
        UpgradeHandler upgrade;
        bool once = false;
    };
    class Stream final : public ResponseStream {
      public:
        explicit Stream(std::shared_ptr<ScriptedStream> script) : script_(std::move(script)) {}
        ~Stream() override { script_->cancel(); }
        int status() const override { return script_->status; }
        const Headers& headers() const override { return script_->headers; }
        Result<std::string> next(const CallContext& ctx) override { return script_->next(ctx); }
        void cancel() override { script_->cancel(); }

      private:
        std::shared_ptr<ScriptedStream> script_;
    };
    struct State {
        std::list<Rule> rules;
        std::vector<Request> requests;
    };

    static bool matches(std::string_view method, std::string_view path, const Request& request) {
        if (!method.empty() && method != request.method) return false;
        const std::string_view asked = std::string_view(request.path).substr(0, request.path.find('?'));
        if (path.ends_with('*')) return asked.starts_with(path.substr(0, path.size() - 1));
        return asked == path;
    }
    static Handler answer(int status, const Json& body) {
        return [status, text = dump_json(body)](const Request&) -> Result<Response> {
            return Response{status, {{"content-type", "application/json"}}, text};
        };
    }
    static Result<Response> not_found(const Request& request) {
        const Json body = {{"kind", "Status"},
                           {"status", "Failure"},
                           {"reason", "NotFound"},
                           {"message", "no script for " + request.method + " " + request.path},
                           {"code", 404}};
        return Response{404, {}, dump_json(body)};
    }
    void add(Rule rule) { state_.lock()->rules.push_back(std::move(rule)); }

    // The oldest once-rule that matches, else the newest standing one (so that a test can override).
    Rule take(const Request& request) {
        Rule found;
        {
            auto state = state_.lock();
            state->requests.push_back(request);
            auto& rules = state->rules;
            auto chosen = rules.end();
            for (auto it = rules.begin(); it != rules.end(); ++it) {
                if (!matches(it->method, it->path, request)) continue;
                chosen = it;
                if (it->once) break;
            }
            if (chosen != rules.end()) {
                found = *chosen;
                if (chosen->once) rules.erase(chosen);
            }
        }
        { std::lock_guard lock(waiting_); }
        asked_.notify_all();
        return found;
    }

    Guarded<State> state_;
    mutable std::mutex waiting_;
    mutable std::condition_variable asked_;
};

}  // namespace k8sgpu::kube
