// An OpenSSL BIO over a socket that never raises SIGPIPE, which OpenSSL's own one does. Internal to net/.
#pragma once

#include "net/openssl_ptr.h"

namespace k8sgpu::net::internal {

// Does not own `fd`. Null when out of memory.
BioPtr make_socket_bio(int fd);

}  // namespace k8sgpu::net::internal
