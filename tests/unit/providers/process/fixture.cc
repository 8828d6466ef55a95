#include "fixture.h"

#include <fmt/format.h>
#include <unistd.h>

#include <thread>

#include "common/file.h"
#include "providers/process/process_table.h"

namespace k8sgpu::providers::process {

bool eventually(const std::function<bool()>& pred, Duration patience) {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (!pred()) {
        if (std::chrono::steady_clock::now() > until) return false;
        std::this_thread::sleep_for(Duration(5));
    }
    return true;
}

void FakeObserver::on_pod_changed(const ObservedPod& pod) {
    seen_.lock()->pods[pod.id.uid] = pod;
}
void FakeObserver::on_pod_event(const PodId& pod, const std::string& type, const std::string& reason,
                                const std::string& message) {
    seen_.lock()->events.emplace_back(pod.uid, fmt::format("{} {} {}", type, reason, message));
}
std::optional<ObservedPod> FakeObserver::latest(const std::string& uid) const {
    auto seen = seen_.lock();
    const auto found = seen->pods.find(uid);
    return found == seen->pods.end() ? std::nullopt : std::optional(found->second);
}
bool FakeObserver::has_event(const std::string& uid, const std::string& text) const {
    auto seen = seen_.lock();
    for (const auto& [pod, event] : seen->events) {
        if (pod == uid && event.find(text) != std::string::npos) return true;
    }
    return false;
}

Result<Json> FakeObjects::fetch(LocalKind kind, const std::string&, const std::string& name,
                                const CallContext&) {
    auto objects = objects_.lock();
    const auto found = objects->find({kind, name});
    if (found == objects->end()) return fail(ErrorKind::NotFound, "gone");
    return found->second;
}
void FakeObjects::put(LocalKind kind, const std::string& name, Json data) {
    (*objects_.lock())[{kind, name}] = {{"data", std::move(data)}};
}

Result<void> StringSink::begin() {
    begun_ = true;
    return {};
}
Result<void> StringSink::write(std::string_view bytes) {
    text_.lock()->append(bytes);
    return {};
}

void ProviderTest::SetUp() {
    std::string name = "/tmp/k8sgpu-process-test.XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    state_ = name;
    std::filesystem::permissions(state_, std::filesystem::perms(0711));
    options_.state_directory = state_;
    options_.node = {"k8s.gpu", {"10.0.0.7"}, {}};
    options_.limits.backoff_initial = Duration(50);
    options_.limits.backoff_cap = Duration(200);
    restart_provider();
}

void ProviderTest::restart_provider() {
    provider_.reset();
    observer_ = std::make_unique<FakeObserver>();
    provider_ = std::make_unique<ProcessProvider>(options_, clock_, objects_);
    const auto started = provider_->start(*observer_);
    ASSERT_TRUE(started) << started.error().message;
}

void ProviderTest::TearDown() {
    for (const DesiredPod& desired : pods_) {
        EXPECT_TRUE(eventually([&] {
            (void)provider_->remove(desired.id, std::chrono::seconds(0), context());
            const auto observed = provider_->observe(desired.id, context());
            return observed && observed->gone;
        })) << desired.id.uid;
        EXPECT_TRUE(eventually([&] { return living(desired).empty(); })) << "something outlived the pod";
    }
    provider_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(state_, ignored);
}

DesiredPod ProviderTest::pod(const std::string& script) {
    DesiredPod desired;
    desired.id = {"ns", "p", fmt::format("uid-{}-{}", ::getpid(), count_++)};
    desired.pod = {
        {"metadata", {{"name", "p"}, {"namespace", "ns"}, {"uid", desired.id.uid}}},
        {"spec",
         {{"restartPolicy", "Never"},
          {"containers", {{{"name", "c"}, {"image", "img"}, {"command", {"sh", "-c", script}}}}}}}};
    pods_.push_back(desired);
    return desired;
}

CallContext ProviderTest::context(Duration timeout) const {
    return CallContext::with_timeout(clock_, timeout, stop_.get_token());
}

void ProviderTest::run(const DesiredPod& desired) {
    const auto outcome = provider_->ensure(desired, context());
    ASSERT_TRUE(outcome) << outcome.error().message;
    if (const auto* refused = std::get_if<Refused>(&*outcome)) FAIL() << refused->message;
    if (const auto* blocked = std::get_if<Blocked>(&*outcome)) FAIL() << blocked->waiting_message;
}

ObservedPod ProviderTest::observe(const DesiredPod& desired) {
    auto observed = provider_->observe(desired.id, context());
    EXPECT_TRUE(observed) << observed.error().message;
    return observed ? *observed : ObservedPod{};
}

Json ProviderTest::container(const DesiredPod& desired, const std::string& name) {
    const ObservedPod observed = observe(desired);
    for (const char* list : {"initContainerStatuses", "containerStatuses"}) {
        for (const Json& status : array_at(observed.status, {list})) {
            if (string_at(status, {"name"}) == name) return status;
        }
    }
    return {};
}

std::string ProviderTest::phase(const DesiredPod& desired) {
    return string_at(observe(desired).status, {"phase"});
}
bool ProviderTest::wait_running(const DesiredPod& desired) {
    return eventually([&] { return at(container(desired), {"state", "running"}).is_object(); });
}
bool ProviderTest::wait_ended(const DesiredPod& desired) {
    return eventually([&] { return !observe(desired).may_be_running; });
}

std::string ProviderTest::log_of(const DesiredPod& desired, const std::function<void(LogRequest&)>& change) {
    LogRequest request;
    request.pod = desired.id;
    request.container = "c";
    if (change) change(request);
    StringSink sink;
    const auto done = provider_->logs(request, sink, context());
    if (!done) return "error: " + done.error().message;
    EXPECT_TRUE(sink.begun());
    return sink.text();
}

std::string ProviderTest::read(const std::string& path) const {
    auto text = read_file(path);
    return text ? *text : "";
}

pid_t ProviderTest::shim_pid(const DesiredPod& desired) const {
    const auto json = parse_json(read(paths(desired).shim()), "shim.json");
    return json ? static_cast<pid_t>(int_at(*json, {"pid"})) : -1;
}

std::set<pid_t> ProviderTest::living(const DesiredPod& desired) const {
    return marked(read_process_table(), desired.id.uid, "");
}

}  // namespace k8sgpu::providers::process
