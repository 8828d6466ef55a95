#include "net/pump.h"

#include <array>
#include <optional>

#include "common/thread.h"

namespace k8sgpu::net {

Result<std::uint64_t> pump_one_way(ByteStream& from, ByteStream& to, const CallContext& ctx) {
    std::array<char, 32U << 10U> buffer;
    std::uint64_t total = 0;
    while (true) {
        auto got = from.read(buffer, ctx);
        if (!got) return fail(got.error());
        if (*got == 0) break;
        if (auto ok = to.write({buffer.data(), *got}, ctx); !ok) return fail(ok.error());
        total += *got;
    }
    if (auto ok = to.shut_write(); !ok) return fail(ok.error());
    return total;
}

Result<void> pump_both_ways(ByteStream& first, ByteStream& second, const CallContext& ctx, PumpUntil until) {
    std::stop_source stop;
    const std::stop_callback follow(ctx.stop(), [&stop] { stop.request_stop(); });
    const auto inner = ctx.with_stop(stop.get_token());

    std::optional<Error> forth_error;
    Thread forth("pump", [&](const std::stop_token&) {
        auto copied = pump_one_way(first, second, inner);
        if (copied) return;
        // Ours only when the stop came before the error did.
        if (copied.error().kind == ErrorKind::Cancelled && stop.stop_requested()) return;
        forth_error = copied.error();
        stop.request_stop();
    });
    const auto back = pump_one_way(second, first, inner);
    const bool stopped_by_forth = stop.stop_requested();
    if (!back || until == PumpUntil::SecondEnded) stop.request_stop();
    forth.join();

    if (ctx.stop().stop_requested()) return fail(ErrorKind::Cancelled, "stopped");
    if (!back && !(stopped_by_forth && back.error().kind == ErrorKind::Cancelled)) return fail(back.error());
    if (forth_error) return fail(*forth_error);
    return {};
}

}  // namespace k8sgpu::net
