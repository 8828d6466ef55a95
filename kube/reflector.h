// Keeps a handler informed of all objects that match a selector: list in pages, watch with bookmarks, resume
// from the last version when the server ends the watch, list again after 410, cut a watch that stalls, back
// off with jitter.
//
//   Empty ──list──▶ Listed(rv) ──watch──▶ Watching(rv) ──ended, dropped──▶ Listed(rv)
//     ▲                                        └────── 410 Gone ─────────────┐
//     └───────────────────────────────────────────────────────────────────────┘
//
// The owner constructs it, start()s it once and stop()s it (or destroys it) before the handler goes. It owns
// one thread, "watch-<name>", on which every handler method is called, one at a time.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "common/backoff.h"
#include "common/clock.h"
#include "common/thread.h"
#include "kube/api_client.h"

namespace k8sgpu::kube {

using ObjectPtr = std::shared_ptr<const Json>;

class ReflectorHandler {
  public:
    virtual ~ReflectorHandler() = default;
    // A complete, consistent list: whatever is not in it does not exist any more.
    virtual void on_listed(std::vector<ObjectPtr> objects) = 0;
    virtual void on_applied(ObjectPtr object) = 0;  // added or modified
    virtual void on_deleted(ObjectPtr object) = 0;  // its last state
    // A failed list or watch, before the back-off; Gone and orderly ends are not reported. Repeats while it
    // lasts.
    virtual void on_error(const Error& error) { (void)error; }
    // The first success after an error.
    virtual void on_recovered() {}
};

struct ReflectorOptions {
    std::string name;  // thread name suffix and log prefix: "pods"
    Resource resource;
    std::string ns;  // "" = all namespaces
    std::string field_selector;
    std::string label_selector;
    std::int64_t page_size = 500;
    std::chrono::seconds watch_timeout{300};  // asked of the server, drawn from [t, 2t)
    std::chrono::seconds stall_margin{30};    // a silent watch is cut this long after its server-side end
    // API servers send a bookmark about once a minute. A watch that had one and then says nothing for this
    // long is cut too: behind a load balancer a dead path still answers keep-alives.
    std::chrono::seconds bookmark_silence{180};
    BackoffPolicy backoff{Duration(200), Duration(30'000), 2.0, 0.2};
};

class Reflector {
  public:
    Reflector(ApiClient& client, Clock& clock, ReflectorOptions options, ReflectorHandler& handler);
    ~Reflector();

    void start();
    void stop();  // idempotent; joins

    // True once the first complete list was delivered.
    bool synced() const { return synced_; }

  private:
    struct Impl;
    void run(std::stop_token stop);

    ApiClient& client_;
    Clock& clock_;
    ReflectorOptions options_;
    ReflectorHandler& handler_;
    std::atomic<bool> synced_{false};
    Thread thread_;
};

}  // namespace k8sgpu::kube
