// What the tests of CurlTransport share: a transport to a server of theirs, and a server that echoes.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "kube/curl_transport.h"
#include "tests/unit/kube/fake_api_server.h"

namespace k8sgpu::kube {

class CurlTransportTest : public testing::Test {
  protected:
    CallContext ctx(Duration timeout = std::chrono::seconds(10)) {
        return CallContext::with_timeout(clock, timeout, stop.get_token());
    }
    static ClientConfig config_for(const std::string& url) {
        ClientConfig config;
        config.origin = "the test";
        config.server = url;
        return config;
    }
    std::unique_ptr<CurlTransport> transport(ClientConfig config, CurlTransportOptions options = {}) {
        auto made = CurlTransport::create(std::move(config), clock, options);
        EXPECT_TRUE(made);
        return std::move(*made);
    }
    Result<Response> get(Transport& transport, const std::string& path = "/version") {
        Request request;
        request.path = path;
        return transport.send(request, ctx());
    }

    SystemClock clock;
    std::stop_source stop;
    TestCa ca{"test ca"};
};

inline bool echo(FakeApiServer::Call& call) {
    const Json seen = {{"method", call.head.method},
                       {"target", call.head.target},
                       {"body", call.body},
                       {"auth", call.header("authorization")},
                       {"agent", call.header("user-agent")},
                       {"type", call.header("content-type")},
                       {"accept", call.header("accept")},
                       {"host", call.header("host")},
                       {"expect", call.header("expect")},
                       {"group", call.head.headers.all("impersonate-group").size()},
                       {"cn", call.client_cn}};
    call.reply(200, seen.dump(), {{"X-Seen", "Yes"}});
    return true;
}

}  // namespace k8sgpu::kube
