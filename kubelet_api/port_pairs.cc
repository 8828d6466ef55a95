#include "kubelet_api/port_pairs.h"

#include <fmt/format.h>

#include <charconv>

namespace k8sgpu::kubelet_api {

namespace {

std::string header(const net::MuxStream& stream, const char* name) {
    const auto found = stream.headers().find(name);
    return found == stream.headers().end() ? "" : found->second;
}

}  // namespace

std::optional<std::uint16_t> parse_port(std::string_view text) {
    std::uint16_t port = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (status != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
    return port;
}

PortPairs::Added PortPairs::add(std::shared_ptr<net::MuxStream> stream, SteadyTime now) {
    const std::string type = header(*stream, "streamtype");
    const std::string port_text = header(*stream, "port");
    const auto port = parse_port(port_text);
    if (type != "error" && type != "data")
        return {std::nullopt, fmt::format("invalid stream type \"{}\"", type)};
    if (!port) return {std::nullopt, fmt::format("unable to parse \"{}\" as a port", port_text)};

    std::string id = header(*stream, "requestid");
    if (id.empty())
        id = std::to_string(type == "error" || stream->id() < 2 ? stream->id() : stream->id() - 2);
    auto [it, fresh] = waiting_.try_emplace(id);
    PortPair& pair = it->second;
    if (fresh) pair = {id, *port, nullptr, nullptr, now + patience_};
    auto& half = type == "data" ? pair.data : pair.error;
    if (half) {
        return {std::nullopt,
                fmt::format("error processing stream for request {}: {} stream already assigned", id, type)};
    }
    half = std::move(stream);
    if (type == "data") pair.port = *port;
    if (!pair.data || !pair.error) return {};
    Added added{std::move(pair), ""};
    waiting_.erase(it);
    return added;
}

std::vector<PortPair> PortPairs::take_expired(SteadyTime now) {
    std::vector<PortPair> out;
    for (auto it = waiting_.begin(); it != waiting_.end();) {
        if (it->second.deadline > now) {
            ++it;
            continue;
        }
        out.push_back(std::move(it->second));
        it = waiting_.erase(it);
    }
    return out;
}

std::vector<PortPair> PortPairs::take_all() {
    return take_expired(SteadyTime::max());
}

SteadyTime PortPairs::next_deadline() const {
    SteadyTime next = SteadyTime::max();
    for (const auto& [id, pair] : waiting_) next = std::min(next, pair.deadline);
    return next;
}

}  // namespace k8sgpu::kubelet_api
