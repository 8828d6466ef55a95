#include "net/memory_stream.h"

namespace k8sgpu::net {

namespace {

Error peer_gone() {
    return Error{ErrorKind::Unavailable, "peer closed the connection", {}, {}};
}

}  // namespace

MemoryStream::MemoryStream(std::shared_ptr<BytePipe> in, std::shared_ptr<BytePipe> out)
    : in_(std::move(in)), out_(std::move(out)) {}

MemoryStream::~MemoryStream() {
    out_->end();
    in_->break_with(peer_gone());
}

Result<std::size_t> MemoryStream::read(std::span<char> buffer, const CallContext& ctx) {
    return in_->read(buffer, ctx);
}

Result<void> MemoryStream::write(std::string_view bytes, const CallContext& ctx) {
    return out_->write(bytes, ctx);
}

Result<void> MemoryStream::shut_write() {
    out_->end();
    return {};
}

void MemoryStream::cancel() {
    in_->cancel_reader();
    out_->cancel_writer();
}

bool MemoryStream::peer_hung_up() const {
    return in_->ended();
}

void MemoryStream::break_connection() {
    in_->break_with(peer_gone());
    out_->break_with(peer_gone());
}

MemoryPair make_memory_pair(std::size_t capacity) {
    auto forth = std::make_shared<BytePipe>(capacity);
    auto back = std::make_shared<BytePipe>(capacity);
    return {std::make_unique<MemoryStream>(back, forth), std::make_unique<MemoryStream>(forth, back)};
}

}  // namespace k8sgpu::net
