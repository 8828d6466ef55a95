// Tells that what lies behind a path may have changed, by looking (stat follows links): a rewritten file, one
// renamed over it, the "..data" link of a mounted Secret or ConfigMap that leads elsewhere now. A change
// counts once two looks in a row see the same, so that a file is not read while it is being written.
//
// Not synchronised; one thread.
#pragma once

#include <string>
#include <vector>

namespace k8sgpu::vnode {

class FileWatch {
  public:
    // The state at construction is the known one: construct it before the files are read.
    explicit FileWatch(std::vector<std::string> paths);

    // True once for each settled change since.
    bool changed();

  private:
    std::string stamps() const;

    std::vector<std::string> paths_;
    std::string known_;
    std::string last_seen_;
};

}  // namespace k8sgpu::vnode
