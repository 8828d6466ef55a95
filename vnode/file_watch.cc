#include "vnode/file_watch.h"

#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>

namespace k8sgpu::vnode {

FileWatch::FileWatch(std::vector<std::string> paths)
    : paths_(std::move(paths)), known_(stamps()), last_seen_(known_) {}

bool FileWatch::changed() {
    std::string now = stamps();
    const bool settled = now == last_seen_;
    last_seen_ = now;
    if (!settled || now == known_) return false;
    known_ = std::move(now);
    return true;
}

std::string FileWatch::stamps() const {
    std::string all;
    for (const std::string& path : paths_) {
        struct stat info {};
        if (::stat(path.c_str(), &info) != 0) {
            all += "absent;";
            continue;
        }
        // The change time as well: it moves with chmod, and a file that others may write is refused.
        all +=
            fmt::format("{}:{}:{}:{}.{}:{}.{};", info.st_dev, info.st_ino, info.st_size, info.st_mtim.tv_sec,
                        info.st_mtim.tv_nsec, info.st_ctim.tv_sec, info.st_ctim.tv_nsec);
    }
    return all;
}

}  // namespace k8sgpu::vnode
