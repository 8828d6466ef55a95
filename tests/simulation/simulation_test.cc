// The simulation as a test and as a program:
//   simulation_test --seed 42 --trace          one world, with every step
//   simulation_test --seeds 10000 [--first N]  many, until one breaks
//   --break NAME                               with an agent that is broken on purpose (see Breakage)
// Other arguments are GoogleTest's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <map>

#include "common/log.h"
#include "tests/simulation/world.h"

namespace k8sgpu::simulation {
namespace {

using ::testing::IsEmpty;

const std::map<std::string, Breakage> kBreakages = {
    {"one-local-list", Breakage::BelieveOneLocalList},
    {"one-remote-list", Breakage::BelieveOneRemoteList},
    {"skip-intent", Breakage::SkipIntent},
    {"create-again", Breakage::CreateAgain},
    {"no-uid", Breakage::NoUidPrecondition},
};

struct Sum {
    std::uint64_t seeds = 0, steps = 0;
    Judge::Counts counts;
    std::optional<std::uint64_t> broken;  // the first seed that broke
    std::string report;

    void add(const Outcome& outcome) {
        ++seeds;
        steps += outcome.steps;
        counts.starts += outcome.counts.starts;
        counts.completions += outcome.counts.completions;
        counts.lost += outcome.counts.lost;
        counts.known_gap += outcome.counts.known_gap;
        counts.late_requests += outcome.counts.late_requests;
        counts.late_starts += outcome.counts.late_starts;
    }
    std::string text() const {
        return fmt::format(
            "{} seeds, {} steps: {} copies started, {} completions, {} copies removed by others; apart from "
            "these {} second starts in the gap of the first report, {} in that of a dead agent's request, {} "
            "late "
            "orphans",
            seeds, steps, counts.starts, counts.completions, counts.lost, counts.known_gap,
            counts.late_requests, counts.late_starts);
    }
};

std::string report_of(const Options& options, const Outcome& outcome, std::size_t lines) {
    std::string text = fmt::format("seed {} broke after {} steps:\n", options.seed, outcome.steps);
    for (const std::string& violation : outcome.violations) text += "  " + violation + "\n";
    text += "the last steps:\n";
    const std::size_t skip = outcome.lines.size() - std::min(outcome.lines.size(), lines);
    for (std::size_t i = skip; i < outcome.lines.size(); ++i) text += "  " + outcome.lines[i] + "\n";
    return text + fmt::format("replay: build/simulation_test --seed {} --trace\n", options.seed);
}

// Stops at the first seed that breaks, and runs that one once more for its trace.
Sum simulate_many(std::uint64_t first, std::uint64_t count, Breakage breakage) {
    Sum sum;
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        Options options{seed, breakage, 0};
        Outcome outcome = simulate(options);
        sum.add(outcome);
        if (outcome.violations.empty()) continue;
        sum.broken = seed;
        options.keep_lines = 10'000;
        sum.report = report_of(options, simulate(options), 60);
        break;
    }
    return sum;
}

TEST(Simulation, No_invariant_breaks_in_many_worlds) {
    const Sum sum = simulate_many(1, 300, Breakage::None);
    EXPECT_FALSE(sum.broken) << sum.report;
    std::printf("%s\n", sum.text().c_str());
    // The worlds are worth something only if much happens in them.
    EXPECT_GT(sum.counts.starts, 3'000);
    EXPECT_GT(sum.counts.completions, 500);
    EXPECT_GT(sum.counts.lost, 500);
}

TEST(Simulation, A_seed_replays_exactly) {
    for (const std::uint64_t seed : {1U, 2U, 3U}) {
        const Outcome once = simulate({seed, Breakage::None, 0});
        const Outcome again = simulate({seed, Breakage::None, 1'000'000});
        EXPECT_EQ(once.steps, again.steps);
        EXPECT_EQ(once.hash, again.hash);
    }
    EXPECT_NE(simulate({1, Breakage::None, 0}).hash, simulate({2, Breakage::None, 0}).hash);
}

class BrokenAgent : public ::testing::TestWithParam<std::string> {};

TEST_P(BrokenAgent, Is_found_out) {
    const Sum sum = simulate_many(1, 1'000, kBreakages.at(GetParam()));
    EXPECT_TRUE(sum.broken);
    std::printf("%s: found by seed %d\n", GetParam().c_str(), static_cast<int>(sum.broken.value_or(0)));
}

INSTANTIATE_TEST_SUITE_P(Simulation, BrokenAgent,
                         ::testing::Values("one-local-list", "one-remote-list", "skip-intent", "create-again",
                                           "no-uid"),
                         [](const auto& test) {
                             std::string name = test.param;
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

int run_program(const std::map<std::string, std::string>& given) {
    const auto number = [&](const std::string& key, std::uint64_t fallback) {
        return given.contains(key) ? std::strtoull(given.at(key).c_str(), nullptr, 10) : fallback;
    };
    Breakage breakage = Breakage::None;
    if (given.contains("--break")) {
        const auto found = kBreakages.find(given.at("--break"));
        if (found == kBreakages.end()) {
            std::fprintf(stderr, "--break %s: unknown; write one of", given.at("--break").c_str());
            for (const auto& [name, kind] : kBreakages) std::fprintf(stderr, " %s", name.c_str());
            std::fprintf(stderr, "\n");
            return 2;
        }
        breakage = found->second;
    }
    if (given.contains("--seed")) {
        const Options options{number("--seed", 1), breakage, 1'000'000};
        const Outcome outcome = simulate(options);
        if (given.contains("--trace")) {
            for (const std::string& line : outcome.lines) std::printf("%s\n", line.c_str());
        }
        for (const std::string& violation : outcome.violations)
            std::printf("broken: %s\n", violation.c_str());
        std::printf("%d steps, trace hash %016llx\n", static_cast<int>(outcome.steps),
                    static_cast<unsigned long long>(outcome.hash));
        return outcome.violations.empty() ? 0 : 1;
    }
    const Sum sum = simulate_many(number("--first", 1), number("--seeds", 10'000), breakage);
    std::printf("%s\n%s", sum.text().c_str(), sum.report.c_str());
    return sum.broken ? 1 : 0;
}

}  // namespace
}  // namespace k8sgpu::simulation

int main(int argc, char** argv) {
    k8sgpu::log().set_level(spdlog::level::off);
    std::map<std::string, std::string> given;
    for (int i = 1; i < argc; ++i) {
        const std::string name = argv[i];
        if (name == "--trace") {
            given[name] = "";
        } else if ((name == "--seed" || name == "--seeds" || name == "--first" || name == "--break") &&
                   i + 1 < argc) {
            given[name] = argv[++i];
        }
    }
    if (!given.empty()) return k8sgpu::simulation::run_program(given);
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
