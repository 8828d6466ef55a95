#include "kube/reflector.h"

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

#include "common/log.h"
#include "kube/object.h"
#include "kube/watch_decoder.h"

namespace k8sgpu::kube {
namespace {

constexpr Duration kListTimeout{60'000};
constexpr Duration kOpenTimeout{30'000};
// A watch that ends sooner than this without an event counts as a failure, or a broken server would be asked
// in a loop.
constexpr Duration kHealthyWatch{1'000};

}  // namespace

// The state of one run; belongs to the reflector's thread.
struct Reflector::Impl {
    Reflector& owner;
    std::stop_token stop;
    std::optional<std::string> version;  // nullopt: list first
    Backoff backoff;
    std::minstd_rand random{std::random_device{}()};
    bool failing = false;

    Impl(Reflector& reflector, std::stop_token token)
        : owner(reflector), stop(std::move(token)), backoff(reflector.options_.backoff) {}

    Result<void> list() {
        const auto& options = owner.options_;
        ListOptions query;
        query.field_selector = options.field_selector;
        query.label_selector = options.label_selector;
        query.limit = options.page_size;
        auto listed = owner.client_.list_all(options.resource, options.ns, query,
                                             CallContext::with_timeout(owner.clock_, kListTimeout, stop));
        if (!listed) return fail(listed.error());
        std::vector<ObjectPtr> objects;
        objects.reserve(listed->items.size());
        for (Json& item : listed->items) objects.push_back(std::make_shared<const Json>(std::move(item)));
        version = listed->resource_version;
        recovered();
        owner.handler_.on_listed(std::move(objects));
        owner.synced_ = true;
        return {};
    }

    // Until the server ends the watch in order (success) or it breaks.
    Result<void> watch() {
        const auto& options = owner.options_;
        ListOptions query;
        query.field_selector = options.field_selector;
        query.label_selector = options.label_selector;
        query.resource_version = *version;
        // Spread, so that the watches of many agents do not end together.
        const auto base = options.watch_timeout.count();
        const std::chrono::seconds server_timeout(
            std::uniform_int_distribution<std::int64_t>(base, 2 * base - 1)(random));
        const auto opening = CallContext::with_timeout(owner.clock_, kOpenTimeout, stop);
        auto stream = owner.client_.watch(options.resource, options.ns, query, server_timeout, opening);
        if (!stream) return fail(stream.error());
        recovered();

        // Nothing tells a silent peer from a quiet cluster before the server's own end of the watch has
        // passed.
        const auto ctx = CallContext::with_timeout(owner.clock_, server_timeout + options.stall_margin, stop);
        const SteadyTime opened = owner.clock_.now();
        WatchDecoder decoder;
        std::size_t events = 0;
        while (true) {
            auto chunk = (*stream)->next(ctx);
            if (!chunk) return fail(chunk.error());
            if (chunk->empty()) break;
            decoder.add(*chunk);
            while (true) {
                auto event = decoder.next();
                if (!event) return fail(event.error());
                if (!event->has_value()) break;
                ++events;
                if (auto taken = take(std::move(**event)); !taken) return taken;
            }
        }
        if (events == 0 && owner.clock_.now() - opened < kHealthyWatch) {
            return fail(ErrorKind::Unavailable, "the server ended the watch at once");
        }
        backoff.reset();
        return {};
    }

    Result<void> take(WatchEvent event) {
        if (event.type == WatchEventType::Error) {
            const int code = static_cast<int>(int_at(event.object, {"code"}, 500));
            return fail(error_from_response(std::max(code, 400), {}, dump_json(event.object)));
        }
        const std::string seen = resource_version_of(event.object);
        if (!seen.empty()) version = seen;
        if (event.type == WatchEventType::Bookmark) return {};
        backoff.reset();
        auto object = std::make_shared<const Json>(std::move(event.object));
        if (event.type == WatchEventType::Deleted) {
            owner.handler_.on_deleted(std::move(object));
        } else {
            owner.handler_.on_applied(std::move(object));
        }
        return {};
    }

    void recovered() {
        if (!std::exchange(failing, false)) return;
        owner.handler_.on_recovered();
    }

    void failed(const Error& error) {
        if (stop.stop_requested() || error.kind == ErrorKind::Cancelled) return;
        if (error.kind == ErrorKind::Gone) {
            log().debug("watch {}: version too old, listing again", owner.options_.name);
            version.reset();
            owner.clock_.sleep_for(backoff.next(), stop);
            return;
        }
        failing = true;
        owner.handler_.on_error(error);
        Duration delay = backoff.next();
        if (error.retry_after) delay = std::max(delay, *error.retry_after);
        owner.clock_.sleep_for(delay, stop);
    }
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
    Impl impl(*this, stop);
    while (!stop.stop_requested()) {
        const auto done = impl.version ? impl.watch() : impl.list();
        if (!done) impl.failed(done.error());
    }
}

}  // namespace k8sgpu::kube
