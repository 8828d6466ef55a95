#include "kube/internal/curl_loop.h"

namespace k8sgpu::kube {
namespace {

// Commands wake the loop; this is only how long it sleeps when nothing at all happens.
constexpr int kIdlePollMs = 60'000;

}  // namespace

CurlLoop::CurlLoop() {
    ensure_curl();
    multi_ = curl_multi_init();
    thread_ = Thread("kube-io", [this](std::stop_token stop) { loop(std::move(stop)); });
}

CurlLoop::~CurlLoop() {
    stop();
    curl_multi_cleanup(multi_);
}

void CurlLoop::add(std::shared_ptr<Exchange> exchange) {
    post(Verb::Add, std::move(exchange));
}
void CurlLoop::remove(std::shared_ptr<Exchange> exchange) {
    post(Verb::Remove, std::move(exchange));
}
void CurlLoop::resume(std::shared_ptr<Exchange> exchange) {
    post(Verb::Resume, std::move(exchange));
}

void CurlLoop::post(Verb verb, std::shared_ptr<Exchange> exchange) {
    {
        auto inbox = inbox_.lock();
        if (inbox->closed) {
            exchange->cancel();
            return;
        }
        inbox->commands.push_back({verb, std::move(exchange)});
    }
    curl_multi_wakeup(multi_);
}

void CurlLoop::stop() {
    thread_.request_stop();
    curl_multi_wakeup(multi_);
    thread_.join();
}

void CurlLoop::loop(std::stop_token stop) {
    while (!stop.stop_requested()) {
        std::vector<Command> commands;
        std::swap(commands, inbox_.lock()->commands);
        for (const Command& command : commands) obey(command);
        int running = 0;
        curl_multi_perform(multi_, &running);
        collect_finished();
        curl_multi_poll(multi_, nullptr, 0, kIdlePollMs, nullptr);
    }
    std::vector<Command> late;
    {
        auto inbox = inbox_.lock();
        inbox->closed = true;
        std::swap(late, inbox->commands);
    }
    for (const Command& command : late) command.exchange->cancel();
    while (!active_.empty()) {
        const auto exchange = active_.begin()->second;
        drop(exchange->easy());
        exchange->cancel();
    }
}

void CurlLoop::obey(const Command& command) {
    CURL* easy = command.exchange->easy();
    switch (command.verb) {
        case Verb::Add:
            active_[easy] = command.exchange;
            if (curl_multi_add_handle(multi_, easy) != CURLM_OK) {
                active_.erase(easy);
                command.exchange->finish(CURLE_OUT_OF_MEMORY);
            }
            break;
        case Verb::Remove:
            drop(easy);
            break;
        case Verb::Resume:
            if (active_.contains(easy)) command.exchange->resume();
            break;
    }
}

void CurlLoop::collect_finished() {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        const CURLcode code = message->data.result;
        const auto found = active_.find(message->easy_handle);
        if (found == active_.end()) continue;
        const auto exchange = found->second;
        exchange->finish(code);
        drop(exchange->easy());
    }
}

void CurlLoop::drop(CURL* easy) {
    const auto found = active_.find(easy);
    if (found == active_.end()) return;
    curl_multi_remove_handle(multi_, easy);
    active_.erase(found);
}

}  // namespace k8sgpu::kube
