// A whole simulated world for one seed: local clusters with their controllers and an agent each, one tenant
// namespace, the networks between them, and people. For a while everything fails as the seed will have it;
// then the faults end, and everything has to come to rest.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "tests/simulation/agent.h"
#include "tests/simulation/judge.h"

namespace k8sgpu::simulation {

struct Options {
    std::uint64_t seed = 1;
    Breakage breakage = Breakage::None;
    std::size_t keep_lines = 0;  // of the trace; 0: only its hash
};

struct Outcome {
    std::uint64_t steps = 0;
    std::uint64_t hash = 0;  // of the whole trace
    std::vector<std::string> violations;
    std::deque<std::string> lines;  // the last ones
    Judge::Counts counts;
};

Outcome simulate(const Options& options);

}  // namespace k8sgpu::simulation
