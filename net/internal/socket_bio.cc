#include "net/internal/socket_bio.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstdint>

namespace k8sgpu::net::internal {

namespace {

int fd_of(BIO* bio) {
    return static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio)));
}

bool should_retry() {
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

int write_some(BIO* bio, const char* data, std::size_t size, std::size_t* written) {
    BIO_clear_retry_flags(bio);
    const auto sent = ::send(fd_of(bio), data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
        if (should_retry()) BIO_set_retry_write(bio);
        return 0;
    }
    *written = static_cast<std::size_t>(sent);
    return 1;
}

int read_some(BIO* bio, char* data, std::size_t size, std::size_t* read) {
    BIO_clear_retry_flags(bio);
    BIO_clear_flags(bio, BIO_FLAGS_IN_EOF);
    const auto got = ::recv(fd_of(bio), data, size, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0) {
            BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
        } else if (should_retry()) {
            BIO_set_retry_read(bio);
        }
        return 0;
    }
    *read = static_cast<std::size_t>(got);
    return 1;
}

long control(BIO* bio, int command, long, void*) {
    switch (command) {
        case BIO_CTRL_FLUSH:
            return 1;
        case BIO_CTRL_EOF:
            return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
        default:
            return 0;
    }
}

const BIO_METHOD* method() {
    static const BIO_METHOD* const made = [] {
        BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket without SIGPIPE");
        if (m != nullptr) {
            BIO_meth_set_write_ex(m, write_some);
            BIO_meth_set_read_ex(m, read_some);
            BIO_meth_set_ctrl(m, control);
        }
        return m;
    }();
    return made;
}

}  // namespace

BioPtr make_socket_bio(int fd) {
    BioPtr bio(method() != nullptr ? BIO_new(method()) : nullptr);
    if (bio) {
        BIO_set_data(bio.get(), reinterpret_cast<void*>(static_cast<std::intptr_t>(fd)));
        BIO_set_init(bio.get(), 1);
    }
    return bio;
}

}  // namespace k8sgpu::net::internal
