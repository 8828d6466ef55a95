#include "net/relay.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "common/file.h"
#include "common/guarded.h"
#include "net/fd.h"
#include "net/wake.h"

namespace k8sgpu::net {

namespace {

constexpr std::size_t kScratch = 32U << 10U;
// Blocks that a flow may move before the next one has its turn.
constexpr int kTurn = 8;

// What wakes may touch: it outlives the relay as long as a stream still holds one.
struct Inbox {
    explicit Inbox(Fd bell_) : bell(std::move(bell_)) {}

    void wake(Relay::Ticket ticket) {
        {
            auto waiting = tickets.lock();
            waiting->push_back(ticket);
            if (waiting->size() > 1) return;  // the bell has rung
        }
        ring();
    }
    void ring() const {
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto written = ::write(bell.get(), &one, sizeof one);
    }
    std::vector<Relay::Ticket> take() {
        std::uint64_t count = 0;
        [[maybe_unused]] const auto got = ::read(bell.get(), &count, sizeof count);
        return std::exchange(*tickets.lock(), {});
    }

    const Fd bell;
    Guarded<std::vector<Relay::Ticket>> tickets;
};

}  // namespace

class Relay::Impl {
  public:
    Impl() : inbox_(std::make_shared<Inbox>(Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)))) {
        epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
        if (!epoll_.valid() || !inbox_->bell.valid()) return;
        epoll_event event{EPOLLIN, {.u64 = kBell}};
        usable_ = ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, inbox_->bell.get(), &event) == 0;
    }
    ~Impl() {
        const auto flows = state_.lock()->flows;
        for (const auto& [ticket, flow] : flows) drop(ticket);
    }

    Result<Ticket> copy(ByteStream& from, ByteStream& to, Done done);
    void drop(Ticket ticket);
    Result<void> run(const CallContext& ctx, const std::function<bool()>& enough);
    void post(std::function<void()> work) {
        posted_.lock()->push_back(std::move(work));
        inbox_->ring();
    }
    std::size_t flows() const { return state_.lock()->flows.size(); }

  private:
    struct Flow {
        Pollable* from;
        Pollable* to;
        Done done;
        std::string rest{};  // read, and not yet taken by `to`
        std::size_t rest_begin = 0;
        bool source_ended = false;
        bool queued = false;  // in ready_
    };
    using FlowPtr = std::shared_ptr<Flow>;
    // Which flows a descriptor concerns; 0: none.
    struct Watched {
        Ticket reader = 0;
        Ticket writer = 0;
    };
    struct State {
        std::map<Ticket, FlowPtr> flows;
        std::map<int, Watched> descriptors;
        Ticket next = 1;
    };
    static constexpr std::uint64_t kBell = ~0ULL;

    Result<void> watch(State& state, Ticket ticket, Pollable& stream, Ticket Watched::*side);
    void forget(State& state, Pollable& stream, Ticket Watched::*side);
    void queue(Ticket ticket);
    void collect();
    void serve(Ticket ticket);
    // Nothing: the flow rests. An End: it is over. True in `again`: it has had its turn.
    std::optional<End> move(Flow& flow, bool& again);

    const std::shared_ptr<Inbox> inbox_;
    Fd epoll_;
    bool usable_ = false;
    Waker waker_;
    Guarded<State> state_;
    Guarded<std::vector<std::function<void()>>> posted_;

    // run()'s thread only.
    std::deque<Ticket> ready_;
    std::array<char, kScratch> scratch_;
};

Result<Relay::Ticket> Relay::Impl::copy(ByteStream& from, ByteStream& to, Done done) {
    Pollable* source = as_pollable(from);
    Pollable* destination = as_pollable(to);
    if (source == nullptr || destination == nullptr)
        return fail(ErrorKind::Internal, "a stream that can only block cannot be relayed");
    if (!usable_) return fail(ErrorKind::Internal, "no file descriptor left to wait with");
    Ticket ticket = 0;
    {
        auto state = state_.lock();
        ticket = state->next++;
        if (auto ok = watch(*state, ticket, *source, &Watched::reader); !ok) return fail(ok.error());
        if (auto ok = watch(*state, ticket, *destination, &Watched::writer); !ok) {
            forget(*state, *source, &Watched::reader);
            return fail(ok.error());
        }
        state->flows.emplace(ticket, std::make_shared<Flow>(Flow{source, destination, std::move(done)}));
    }
    inbox_->wake(ticket);  // there may be bytes already
    return ticket;
}

Result<void> Relay::Impl::watch(State& state, Ticket ticket, Pollable& stream, Ticket Watched::*side) {
    const int fd = stream.poll_fd();
    if (fd < 0) {
        Wake wake = [inbox = inbox_, ticket] { inbox->wake(ticket); };
        if (side == &Watched::reader) {
            stream.watch_readable(std::move(wake));
        } else {
            stream.watch_writable(std::move(wake));
        }
        return {};
    }
    auto [it, fresh] = state.descriptors.try_emplace(fd);
    it->second.*side = ticket;
    if (!fresh) return {};
    epoll_event event{EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.u64 = static_cast<std::uint64_t>(fd)}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return {};
    const int error_number = errno;
    state.descriptors.erase(it);
    return fail(error_from_errno(error_number, "watching a socket"));
}

void Relay::Impl::forget(State& state, Pollable& stream, Ticket Watched::*side) {
    const int fd = stream.poll_fd();
    if (fd < 0) {
        if (side == &Watched::reader) {
            stream.watch_readable({});
        } else {
            stream.watch_writable({});
        }
        return;
    }
    const auto found = state.descriptors.find(fd);
    if (found == state.descriptors.end()) return;
    found->second.*side = 0;
    if (found->second.reader != 0 || found->second.writer != 0) return;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
    state.descriptors.erase(found);
}

void Relay::Impl::drop(Ticket ticket) {
    FlowPtr flow;  // freed behind the lock
    auto state = state_.lock();
    const auto found = state->flows.find(ticket);
    if (found == state->flows.end()) return;
    flow = std::move(found->second);
    state->flows.erase(found);
    forget(*state, *flow->from, &Watched::reader);
    forget(*state, *flow->to, &Watched::writer);
}

void Relay::Impl::queue(Ticket ticket) {
    if (ticket == 0) return;
    auto state = state_.lock();
    const auto found = state->flows.find(ticket);
    if (found == state->flows.end() || std::exchange(found->second->queued, true)) return;
    ready_.push_back(ticket);
}

// Everything that has become ready since, without waiting.
void Relay::Impl::collect() {
    std::array<epoll_event, 64> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
    for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        if (event.data.u64 == kBell) {
            for (const Ticket ticket : inbox_->take()) queue(ticket);
            const auto work = std::exchange(*posted_.lock(), {});
            for (const auto& one : work) one();
            continue;
        }
        Watched watched;
        {
            auto state = state_.lock();
            const auto found = state->descriptors.find(static_cast<int>(event.data.u64));
            if (found == state->descriptors.end()) continue;
            watched = found->second;
        }
        const auto broken = event.events & (EPOLLERR | EPOLLHUP);
        if ((event.events & (EPOLLIN | EPOLLRDHUP)) != 0 || broken != 0) queue(watched.reader);
        if ((event.events & EPOLLOUT) != 0 || broken != 0) queue(watched.writer);
    }
}

std::optional<Relay::End> Relay::Impl::move(Flow& flow, bool& again) {
    for (int turn = 0; turn < kTurn; ++turn) {
        if (!flow.rest.empty()) {
            const auto taken = flow.to->try_write(std::string_view(flow.rest).substr(flow.rest_begin));
            if (!taken) return End{taken.error(), true};
            flow.rest_begin += *taken;
            if (flow.rest_begin < flow.rest.size()) return std::nullopt;
            flow.rest = {};
            flow.rest_begin = 0;
        }
        if (flow.source_ended) return End{};
        const auto got = flow.from->try_read(scratch_);
        if (!got) return End{got.error(), false};
        if (!got->has_value()) return std::nullopt;
        if (**got == 0) {
            flow.source_ended = true;
            continue;
        }
        const std::string_view block(scratch_.data(), **got);
        const auto taken = flow.to->try_write(block);
        if (!taken) return End{taken.error(), true};
        flow.rest = block.substr(*taken);
    }
    again = true;
    return std::nullopt;
}

void Relay::Impl::serve(Ticket ticket) {
    FlowPtr flow;
    {
        auto state = state_.lock();
        const auto found = state->flows.find(ticket);
        if (found == state->flows.end()) return;  // dropped meanwhile
        flow = found->second;
    }
    flow->queued = false;
    bool again = false;
    const auto end = move(*flow, again);
    if (again) queue(ticket);
    if (!end) return;
    const Done done = std::move(flow->done);
    drop(ticket);
    if (done) done(*end);
}

Result<void> Relay::Impl::run(const CallContext& ctx, const std::function<bool()>& enough) {
    if (!usable_) return fail(ErrorKind::Internal, "no file descriptor left to wait with");
    while (true) {
        collect();
        for (auto count = ready_.size(); count > 0; --count) {
            const Ticket ticket = ready_.front();
            ready_.pop_front();
            serve(ticket);
        }
        if (enough()) return {};
        if (auto alive = ctx.check(); !alive) return alive;
        if (!ready_.empty()) continue;
        if (auto woken = waker_.wait(epoll_.get(), POLLIN, ctx); !woken) return woken;
    }
}

Relay::Relay() : impl_(std::make_unique<Impl>()) {}

Relay::~Relay() = default;

Result<Relay::Ticket> Relay::copy(ByteStream& from, ByteStream& to, Done done) {
    return impl_->copy(from, to, std::move(done));
}

void Relay::drop(Ticket ticket) {
    impl_->drop(ticket);
}

void Relay::post(std::function<void()> work) {
    impl_->post(std::move(work));
}

Result<void> Relay::run(const CallContext& ctx, const std::function<bool()>& enough) {
    return impl_->run(ctx, enough);
}

std::size_t Relay::flows() const {
    return impl_->flows();
}

}  // namespace k8sgpu::net
