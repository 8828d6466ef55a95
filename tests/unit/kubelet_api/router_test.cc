#include "kubelet_api/router.h"

#include <gtest/gtest.h>

#include "kubelet_api/connection.h"
#include "kubelet_api/upgrade.h"

namespace k8sgpu::kubelet_api {
namespace {

using Kind = RouteMatch::Kind;

RouteMatch find(const char* method, const char* path) {
    return find_route(method, *path_segments(path));
}

TEST(Router, Finds_both_forms_of_exec) {
    auto found = find("POST", "/exec/ns/p/c");
    ASSERT_EQ(found.kind, Kind::Found);
    EXPECT_EQ(found.params["container"], "c");
    EXPECT_EQ(found.params.count("uid"), 0U);
    found = find("GET", "/exec/ns/p/u-1/c");
    ASSERT_EQ(found.kind, Kind::Found);
    EXPECT_EQ(found.params["uid"], "u-1");
    EXPECT_EQ(found.params["container"], "c");
}

TEST(Router, Tells_unknown_from_wrong) {
    EXPECT_EQ(find("GET", "/nothing").kind, Kind::UnknownRoot);
    EXPECT_EQ(find("GET", "/exec").kind, Kind::UnknownPath);
    EXPECT_EQ(find("GET", "/exec/a/b/c/d/e").kind, Kind::UnknownPath);
    EXPECT_EQ(find("DELETE", "/exec/a/b/c").kind, Kind::WrongMethod);
    EXPECT_EQ(find("POST", "/pods").kind, Kind::WrongMethod);
    EXPECT_EQ(find("HEAD", "/pods").kind, Kind::WrongMethod);
    EXPECT_EQ(find("GET", "/metrics/none").kind, Kind::UnknownPath);
    EXPECT_EQ(find("GET", "/logs/a/b/c").kind, Kind::Found);
    EXPECT_EQ(find("PUT", "/debug").kind, Kind::Found);
    EXPECT_EQ(find_route("GET", {}).kind, Kind::UnknownRoot);
}

TEST(Negotiate, Takes_the_clients_first_that_we_have) {
    EXPECT_EQ(*negotiate({"v5", "v4", "v3"}, {"v3", "v4"}), "v4");
    const auto none = negotiate({"v5"}, {"v3", "v4"});
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().http_status, 403);
    EXPECT_EQ(
        none.error().message,
        "unable to upgrade: unable to negotiate protocol: client supports [v5], server accepts [v3 v4]");
}

net::HttpRequestHead websocket(const char* protocols) {
    net::HttpRequestHead head;
    head.method = "GET";
    head.headers.add("Connection", "Upgrade");
    head.headers.add("Upgrade", "websocket");
    head.headers.add("Sec-WebSocket-Protocol", protocols);
    return head;
}

TEST(BearerToken, Comes_from_the_header_whatever_its_case) {
    net::HttpRequestHead head;
    EXPECT_EQ(*bearer_token(head), std::nullopt);
    head.headers.add("Authorization", "bEaReR  abc ");
    EXPECT_EQ(*bearer_token(head), "abc");
    net::HttpRequestHead basic;
    basic.headers.add("Authorization", "Basic abc");
    EXPECT_EQ(*bearer_token(basic), std::nullopt);
    net::HttpRequestHead empty;
    empty.headers.add("Authorization", "Bearer ");
    EXPECT_EQ(*bearer_token(empty), std::nullopt);
}

TEST(BearerToken, Comes_as_a_subprotocol_that_nobody_else_sees) {
    const auto head = websocket("v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0");
    EXPECT_EQ(*bearer_token(head), "secret");
    EXPECT_EQ(offered_subprotocols(head), std::vector<std::string>{"v4.channel.k8s.io"});
    EXPECT_FALSE(bearer_token(websocket("base64url.bearer.authorization.k8s.io.c2VjcmV0")));
    EXPECT_FALSE(bearer_token(websocket("x, base64url.bearer.authorization.k8s.io.***")));
    EXPECT_EQ(*bearer_token(websocket("v4.channel.k8s.io")), std::nullopt);
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
