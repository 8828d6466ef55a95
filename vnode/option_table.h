// The table of all options: flag, environment variable, config key, --help text, check, and which may change
// while we run. One row is everything about one option. Read by options.cc and by the reload; immutable.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "vnode/options.h"

namespace k8sgpu::vnode {

enum class Shape { Value, Switch };
enum class Change { AtStart, WhileRunning };

// Which commands know an option. Those of the daemon may also stand in environment and config file.
inline constexpr unsigned kRun = 1, kDrain = 2, kUninstall = 4;
inline constexpr unsigned kEverywhere = kRun | kDrain | kUninstall;

struct OptionRow {
    const char* group;
    const char* name;  // flag, config key; the environment variable is K8SGPU_<NAME>
    Shape shape;
    const char* value;  // how --help names the value; "" for a switch
    const char* fallback;
    const char* help;
    std::function<Result<void>(Options&, const std::string&)> set;
    Change change = Change::AtStart;
    unsigned commands = kRun;
};

const std::vector<OptionRow>& option_table();

}  // namespace k8sgpu::vnode
