// Events of our remote pods, handed on for the local pods: why a pod cannot be scheduled there, which image
// could not be pulled, which probe failed.
//
// The handler of one watch on the tenant namespace's Events; its methods run on that watch's thread. Events
// that were there when the agent started are taken as told. Where the Role does not allow reading Events,
// that is said once and everything else works on.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "common/pod_id.h"
#include "kube/reflector.h"

namespace k8sgpu::providers::kubernetes {

class RemoteEvents final : public kube::ReflectorHandler {
  public:
    // Whose pod it is, by the remote pod's name.
    using OwnerOf = std::function<std::optional<PodId>(const std::string& remote_name)>;
    using Report = std::function<void(const PodId& pod, const std::string& type, const std::string& reason,
                                      const std::string& message)>;

    RemoteEvents(std::string remote_namespace, OwnerOf owner_of, Report report)
        : namespace_(std::move(remote_namespace)),
          owner_of_(std::move(owner_of)),
          report_(std::move(report)) {}

    void on_listed(std::vector<kube::ObjectPtr> objects) override;
    void on_applied(kube::ObjectPtr object) override;
    void on_deleted(kube::ObjectPtr object) override;
    void on_error(const Error& error) override;

  private:
    void tell(const Json& event);

    const std::string namespace_;
    const OwnerOf owner_of_;
    const Report report_;
    std::map<std::string, std::int64_t> told_;  // by Event UID: how often it had happened when last told
    bool listed_ = false;
    bool complained_ = false;
};

}  // namespace k8sgpu::providers::kubernetes
