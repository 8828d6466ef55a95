#include "kubelet_api/hangup_watcher.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "common/log.h"

namespace k8sgpu::kubelet_api {

HangupWatcher::HangupWatcher(Clock& clock) : clock_(clock), event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

void HangupWatcher::start() {
    thread_ = Thread("api-watch", [this](std::stop_token stop) { run(std::move(stop)); });
}

void HangupWatcher::stop() {
    thread_.request_stop();
    wake();
    thread_.join();
}

std::unique_ptr<HangupWatcher::Guard> HangupWatcher::watch(int fd, std::stop_source left) {
    std::uint64_t id = 0;
    {
        auto state = state_.lock();
        id = state->next_id++;
        state->watched.emplace(id, Watched{fd, std::move(left)});
    }
    wake();
    return std::make_unique<Guard>(*this, id);
}

void HangupWatcher::after(Duration delay, std::function<void()> work) {
    state_.lock()->later.emplace(clock_.now() + delay, std::move(work));
    wake();
}

int HangupWatcher::do_what_is_due() {
    while (true) {
        std::function<void()> work;
        {
            auto state = state_.lock();
            if (state->later.empty()) return -1;
            const auto next = state->later.begin();
            const auto left = std::chrono::ceil<Duration>(next->first - clock_.now());
            if (left > Duration::zero()) return static_cast<int>(std::min(left, Duration(60'000)).count());
            work = std::move(next->second);
            state->later.erase(next);
        }
        work();
    }
}

void HangupWatcher::forget(std::uint64_t id) {
    state_.lock()->watched.erase(id);
    wake();
}

void HangupWatcher::wake() const {
    const std::uint64_t one = 1;
    if (::write(event_.get(), &one, sizeof one) < 0 && errno != EAGAIN)
        log().error("api-watch: waking up: {}", errno);
}

void HangupWatcher::run(std::stop_token stop) {
    std::vector<pollfd> polled;
    std::vector<std::uint64_t> ids;
    while (!stop.stop_requested()) {
        polled.assign(1, pollfd{event_.get(), POLLIN, 0});
        ids.assign(1, 0);
        {
            auto state = state_.lock();  // named: in a range-for it would be released before the first turn
            for (const auto& [id, watched] : state->watched) {
                polled.push_back({watched.fd, POLLRDHUP, 0});
                ids.push_back(id);
            }
        }
        if (::poll(polled.data(), polled.size(), do_what_is_due()) < 0 && errno != EINTR) {
            log().error("api-watch: poll: {}", errno);
            return;
        }
        std::uint64_t drained = 0;
        if (polled[0].revents != 0) (void)!::read(event_.get(), &drained, sizeof drained);
        for (std::size_t i = 1; i < polled.size(); ++i) {
            if (polled[i].revents == 0) continue;
            std::optional<std::stop_source> left;
            {
                auto state = state_.lock();
                const auto found = state->watched.find(ids[i]);
                if (found == state->watched.end()) continue;
                left = found->second.left;
                state->watched.erase(found);
            }
            left->request_stop();
        }
    }
}

}  // namespace k8sgpu::kubelet_api
