// Reflector, ApiClient and CurlTransport together against a server with real sockets that misbehaves in every
// way that API servers and the networks before them do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "kube/curl_transport.h"
#include "tests/unit/kube/fake_api_server.h"
#include "tests/unit/kube/recording_handler.h"

namespace k8sgpu::kube {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

// Pods with resource versions, listed and watched as an API server does it.
class PodServer {
  public:
    enum class Fault { EndWatch, CutMidLine, Stall, Throttle };

    explicit PodServer(std::optional<ServerTls> tls = std::nullopt)
        : server_([this](FakeApiServer::Call& call) { return serve(call); }, std::move(tls)) {}

    std::string url() const { return server_.url(); }
    int lists() const { return state_.lock()->lists; }
    int watches() const { return state_.lock()->watches; }

    void put(const std::string& name) { change(name, true); }
    void remove(const std::string& name) { change(name, false); }
    // The next watch, or the present ones, meet the fault once.
    void inject(Fault fault) {
        state_.lock()->faults.push_back(fault);
        changed_.notify_all();
    }
    void forget_history() { state_.lock()->events.clear(); }

  private:
    struct Event {
        int version;
        std::string line;
    };
    struct State {
        int version = 100;
        std::map<std::string, int> pods;
        std::deque<Event> events;
        std::deque<Fault> faults;
        int lists = 0;
        int watches = 0;
    };

    static Json pod(const std::string& name, int version) {
        return {{"metadata", {{"name", name}, {"resourceVersion", std::to_string(version)}}}};
    }
    void change(const std::string& name, bool there) {
        {
            auto state = state_.lock();
            const int version = ++state->version;
            const bool known = state->pods.contains(name);
            const char* type = !there ? "DELETED" : known ? "MODIFIED" : "ADDED";
            if (there)
                state->pods[name] = version;
            else
                state->pods.erase(name);
            state->events.push_back(
                {version, Json{{"type", type}, {"object", pod(name, version)}}.dump() + "\n"});
        }
        changed_.notify_all();
    }
    bool take(Fault fault) {
        auto state = state_.lock();
        if (state->faults.empty() || state->faults.front() != fault) return false;
        state->faults.pop_front();
        return true;
    }

    bool serve(FakeApiServer::Call& call) {
        if (call.head.query().find("watch=true") != std::string_view::npos) return watch(call);
        Json list = {{"kind", "PodList"}, {"apiVersion", "v1"}, {"items", Json::array()}};
        {
            auto state = state_.lock();
            ++state->lists;
            list["metadata"]["resourceVersion"] = std::to_string(state->version);
            for (const auto& [name, version] : state->pods) list["items"].push_back(pod(name, version));
        }
        call.reply(200, list.dump());
        return true;
    }

    bool watch(FakeApiServer::Call& call) {
        const std::string query(call.head.query());
        int seen = std::atoi(query.substr(query.find("resourceVersion=") + 16).c_str());
        ++state_.lock()->watches;
        if (take(Fault::Throttle)) {
            call.reply(429, R"({"kind":"Status","reason":"TooManyRequests","message":"slow down"})",
                       {{"Retry-After", "1"}});
            return true;
        }
        call.begin_chunked();
        while (!call.ctx.stop().stop_requested()) {
            std::string lines;
            bool expired = false;
            {
                auto state = state_.lock();
                const auto news = [&] { return state->version > seen || !state->faults.empty(); };
                state.wait_until(call.ctx.clock(), changed_, SteadyTime::max(), call.ctx.stop(), news);
                expired = state->version > seen &&
                          (state->events.empty() || state->events.front().version > seen + 1);
                for (const Event& event : state->events) {
                    if (event.version > seen) lines += event.line;
                }
                seen = state->version;
            }
            if (expired) {
                call.chunk(R"({"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}})"
                           "\n");
                break;
            }
            if (take(Fault::Stall)) {
                call.wait_until_stopped();
                return false;
            }
            if (take(Fault::CutMidLine)) {
                call.chunk(lines.substr(0, lines.size() - 10));
                return false;
            }
            if (!lines.empty() && !call.chunk(lines)) return false;
            if (take(Fault::EndWatch)) break;
        }
        call.end_chunked();
        return true;
    }

    Guarded<State> state_;
    std::condition_variable_any changed_;
    FakeApiServer server_;
};

class ListWatchTest : public testing::Test {
  protected:
    void start(PodServer& server, const std::string& ca = "") {
        ClientConfig config;
        config.origin = "the test";
        config.server = server.url();
        config.ca.pem = ca;
        transport = std::move(*CurlTransport::create(config, clock));
        client = std::make_unique<ApiClient>(*transport);
        options.name = "pods";
        options.resource = resources::kPods;
        options.backoff = {1ms, 10ms, 2.0, 0.2};
        reflector = std::make_unique<Reflector>(*client, clock, options, handler);
        reflector->start();
    }
    SystemClock clock;
    RecordingHandler handler;
    ReflectorOptions options{};
    std::unique_ptr<CurlTransport> transport;
    std::unique_ptr<ApiClient> client;
    std::unique_ptr<Reflector> reflector;
};

TEST_F(ListWatchTest, Everything_arrives_once_although_the_server_keeps_ending_watches) {
    const TestCa ca("ca");
    PodServer server(ServerTls{ca.issue("server", {"IP:127.0.0.1"}), ""});
    server.put("first");
    start(server, ca.cert());
    handler.wait_for(1);
    constexpr int kRounds = 50;
    for (int i = 0; i < kRounds; ++i) {
        if (i % 2 == 0) server.inject(PodServer::Fault::EndWatch);
        server.put("pod");
        handler.wait_for(static_cast<std::size_t>(i) + 2);
    }
    const auto lines = handler.wait_for(kRounds + 1);
    ASSERT_EQ(lines.size(), static_cast<std::size_t>(kRounds) + 1);
    for (int i = 0; i < kRounds; ++i)
        EXPECT_EQ(lines[static_cast<std::size_t>(i) + 1], "applied pod@" + std::to_string(102 + i));
    EXPECT_EQ(server.lists(), 1);
}

TEST_F(ListWatchTest, An_event_cut_in_the_middle_comes_again_whole) {
    PodServer server;
    start(server);
    handler.wait_for(1);
    server.inject(PodServer::Fault::CutMidLine);
    server.put("a");
    server.put("b");
    const auto lines = handler.wait_for(3);
    EXPECT_THAT(lines, ElementsAre("listed ", "applied a@101", "applied b@102"));
    EXPECT_EQ(server.lists(), 1);
}

TEST_F(ListWatchTest, What_happened_beyond_the_servers_memory_is_learnt_from_a_list) {
    PodServer server;
    server.put("a");
    server.put("b");
    options.watch_timeout = 1s;
    options.stall_margin = 0s;
    start(server);
    EXPECT_THAT(handler.wait_for(1), ElementsAre("listed a,b"));
    server.inject(PodServer::Fault::Stall);  // what follows happens while nobody hears
    server.remove("a");
    server.put("c");
    server.forget_history();
    server.put("d");
    EXPECT_THAT(handler.wait_for(2), ElementsAre("listed a,b", "listed b,c,d"));
}

TEST_F(ListWatchTest, A_stalled_watch_is_cut_and_what_was_missed_arrives) {
    PodServer server;
    options.watch_timeout = 1s;
    options.stall_margin = 0s;
    start(server);
    handler.wait_for(1);
    server.inject(PodServer::Fault::Stall);
    server.put("a");
    EXPECT_THAT(handler.wait_for(2), ElementsAre("listed ", "applied a@101"));
    EXPECT_GE(server.watches(), 2);
}

TEST_F(ListWatchTest, A_throttled_watch_waits_as_long_as_it_was_told) {
    PodServer server;
    server.inject(PodServer::Fault::Throttle);
    const SteadyTime begun = clock.now();
    start(server);
    handler.wait_for(3);
    server.put("a");
    EXPECT_THAT(handler.wait_for(4), ElementsAre("listed ", "error Throttled", "recovered", "applied a@101"));
    EXPECT_GE(clock.now() - begun, 1s);
}

}  // namespace
}  // namespace k8sgpu::kube
