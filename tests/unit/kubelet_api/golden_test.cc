// What the kubelet API reads from kubectl's requests as they arrive at a node, and the last words on the
// error stream.
#include "tests/golden/recorded.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "common/json.h"
#include "kubelet_api/log_query.h"
#include "kubelet_api/query.h"
#include "kubelet_api/remote_command.h"

namespace k8sgpu::kubelet_api {
namespace {

using test::recorded_answer;
using test::recorded_request;
using testing::ElementsAre;

struct Wanted {
    const char* form;
    const char* verb;
    const char* pod;
    std::vector<std::string> command;
    bool in, out, err, tty;
};
const std::vector<Wanted> kWanted = {
    {"exec-ws", "exec", "exec-r", {"sh", "-c", "echo out; echo err >&2; exit 3"}, false, true, true, false},
    {"exec-spdy", "exec", "exec-r", {"sh", "-c", "echo out; echo err >&2; exit 3"}, false, true, true, false},
    {"exec-stdin-ws", "exec", "exec-r", {"cat"}, true, true, true, false},
    {"exec-tty-ws", "exec", "exec-r", {"sh", "-c", "stty size; exit 0"}, true, true, false, true},
    {"exec-tty-spdy", "exec", "exec-r", {"sh", "-c", "stty size; exit 0"}, true, true, false, true},
    {"cp-ws", "exec", "exec-r", {"tar", "cf", "-", "/etc/passwd"}, false, true, true, false},
    {"attach-ws", "attach", "attach1-r", {}, true, true, true, false},
    {"attach-spdy", "attach", "attach2-r", {}, true, true, true, false},
    {"run-ws", "attach", "run1-r", {}, true, true, true, false},
    {"channel-v4", "exec", "exec-r", {"cat"}, true, true, true, false},
};

class Golden : public testing::TestWithParam<const char*> {
  protected:
    static std::string name(const std::string& form) { return std::string(GetParam()) + "/" + form; }
};
INSTANTIATE_TEST_SUITE_P(Kubernetes, Golden, testing::Values("1.30", "1.36"), [](const auto& instance) {
    std::string name = instance.param;
    std::replace(name.begin(), name.end(), '.', '_');
    return "v" + name;
});

TEST_P(Golden, Requests_say_what_kubectl_was_told_to_do) {
    for (const Wanted& wanted : kWanted) {
        const auto head = recorded_request(name(wanted.form)).head;
        const auto segments = path_segments(head.path());
        ASSERT_TRUE(segments) << wanted.form;
        ASSERT_EQ(segments->size(), 4U) << wanted.form;
        EXPECT_EQ((*segments)[0], wanted.verb) << wanted.form;
        EXPECT_EQ((*segments)[2], wanted.pod) << wanted.form;
        const Query query(head.query());
        EXPECT_EQ(query.all("command"), wanted.command) << wanted.form;
        const auto streams = decode_command_streams(query);
        ASSERT_TRUE(streams) << wanted.form;
        EXPECT_EQ(streams->in, wanted.in) << wanted.form;
        EXPECT_EQ(streams->out, wanted.out) << wanted.form;
        EXPECT_EQ(streams->err, wanted.err) << wanted.form;
        EXPECT_EQ(streams->tty, wanted.tty) << wanted.form;
    }
}

TEST_P(Golden, Log_options_are_read) {
    const auto head = recorded_request(name("logs")).head;
    EXPECT_THAT(*path_segments(head.path()), ElementsAre("containerLogs", "default", "logs-r", "main"));
    const auto query = decode_log_query(Query(head.query()));
    ASSERT_TRUE(query);
    EXPECT_EQ(query->tail_lines, 1);
    EXPECT_TRUE(query->timestamps);
    EXPECT_FALSE(query->follow);
}

// The Status that the kubelet wrote last on the error stream.
Json last_status(const std::string& frames) {
    const std::size_t begin = frames.rfind(R"({"metadata":{})");
    std::size_t end = begin;
    for (int depth = 0; end < frames.size(); ++end) {
        if (frames[end] == '{') ++depth;
        if (frames[end] == '}' && --depth == 0) break;
    }
    return parse_json(frames.substr(begin, end + 1 - begin), "status").value_or(nullptr);
}

TEST_P(Golden, Last_words_are_the_kubelets) {
    const CommandProtocol v4 = command_protocol("v4.channel.k8s.io");
    const Json success = last_status(recorded_answer(name("exec-stdin-spdy")).rest);
    EXPECT_EQ(command_status(providers::ExitStatus{0}, v4, "executing command in container"),
              dump_json(success));
    Json theirs = last_status(recorded_answer(name("exec-spdy")).rest);
    Json ours =
        *parse_json(command_status(providers::ExitStatus{3}, v4, "executing command in container"), "ours");
    EXPECT_THAT(string_at(theirs, {"message"}),
                testing::StartsWith("command terminated with non-zero exit code: "));
    EXPECT_THAT(string_at(ours, {"message"}),
                testing::StartsWith("command terminated with non-zero exit code: "));
    // The rest of the message is the container runtime's own text.
    theirs.erase("message");
    ours.erase("message");
    EXPECT_EQ(ours, theirs);
}

}  // namespace
}  // namespace k8sgpu::kubelet_api
