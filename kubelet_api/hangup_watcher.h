// Notices that a client has left while its connection thread is busy elsewhere, for example waiting for the
// next line of a followed log. One thread, "api-watch", polls all watched sockets for the peer's FIN or RST;
// HTTP/1.1 clients do not half-close and read on, and Go's server takes it the same way.
//
// The same thread does small things later: after().
//
// watch() and after() from any thread; the returned guard ends the watch and must go before the descriptor is
// closed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stop_token>

#include "common/clock.h"
#include "common/guarded.h"
#include "common/thread.h"
#include "net/fd.h"

namespace k8sgpu::kubelet_api {

class HangupWatcher {
  public:
    class Guard {
      public:
        Guard(HangupWatcher& owner, std::uint64_t id) : owner_(owner), id_(id) {}
        ~Guard() { owner_.forget(id_); }
        Guard(const Guard&) = delete;
        Guard& operator=(const Guard&) = delete;

      private:
        HangupWatcher& owner_;
        std::uint64_t id_;
    };

    explicit HangupWatcher(Clock& clock);
    ~HangupWatcher() { stop(); }
    void start();
    void stop();

    // `left` is asked to stop, on the thread "api-watch", once the peer is gone.
    std::unique_ptr<Guard> watch(int fd, std::stop_source left);

    // Calls `work` on the thread "api-watch" when the time has passed; not at all when the watcher stops
    // before. `work` must not block.
    void after(Duration delay, std::function<void()> work);

  private:
    struct Watched {
        int fd;
        std::stop_source left;
    };
    struct State {
        std::map<std::uint64_t, Watched> watched;
        std::multimap<SteadyTime, std::function<void()>> later;
        std::uint64_t next_id = 1;
    };
    int do_what_is_due();  // milliseconds until the next; -1: none
    void run(std::stop_token stop);
    void forget(std::uint64_t id);
    void wake() const;

    Clock& clock_;
    net::Fd event_;
    Guarded<State> state_;
    Thread thread_;
};

}  // namespace k8sgpu::kubelet_api
