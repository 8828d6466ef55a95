// The network between one agent and one server. Each call meets its own fate: it arrives late, twice or not
// at all, its answer is lost, or the server refuses or is slow. What has been sent is executed even if the
// sender has died since; what an answer finds dead it leaves alone (the caller sees to that).
#pragma once

#include <memory>
#include <string>

#include "common/result.h"
#include "tests/simulation/chance.h"
#include "tests/simulation/timeline.h"

namespace k8sgpu::simulation {

struct Weather {
    double trouble = 0;  // share of calls that something happens to
    double slow = 0.05;  // share of calls that take seconds
};

class Link {
  public:
    Link(Timeline& timeline, Chance& chance, std::string name)
        : timeline_(timeline), chance_(chance), name_(std::move(name)) {}

    void set_weather(Weather weather) { weather_ = weather; }
    bool unreliable() const { return weather_.trouble > 0; }
    bool is_up() const { return up_; }
    void set_up(bool up) {
        if (up != up_) timeline_.trace("link {} {}", name_, up ? "is back" : "is cut");
        up_ = up;
    }
    Duration latency() {
        if (chance_.happens(weather_.slow)) return chance_.between(Duration(500), Duration(10'000));
        if (chance_.happens(0.15)) return chance_.between(Duration(50), Duration(500));
        return chance_.between(Duration(1), Duration(20));
    }

    // `run` is the request at the server, `done` takes the answer. Exactly one answer comes.
    template <typename T>
    void call(std::string what, std::function<Result<T>()> run, std::function<void(Result<T>)> done) {
        const auto answer = [this, what, done = std::move(done)](Duration after, Result<T> result) {
            timeline_.after(after, [this, what, done, result = std::move(result)] {
                timeline_.trace("{} answered: {}", what,
                                result ? "ok" : std::string(to_string(result.error().kind)));
                done(result);
            });
        };
        const auto execute = [this, what, run = std::move(run)](const char* how) {
            auto result = run();
            timeline_.trace("{} executed{}: {}", what, how,
                            result ? "ok" : std::string(to_string(result.error().kind)));
            return result;
        };
        const Duration there = latency(), back = latency();
        if (!up_) {
            answer(std::min(there, kTimeout), fail(ErrorKind::Unavailable, "no route to host"));
            return;
        }
        if (!chance_.happens(weather_.trouble)) {
            timeline_.after(there, [this, execute, answer, back] {
                if (!up_) return answer(kTimeout, fail(ErrorKind::Timeout, "the link was cut"));
                auto result = execute("");
                if (!up_ || back + Duration(1) > kTimeout) result = fail(ErrorKind::Timeout, "too late");
                answer(back, std::move(result));
            });
            return;
        }
        const bool reset = chance_.happens(0.5);  // seen at once, or only by the deadline
        const Error lost = reset ? Error{ErrorKind::Unavailable, "connection reset"}
                                 : Error{ErrorKind::Timeout, "deadline passed"};
        const Duration noticed = reset ? there + back : kTimeout;
        switch (chance_.between(0, 5)) {
            case 0:
                return answer(there, fail(ErrorKind::Unavailable, "connection refused"));
            case 1:
                return answer(there, fail(Error{ErrorKind::Throttled, "too many requests", 429,
                                                chance_.between(Duration(1'000), Duration(5'000))}));
            case 2:
                return answer(noticed, fail(lost));  // never arrived
            case 3:                                  // executed, the answer lost
                timeline_.after(there, [execute] { (void)execute(", answer lost"); });
                return answer(std::max(noticed, there), fail(lost));
            case 4: {  // stuck at the server, which works it off within its own minute
                const Duration stuck = chance_.between(there, Duration(60'000));
                if (stuck + back >= kTimeout) {
                    timeline_.after(stuck, [execute] { (void)execute(" late"); });
                    return answer(kTimeout, fail(ErrorKind::Timeout, "deadline passed"));
                }
                timeline_.after(stuck, [execute, answer, back] { answer(back, execute(" late")); });
                return;
            }
            default:
                timeline_.after(there + back, [execute] { (void)execute(" again"); });
                timeline_.after(there, [execute, answer, back] { answer(back, execute("")); });
        }
    }

  private:
    static constexpr Duration kTimeout{30'000};

    Timeline& timeline_;
    Chance& chance_;
    std::string name_;
    Weather weather_;
    bool up_ = true;
};

}  // namespace k8sgpu::simulation
