// What GET /configz says: this program's settings in the words of KubeletConfiguration v1beta1, those alone
// that hold here. Pure; any thread.
#pragma once

#include "common/json.h"
#include "vnode/options.h"

namespace k8sgpu::vnode {

Json kubelet_config(const Options& options);

}  // namespace k8sgpu::vnode
