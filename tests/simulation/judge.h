// Holds a simulated world to the invariants of docs/safety.md. It sees every change of either side as it is
// made, which no agent can, and never tells anybody. One ledger per UID of a local pod.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "providers/port/provider.h"
#include "tests/simulation/timeline.h"

namespace k8sgpu::simulation {

// Who makes a call: an agent by its cluster, or somebody else ("").
using Caller = std::string;

class Judge {
  public:
    explicit Judge(Timeline& timeline) : timeline_(timeline) {}

    // ---- the local cluster; before or after may be null
    void local_changed(const Json* before, const Json* after, const Caller& by);
    void local_delete_asked(const Json& pod, bool with_uid, const Caller& by);

    // ---- the tenant namespace
    struct Request {
        SteadyTime sent;
        bool given_up = false;     // its sender waits for no answer any more
        bool sender_dead = false;  // because it died
    };
    void copy_created(const PodId& id, const Caller& by, const Request& request);
    void copy_delete_asked(const std::string& name, const std::optional<PodId>& id, const Caller& owner,
                           bool with_uid, const Caller& by);
    void copy_deleted_by_others(const PodId& id);
    void copy_changed(const providers::ObservedPod& copy);

    // ---- the Jobs
    void completion_counted(const std::string& uid, bool success);

    void blame(std::string what);
    const std::vector<std::string>& violations() const { return violations_; }

    // What happened, for those who ask whether a run was worth anything.
    struct Counts {
        int starts = 0;       // copies that were created
        int completions = 0;  // counted successes
        int lost = 0;         // copies that others removed
        // Second starts of a UID whose copy others removed before the API said that it had been there. The
        // gap that docs/safety.md knows; nothing else may lead to a second start.
        int known_gap = 0;
        // Second starts by a request that was stuck while the agent died. The other gap.
        int late_requests = 0;
        // First starts by a request that nobody waited for any more, of a pod that was over by then: orphans.
        int late_starts = 0;
    };
    const Counts& counts() const { return counts_; }
    // The copy of this UID was deleted by others, so its pod may be Failed although nothing failed.
    bool disturbed(const std::string& uid) const;

  private:
    struct Ledger {
        bool known = false;      // a local pod of that UID exists or existed
        bool exists = false;     // now
        bool wanted = false;     // exists, not being deleted, not terminal
        bool intent = false;     // the API has ever carried the intent
        bool forwarded = false;  // the API has ever said True
        bool in_gap = false;
        bool exempt = false;  // counted apart: nobody could know of its copy
        bool disturbed = false;
        SteadyTime disturbed_at{};
        int starts = 0;
        bool may_be_running = false;  // the copy, now
        std::string terminal;         // phase, once the API has a terminal one
        std::string copy_ended;       // phase with which the copy ended
        int counted = 0;
    };

    Timeline& timeline_;
    std::map<std::string, Ledger> ledgers_;
    std::vector<std::string> violations_;
    Counts counts_;
};

}  // namespace k8sgpu::simulation
