// Small files: reading with a size limit, replacing atomically, and refusing what others could have tampered
// with. Pure shells over the file system; any thread. Errors: NotFound, Forbidden (permissions), Invalid (too
// large, not a regular file, untrusted), Internal.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "common/result.h"

namespace k8sgpu {

Result<std::string> read_file(const std::string& path, std::size_t max_bytes = 16U << 20U);

// As read_file, for files that hold credentials: refused when group or others may write it, or when it
// belongs to a user who is neither root nor us. Kubernetes' own secret mounts pass (root, 0644 or less,
// reached by a link).
Result<std::string> read_trusted_file(const std::string& path, std::size_t max_bytes = 16U << 20U);

// Writes to a temporary file beside `path`, syncs and renames, so that a crash leaves the old or the new
// content.
Result<void> replace_file(const std::string& path, std::string_view content, mode_t mode);

// Creates the directory and its parents (0700 unless told otherwise); fine when it is there already.
Result<void> ensure_directory(const std::string& path, mode_t mode = 0700);

// Turns errno into an Error: ENOENT → NotFound, EACCES/EPERM → Forbidden, else Internal.
Error error_from_errno(int error_number, std::string_view doing);

}  // namespace k8sgpu
