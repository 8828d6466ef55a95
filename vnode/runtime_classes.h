// Follows the RuntimeClasses of the local cluster and tells which of them are ours: a pod of a DaemonSet is
// forwarded only when it asks for one of these. Ours carry the label k8s.gpu (K8sGPU's contract) or lead to
// nodes labelled k8s.gpu/provider by their scheduling.nodeSelector. Called on the reflector's thread.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "kube/object.h"
#include "kube/reflector.h"

namespace k8sgpu::vnode {

class RuntimeClasses final : public kube::ReflectorHandler {
  public:
    using Listener = std::function<void(const std::set<std::string>& names)>;

    RuntimeClasses(kube::ApiClient& client, Clock& clock, Listener listener)
        : listener_(std::move(listener)), watch_(client, clock, options(), *this) {}

    void start() { watch_.start(); }
    void stop() { watch_.stop(); }

    static bool is_ours(const Json& runtime_class) {
        return object_at(runtime_class, {"metadata", "labels"}).contains("k8s.gpu") ||
               object_at(runtime_class, {"scheduling", "nodeSelector"}).contains("k8s.gpu/provider");
    }

    void on_listed(std::vector<kube::ObjectPtr> objects) override {
        names_.clear();
        for (const auto& object : objects) {
            if (is_ours(*object)) names_.insert(kube::name_of(*object));
        }
        listener_(names_);
    }
    void on_applied(kube::ObjectPtr object) override {
        const bool changed = is_ours(*object) ? names_.insert(kube::name_of(*object)).second
                                              : names_.erase(kube::name_of(*object)) > 0;
        if (changed) listener_(names_);
    }
    void on_deleted(kube::ObjectPtr object) override {
        if (names_.erase(kube::name_of(*object)) > 0) listener_(names_);
    }

  private:
    static kube::ReflectorOptions options() {
        kube::ReflectorOptions options;
        options.name = "classes";
        options.resource = kube::resources::kRuntimeClasses;
        return options;
    }

    Listener listener_;
    std::set<std::string> names_;  // of the reflector's thread
    kube::Reflector watch_;
};

}  // namespace k8sgpu::vnode
