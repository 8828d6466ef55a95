"""Each check of the verdict can fail: on evidence of the very mistake that it is for."""

from chaos import audit, degrade, facts, history, marks, soak, verdict

MARK = "cluster-1"


def life(uid, name="pod", phases=("Pending", "Running"), labels=None, asked=False, code=0, restarts=0, owner=None, index=None, deleted=False):
    made = None
    for phase in phases:
        metadata = {"uid": uid, "name": name, "namespace": "n", "labels": labels or {}}
        if asked and phase in ("Succeeded", "Failed"):
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        if owner:
            metadata |= {"ownerReferences": [{"uid": owner, "kind": "Job"}], "annotations": {"batch.kubernetes.io/job-completion-index": index}}
        state = {"terminated": {"exitCode": code}} if phase in ("Succeeded", "Failed") else {"running": {}}
        status = {"phase": phase, "containerStatuses": [{"state": state, "restartCount": restarts}]}
        object_ = {"metadata": metadata, "status": status}
        made = made or history.Life(uid, "n", name, object_, object_)
        made.see(object_)
    made.deleted = deleted
    return made


def lives(*all_):
    return {each.uid: each for each in all_}


def copy(uid, of, name="copy", **more):
    return life(uid, name, labels={marks.CLUSTER: MARK, marks.POD_UID: of}, **more)


def job(succeeded, failed=0):
    object_ = {"metadata": {"uid": "j", "name": "job"}, "spec": {"completions": 2}, "status": {"succeeded": succeeded, "failed": failed}}
    return lives(history.Life("j", "n", "job", object_, object_))


def test_one_copy_is_fine_a_second_one_or_one_of_nobody_is_not():
    local = lives(life("a"))
    assert verdict.one_copy_per_uid(local, lives(copy("r", "a")), MARK).ok
    assert not verdict.one_copy_per_uid(local, lives(copy("r", "a", deleted=True), copy("s", "a")), MARK).ok
    assert not verdict.one_copy_per_uid(local, lives(copy("r", "b")), MARK).ok
    assert verdict.one_copy_per_uid(local, lives(copy("r", "b")), "cluster-2").ok, "another cluster's"


def test_a_pod_that_ended_unasked_is_lost_unless_its_script_says_so():
    ended = ("Pending", "Running", "Failed")
    assert verdict.nothing_lost(lives(life("a", phases=ended, asked=True)), "exit").ok
    assert verdict.nothing_lost(lives(life("a", phases=ended, labels={"exit": "3"}, code=3)), "exit").ok
    assert not verdict.nothing_lost(lives(life("a", phases=ended, labels={"exit": "3"}, code=137)), "exit").ok
    assert not verdict.nothing_lost(lives(life("a", phases=ended)), "exit").ok


def test_phases_may_not_go_back_nor_an_end_change():
    assert verdict.only_forward(lives(life("a", phases=("Pending", "Succeeded")))).ok
    assert not verdict.only_forward(lives(life("a", phases=("Pending", "Running", "Pending")))).ok
    assert not verdict.only_forward(lives(life("a", phases=("Running", "Succeeded", "Failed")))).ok


def test_a_second_run_of_a_container_shows():
    assert verdict.ran_once(lives(life("a"))).ok
    assert not verdict.ran_once(lives(life("a", restarts=1))).ok


def test_an_index_of_a_job_succeeds_once_and_is_counted_once():
    def pod(uid, index):
        return life(uid, phases=("Running", "Succeeded"), owner="j", index=index)

    assert verdict.jobs_counted_once(job(2), lives(pod("a", "0"), pod("b", "1"))).ok
    assert not verdict.jobs_counted_once(job(2), lives(pod("a", "0"), pod("b", "1"), pod("c", "1"))).ok
    assert not verdict.jobs_counted_once(job(2), lives(pod("a", "0"))).ok
    assert not verdict.jobs_counted_once(job(1), lives(pod("a", "0"), pod("b", "1"))).ok
    assert not verdict.jobs_counted_once(job(2, failed=1), lives(pod("a", "0"), pod("b", "1"))).ok


def test_both_sides_must_have_the_same_pods():
    assert verdict.sets_agree(facts.Sight({"a"}, {"a"}, ["a"]), 1).ok
    assert not verdict.sets_agree(facts.Sight({"a"}, {"a"}, []), 1).ok
    assert not verdict.sets_agree(facts.Sight({"a"}, {"a"}, ["a", "a"]), 1).ok
    assert not verdict.no_orphans(facts.Sight({"a"}, {"a"}, ["a", "b"]), 70).ok
    assert not verdict.nothing_stuck(facts.Sight(open=["solo-1 is still ending"])).ok


def test_pods_of_others_are_untouchable():
    assert verdict.strangers_untouched(lives(life("a", "stranger")), ["stranger"]).ok
    assert not verdict.strangers_untouched(lives(life("a", "stranger", deleted=True)), ["stranger"]).ok
    assert not verdict.strangers_untouched(lives(life("a", "stranger", deleted=True), life("b", "stranger")), ["stranger"]).ok

    remote = lives(copy("r", "a", name="ours"), life("s", "theirs", labels={marks.CLUSTER: "cluster-2"}), life("t", "nobodys"))
    for name, ok in (("ours", True), ("theirs", False), ("nobodys", False)):
        call = audit.Call("2026-01-01T00:00:00.5Z", "delete", "pods", "gpu", name, 200)
        assert verdict.own_copies_only([call], remote, MARK).ok is ok


def test_a_denied_call_counts_unless_the_server_was_starting():
    call = audit.Call("2026-01-01T00:00:05.5Z", "get", "pods", "gpu", "x", 403)
    counted, excused = audit.denials([call])
    assert not verdict.nothing_denied({"remote": counted}, excused, {"remote": 1}).ok
    counted, excused = audit.denials([call], [("2026-01-01T00:00:05.0Z", "2026-01-01T00:00:06.0Z")])
    assert excused == 1 and verdict.nothing_denied({"remote": counted}, excused, {"remote": 1}).ok


def test_a_death_of_the_agent_shows():
    assert verdict.agent_well("info: the node is ready\n").ok
    assert not verdict.agent_well("terminate called after throwing an instance of 'std::system_error'\n").ok
    assert not verdict.nothing_unexpected(["the agent had ended by itself with -6"]).ok


def test_growth_shows():
    assert soak.at_rest_as_before("descriptors", 20, 19).ok
    assert not soak.at_rest_as_before("descriptors", 20, 21).ok
    assert soak.memory_stays([100e6], [104e6]).ok
    assert not soak.memory_stays([100e6], [106e6]).ok
    assert not soak.memory_stays([], []).ok, "too short to say"


def test_waiting_long_after_a_fault_shows():
    assert degrade.soon_over([("gone", 3, 20.0)]).ok
    assert not degrade.soon_over([("gone", 3, 20.0), ("throttle", 1, 200.0)]).ok
