// PodLookup for the kubelet API over the pods of one executor. Any thread; never blocks on the network.
#pragma once

#include "kube/object.h"
#include "kubelet_api/pod_lookup.h"
#include "vnode/pod_executor.h"

namespace k8sgpu::vnode {

class PodDirectory final : public kubelet_api::PodLookup {
  public:
    PodDirectory(const PodExecutor& pods, providers::Provider& provider) : pods_(pods), provider_(provider) {}

    std::optional<kubelet_api::PodView> find(std::string_view ns, std::string_view name) const override {
        const auto pod = pods_.find(std::string(ns), std::string(name));
        if (pod == nullptr) return std::nullopt;
        return view(pod);
    }
    std::vector<kubelet_api::PodView> list() const override {
        std::vector<kubelet_api::PodView> views;
        for (const auto& pod : pods_.list()) views.push_back(view(pod));
        return views;
    }
    std::vector<providers::Provider*> providers() const override { return {&provider_}; }

  private:
    kubelet_api::PodView view(const kube::ObjectPtr& pod) const {
        return {kube::pod_id(*pod), pod, &provider_};
    }

    const PodExecutor& pods_;
    providers::Provider& provider_;
};

}  // namespace k8sgpu::vnode
