#include "kube/reflector.h"

#include <algorithm>
#include <random>

#include "common/log.h"
#include "kube/object.h"
#include "kube/watch_decoder.h"

namespace k8sgpu::kube {
namespace {

using namespace std::chrono_literals;

constexpr Duration kListTimeout = 120s;
constexpr Duration kOpenTimeout = 60s;
// A watch that lived this long worked, even if nothing happened in it.
constexpr Duration kHealthyLife = 5s;

// Resuming from the same version would fail in the same way. A Timeout that the server itself reports is "too
// large resource version": etcd was restored from an older backup.
bool needs_list(const Error& error) {
    switch (error.kind) {
        case ErrorKind::Gone:
        case ErrorKind::Invalid:
        case ErrorKind::Protocol:
        case ErrorKind::NotFound:
            return true;
        case ErrorKind::Timeout:
            return error.http_status.has_value();
        default:
            return false;
    }
}

Error error_of_event(const Json& status) {
    const auto code = static_cast<int>(std::clamp<std::int64_t>(int_at(status, {"code"}, 500), 400, 599));
    return error_from_response(code, {}, dump_json(status));
}

}  // namespace

// The loop's own state; lives on the reflector's thread.
struct Reflector::Impl {
    // How a watch ended. Without an error it was the server, in order.
    struct Ending {
        std::optional<Error> error;
        bool opened = false;
        bool progressed = false;  // at least one event
        Duration lasted{};
        bool healthy() const { return progressed || lasted >= kHealthyLife; }
    };

    Impl(Reflector& reflector, std::stop_token stop_token)
        : self(reflector),
          stop(std::move(stop_token)),
          backoff(reflector.options_.backoff),
          page_size(reflector.options_.page_size) {}

    void run() {
        while (!stop.stop_requested()) {
            if (version.empty()) {
                if (auto listed = list(); !listed) {
                    if (listed.error().kind != ErrorKind::Gone) {
                        failed(listed.error());
                    } else {
                        page_size = 0;  // expired between two pages: the next list in one piece
                        pause(std::nullopt);
                    }
                    continue;
                }
                page_size = self.options_.page_size;
            }
            const Ending ending = watch();
            if (stop.stop_requested()) return;
            settle(ending);
        }
    }

    Result<void> list() {
        ListOptions options;
        options.field_selector = self.options_.field_selector;
        options.label_selector = self.options_.label_selector;
        // No resource version: a consistent read. The server's cache ("0") may be older than what we have
        // already seen, and a pod that seems to be gone is a pod that gets removed.
        options.limit = page_size;
        auto result = self.client_.list_all(self.options_.resource, self.options_.ns, options,
                                            CallContext::with_timeout(self.clock_, kListTimeout, stop));
        if (!result) return fail(result.error().with_context("listing " + self.options_.name));
        std::vector<ObjectPtr> objects;
        objects.reserve(result->items.size());
        for (Json& item : result->items) objects.push_back(std::make_shared<const Json>(std::move(item)));
        version = result->resource_version;
        list_unproven = true;
        succeeded();
        self.handler_.on_listed(std::move(objects));
        self.synced_ = true;
        return {};
    }

    Ending watch() {
        Ending ending;
        const std::chrono::seconds timeout = self.options_.watch_timeout;
        std::uniform_int_distribution<std::int64_t> spread(0, std::max<std::int64_t>(0, timeout.count() - 1));
        const std::chrono::seconds server_timeout = timeout + std::chrono::seconds(spread(random));
        ListOptions options;
        options.field_selector = self.options_.field_selector;
        options.label_selector = self.options_.label_selector;
        options.resource_version = version;
        auto stream = self.client_.watch(self.options_.resource, self.options_.ns, options, server_timeout,
                                         CallContext::with_timeout(self.clock_, kOpenTimeout, stop));
        if (!stream) {
            ending.error = stream.error().with_context("watching " + self.options_.name);
            return ending;
        }
        ending.opened = true;
        succeeded();
        const SteadyTime opened_at = self.clock_.now();
        const SteadyTime server_end = opened_at + server_timeout + self.options_.stall_margin;
        WatchDecoder decoder;
        std::vector<WatchEvent> events;
        bool bookmarks = false;
        while (!ending.error) {
            const SteadyTime quiet = self.clock_.now() + self.options_.bookmark_silence;
            const SteadyTime until = bookmarks ? std::min(server_end, quiet) : server_end;
            auto chunk = (*stream)->next(CallContext(self.clock_, until, stop));
            if (!chunk) ending.error = chunk.error();
            if (!chunk || chunk->empty()) break;
            events.clear();
            if (auto fed = decoder.feed(*chunk, events); !fed) ending.error = fed.error();
            for (WatchEvent& event : events) {
                bookmarks = bookmarks || event.type == WatchEvent::Type::Bookmark;
                if (auto applied = apply(std::move(event)); !applied) {
                    ending.error = applied.error();
                    break;
                }
                ending.progressed = true;
            }
        }
        ending.lasted = std::chrono::duration_cast<Duration>(self.clock_.now() - opened_at);
        return ending;
    }

    Result<void> apply(WatchEvent event) {
        if (event.type == WatchEvent::Type::Error) return fail(error_of_event(event.object));
        std::string seen = resource_version_of(event.object);
        if (seen.empty()) return fail(ErrorKind::Protocol, "a watch event has no resourceVersion");
        if (event.type != WatchEvent::Type::Bookmark) {
            auto object = std::make_shared<const Json>(std::move(event.object));
            if (event.type == WatchEvent::Type::Deleted) {
                self.handler_.on_deleted(std::move(object));
            } else {
                self.handler_.on_applied(std::move(object));
            }
        }
        version = std::move(seen);
        return {};
    }

    // Decides between resuming at once, resuming later, and listing again.
    void settle(const Ending& ending) {
        if (ending.healthy()) {
            backoff.reset();
            list_unproven = false;
        }
        if (!ending.error) {
            if (!ending.healthy()) pause(std::nullopt);
            return;
        }
        const Error& error = *ending.error;
        if (needs_list(error)) version.clear();
        if (error.kind == ErrorKind::Gone) {
            log().debug("watch {}: {}; listing again", self.options_.name, error.message);
            // At once, however long the pauses have grown while the server was away; but not in a circle.
            if (!ending.healthy() && list_unproven) pause(error.retry_after);
            return;
        }
        const bool merely_cut = ending.opened && !error.http_status && error.kind != ErrorKind::Protocol;
        if (!merely_cut) return failed(error);
        log().debug("watch {} ended early: {}", self.options_.name, error.message);
        if (!ending.healthy()) pause(std::nullopt);
    }

    void failed(const Error& error) {
        if (stop.stop_requested()) return;
        failing = true;
        log().debug("{} (attempt {})", error.message, backoff.attempts() + 1);
        self.handler_.on_error(error);
        pause(error.retry_after);
    }

    void succeeded() {
        if (!failing) return;
        failing = false;
        self.handler_.on_recovered();
    }

    void pause(std::optional<Duration> at_least) {
        const Duration wait = std::max(backoff.next(), at_least.value_or(Duration::zero()));
        self.clock_.sleep_for(wait, stop);
    }

    Reflector& self;
    std::stop_token stop;
    std::string version;  // empty: nothing listed yet, or what we had is too old
    Backoff backoff;
    std::int64_t page_size;
    bool failing = false;
    bool list_unproven = false;  // no healthy watch since the last list
    std::minstd_rand random{std::random_device{}()};
};

Reflector::Reflector(ApiClient& client, Clock& clock, ReflectorOptions options, ReflectorHandler& handler)
    : client_(client), clock_(clock), options_(std::move(options)), handler_(handler) {}

Reflector::~Reflector() {
    stop();
}

void Reflector::start() {
    thread_ = Thread("watch-" + options_.name, [this](std::stop_token stop) { run(std::move(stop)); });
}

void Reflector::stop() {
    thread_.stop();
}

void Reflector::run(std::stop_token stop) {
    Impl(*this, std::move(stop)).run();
}

}  // namespace k8sgpu::kube
