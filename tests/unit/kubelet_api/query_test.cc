#include "kubelet_api/query.h"

#include <gtest/gtest.h>

#include "kubelet_api/log_query.h"

namespace k8sgpu::kubelet_api {
namespace {

TEST(Query, Decodes_repeats_blanks_and_escapes) {
    const Query query("command=sh&command=-c&command=a+b%26c&empty&x=1");
    EXPECT_EQ(query.all("command"), (std::vector<std::string>{"sh", "-c", "a b&c"}));
    EXPECT_EQ(query.first("empty"), "");
    EXPECT_EQ(query.first("none"), std::nullopt);
    EXPECT_FALSE(query.malformed());
    EXPECT_TRUE(Query("a=%zz").malformed());
    EXPECT_FALSE(Query("a=%zz").has("a"));
}

TEST(Query, Flags_read_as_Kubernetes_reads_them) {
    for (const char* text : {"f=1", "f=true", "f=TRUE", "f", "f=", "f=yes"})
        EXPECT_TRUE(Query(text).flag("f")) << text;
    for (const char* text : {"", "f=0", "f=false", "f=False", "g=1"})
        EXPECT_FALSE(Query(text).flag("f")) << text;
}

TEST(PathSegments, Are_decoded_after_splitting) {
    EXPECT_EQ(*path_segments("/exec/ns/p%2Fq/c"), (std::vector<std::string>{"exec", "ns", "p/q", "c"}));
    EXPECT_EQ(*path_segments("/runningpods/"), std::vector<std::string>{"runningpods"});
    EXPECT_EQ(*path_segments("//exec"), (std::vector<std::string>{"", "exec"}));
    EXPECT_EQ(*path_segments("/a//c"), (std::vector<std::string>{"a", "", "c"}));
}

TEST(PathSegments, That_climb_or_do_not_decode_are_none) {
    for (const char* path :
         {"/metrics/../exec", "/metrics/%2e%2e/exec", "/./x", "/%zz", "*", "", "http://h/x"})
        EXPECT_FALSE(path_segments(path)) << path;
}

struct LogQueryError {
    const char* query;
    int status;
    const char* message;
};

TEST(LogQuery, Refuses_with_the_kubelets_codes_and_texts) {
    const char* undecodable = R"({"message": "Unable to decode query."})";
    const char* invalid = R"({"message": "Invalid request."})";
    const LogQueryError rows[] = {
        {"tailLines=x", 400, undecodable},
        {"tailLines=", 400, undecodable},
        {"limitBytes=1.5", 400, undecodable},
        {"sinceSeconds=99999999999999999999", 400, undecodable},
        {"sinceTime=yesterday", 400, undecodable},
        {"tailLines=-1", 422, invalid},
        {"limitBytes=0", 422, invalid},
        {"sinceSeconds=0", 422, invalid},
        {"sinceSeconds=5&sinceTime=2024-01-01T00:00:00Z", 422, invalid},
        {"stream=Both", 422, invalid},
        {"stream=Stdout&tailLines=5", 422, invalid},
        {"stream=", 422, invalid},
        {"tail=-3", 422, invalid},
        {"tail=some", 400, undecodable},
    };
    for (const auto& row : rows) {
        const auto decoded = decode_log_query(Query(row.query));
        ASSERT_FALSE(decoded) << row.query;
        EXPECT_EQ(decoded.error().http_status, row.status) << row.query;
        EXPECT_EQ(decoded.error().message, row.message) << row.query;
    }
}

TEST(LogQuery, Reads_every_option) {
    const auto decoded =
        decode_log_query(Query("follow=true&previous=false&timestamps=1&tailLines=0&limitBytes=10&sinceTime="
                               "2024-01-01T01:00:00%2B01:00"));
    ASSERT_TRUE(decoded);
    EXPECT_TRUE(decoded->follow);
    EXPECT_FALSE(decoded->previous);
    EXPECT_TRUE(decoded->timestamps);
    EXPECT_EQ(decoded->tail_lines, 0);
    EXPECT_EQ(decoded->limit_bytes, 10);
    EXPECT_EQ(decoded->since_time, WallTime(std::chrono::seconds(1'704'067'200)));
    EXPECT_EQ(decode_log_query(Query("tail=7&tailLines=3"))->tail_lines, 7);
    EXPECT_EQ(decode_log_query(Query("tail=all&tailLines=3"))->tail_lines, std::nullopt);
    EXPECT_EQ(decode_log_query(Query("stream=Stderr"))->streams, providers::LogStreams::Stderr);
    EXPECT_EQ(decode_log_query(Query("pretty=true&container=c&insecureSkipTLSVerifyBackend=true&stream=All"))
                  ->streams,
              providers::LogStreams::All);
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
