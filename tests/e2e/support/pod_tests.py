"""What a pod does on the node whichever provider runs it. Modules inherit this with an `agent` of their own."""

import subprocess
import time

import pytest

from . import pods
from .clusters import condition, kubectl_command, parse_time, states
from .terminal import Terminal
from .waiting import wait_for


def check_hello(local, name="hello"):
    """One pod from its creation to its end: Ready, logs, an exit code, deletion. The smoke test of every bed and provider."""
    pod = pods.pod(name, "echo hello from $NODE; " + pods.UNTIL_TERM)
    pod["spec"]["containers"][0]["env"] = [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    local.create_pod(pod)
    ready = local.wait_ready(name)
    assert ready["spec"]["nodeName"] == "k8s.gpu"
    assert ready["status"]["phase"] == "Running"
    assert ready["status"]["hostIP"], ready["status"]
    assert states(ready)["main"]["state"]["running"]["startedAt"]
    assert local.kubectl("logs", name, "-n", local.namespace).splitlines() == ["hello from k8s.gpu", "started"]
    assert local.run("exec", name, "-n", local.namespace, "--", "sh", "-c", "exit 3").returncode == 3
    local.delete_pod(name)
    local.wait_pod_gone(name, 15)


class PodTests:
    @pytest.fixture(scope="class")
    def running(self, local):
        """The name of a pod that counts lines for as long as it is let."""
        script = "echo line 1; echo line 2; sleep 0.1; echo line 3 >&2; n=3; trap 'echo bye; exit 0' TERM; while :; do sleep 0.3; n=$((n+1)); echo line $n; done"
        local.create_pod(pods.pod("running", script))
        local.wait_ready("running")
        yield "running"
        local.delete_pod("running", 1)

    def test_a_pod_runs_answers_and_goes(self, local):
        check_hello(local)

    def test_status_is_what_a_kubelet_would_say(self, local, running):
        pod = local.pod(running)
        assert {type_: condition(pod, type_).get("status") for type_ in ("PodScheduled", "Initialized", "ContainersReady", "Ready")} == {
            "PodScheduled": "True",
            "Initialized": "True",
            "ContainersReady": "True",
            "Ready": "True",
        }
        # OSMO's listener ends itself at a condition without it.
        assert all(entry.get("lastTransitionTime") for entry in pod["status"]["conditions"])
        status = states(pod)["main"]
        assert status["ready"] and status["started"] and status["restartCount"] == 0
        assert "://" in status["containerID"], status
        assert pod["status"]["startTime"]
        assert pod["status"]["qosClass"] == "BestEffort"

    # --- logs ---

    def test_logs_tail_gives_the_last_lines(self, local, running):
        logs = lambda: local.kubectl("logs", running, "-n", local.namespace).splitlines()
        whole = wait_for(lambda: len(lines := logs()) >= 3 and lines, 10, "three lines to be written")
        assert whole[:3] == ["line 1", "line 2", "line 3"]
        tail = local.kubectl("logs", running, "-n", local.namespace, "--tail=2").splitlines()
        assert len(tail) == 2 and int(tail[1].split()[1]) == int(tail[0].split()[1]) + 1, tail
        assert int(tail[1].split()[1]) >= len(whole)
        assert local.kubectl("logs", running, "-n", local.namespace, "--tail=0") == ""

    def test_logs_timestamps_and_limit(self, local, running):
        stamped = local.kubectl("logs", running, "-n", local.namespace, "--timestamps").splitlines()[0]
        stamp, text = stamped.split(" ", 1)
        assert text == "line 1" and parse_time(stamp[:19] + "Z")
        assert local.kubectl("logs", running, "-n", local.namespace, "--limit-bytes=9") == "line 1\nli"

    def test_logs_follow_delivers_lines_as_they_come(self, local, running):
        follower = local.popen("logs", "-f", "--tail=1", running, "-n", local.namespace, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            numbers, times = [], []
            for line in follower.stdout:
                numbers.append(int(line.split()[1]))
                times.append(time.monotonic())
                if len(numbers) == 6:
                    break
            assert numbers == list(range(numbers[0], numbers[0] + 6)), "lines are missing or doubled"
            # Not gathered in a buffer: five lines take their author 1.5 seconds.
            assert times[-1] - times[1] > 0.7, times
        finally:
            follower.kill()
            follower.communicate()

    def test_logs_follow_ends_with_the_container(self, local):
        local.create_pod(pods.pod("ending", "for n in 1 2 3 4 5; do echo $n; sleep 0.4; done; echo last"))
        local.wait_pod("ending", lambda pod: states(pod).get("main", {}).get("state", {}).keys() & {"running", "terminated"}, "to start")
        done = local.run("logs", "-f", "ending", "-n", local.namespace, timeout=30)
        assert done.stdout.splitlines() == ["1", "2", "3", "4", "5", "last"], done
        assert done.returncode == 0, done.stderr
        local.wait_phase("ending", "Succeeded")
        # Of an ended container, too, until the pod is deleted.
        assert local.kubectl("logs", "ending", "-n", local.namespace, "--tail=1") == "last\n"
        local.delete_pod("ending")
        local.wait_pod_gone("ending", 10)

    def test_logs_of_a_container_that_is_not_there_say_so(self, local, running):
        done = local.run("logs", running, "-c", "nobody", "-n", local.namespace)
        assert done.returncode != 0 and "container nobody is not valid for pod running" in done.stderr, done.stderr

    # --- exec ---

    @pytest.mark.parametrize("websockets", ["true", "false"])
    def test_exec_returns_the_exit_code(self, local, running, websockets):
        environment = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets, "HOME": "/nonexistent"}
        for code in (0, 3, 137):
            done = local.run(
                "exec", running, "-n", local.namespace, "--", "sh", "-c", f"echo out; echo err >&2; exit {code}", env=environment
            )
            assert (done.returncode, done.stdout) == (code, "out\n"), done
            assert done.stderr.splitlines()[0] == "err", done

    def test_exec_carries_standard_input_and_its_end(self, local, running):
        text = "".join(f"{n} something to carry\n" for n in range(20000))
        done = local.run("exec", "-i", running, "-n", local.namespace, "--", "cat", input=text)
        assert done.returncode == 0, done.stderr
        assert done.stdout == text
        # A program that answers only after it has seen the end of its input.
        done = local.run("exec", "-i", running, "-n", local.namespace, "--", "sort", input="b\na\n")
        assert done.stdout == "a\nb\n", done

    def test_exec_with_a_terminal(self, local, running):
        command = kubectl_command(local.cluster, "exec", "-it", running, "-n", local.namespace, "--", "sh")
        terminal = Terminal(command, rows=33, columns=101)
        try:
            terminal.type("tty > /dev/null && echo is a' 'terminal\n")
            terminal.read_until("is a terminal\r\n")
            terminal.type("until [ \"$(stty size)\" = '33 101' ]; do sleep 0.1; done; echo size' 'arrived\n")
            terminal.read_until("size arrived\r\n")
            terminal.resize(44, 122)
            terminal.type("until [ \"$(stty size)\" = '44 122' ]; do sleep 0.1; done; echo size' 'changed\n")
            terminal.read_until("size changed\r\n")
            terminal.type("sleep 1000\n")
            time.sleep(0.5)
            terminal.type("\x03")  # Ctrl-C ends the sleep and not the shell
            terminal.type("echo still' 'here\n")
            terminal.read_until("still here\r\n")
            terminal.type("exit 5\n")
            assert terminal.end() == 5
        finally:
            terminal.kill()

    def test_exec_of_a_program_that_is_not_there_fails_and_says_so(self, local, running):
        done = local.run("exec", running, "-n", local.namespace, "--", "no-such-program")
        assert done.returncode != 0
        assert "no-such-program" in done.stderr, done.stderr

    # --- ways to end ---

    def test_a_job_completes(self, local):
        local.apply(
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": "count", "namespace": local.namespace},
                "spec": {
                    "completions": 2,
                    "parallelism": 2,
                    "backoffLimit": 0,
                    "template": {"spec": pods.spec(pods.container("echo job of $HOSTNAME; sleep 0.5"))},
                },
            }
        )
        local.kubectl("wait", "--for=condition=Complete", "job/count", "-n", local.namespace, "--timeout=40s")
        made = local.pods("job-name=count")
        assert [pod["status"]["phase"] for pod in made] == ["Succeeded"] * 2
        for pod in made:
            ended = states(pod)["main"]["state"]["terminated"]
            assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
            assert condition(pod, "Ready").get("reason") == "PodCompleted"
            assert local.kubectl("logs", pod["metadata"]["name"], "-n", local.namespace).startswith("job of")
        local.kubectl("delete", "job", "count", "-n", local.namespace)
        local.wait_no_pods_of("job-name=count")

    def test_a_failure_keeps_its_exit_code_and_message(self, local):
        pod = pods.pod("failing", "echo words before the end; exit 42")
        pod["spec"]["containers"][0]["terminationMessagePolicy"] = "FallbackToLogsOnError"
        local.create_pod(pod)
        failed = local.wait_phase("failing", "Failed")
        ended = states(failed)["main"]["state"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (42, "Error"), ended
        assert ended["message"] == "words before the end\n", ended
        assert condition(failed, "Ready").get("reason") == "PodFailed"
        local.delete_pod("failing")
        local.wait_pod_gone("failing", 10)

    def test_init_containers_run_in_order_before_the_others(self, local):
        containers = [pods.container("sleep 0.3; echo first", "first"), pods.container("echo second", "second")]
        local.create_pod(pods.pod("initialised", "echo main; " + pods.UNTIL_TERM, initContainers=containers))
        pod = local.wait_ready("initialised")
        init = states(pod, "initContainerStatuses")
        assert [init[name]["state"]["terminated"]["reason"] for name in ("first", "second")] == ["Completed"] * 2
        times = [init["first"]["state"]["terminated"]["finishedAt"], init["second"]["state"]["terminated"]["finishedAt"]]
        assert times == sorted(times) and times[1] <= states(pod)["main"]["state"]["running"]["startedAt"]
        assert local.kubectl("logs", "initialised", "-c", "first", "-n", local.namespace) == "first\n"
        local.delete_pod("initialised", 1)

    def test_a_failed_init_container_ends_the_pod_before_its_main_container(self, local):
        local.create_pod(pods.pod("uninitialised", "echo never", initContainers=[pods.container("exit 7", "first")]))
        pod = local.wait_phase("uninitialised", "Failed")
        assert states(pod, "initContainerStatuses")["first"]["state"]["terminated"]["exitCode"] == 7
        assert "waiting" in states(pod)["main"]["state"], "the main container must not have run"
        assert condition(pod, "Initialized").get("status") == "False"
        local.delete_pod("uninitialised")
        local.wait_pod_gone("uninitialised", 10)

    def test_restart_policy_always_starts_the_container_again(self, local):
        local.create_pod(pods.pod("restarting", "echo a run; sleep 0.2; exit 9", restartPolicy="Always"))
        pod = local.wait_pod("restarting", lambda pod: states(pod).get("main", {}).get("restartCount", 0) >= 1, "to be restarted")
        status = states(pod)["main"]
        assert pod["status"]["phase"] == "Running", pod["status"]
        assert (status.get("lastState") or status["state"])["terminated"]["exitCode"] == 9
        backing_off = local.wait_pod(
            "restarting", lambda pod: states(pod)["main"]["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff", "to back off"
        )
        message = states(backing_off)["main"]["state"]["waiting"]["message"]
        assert message.startswith("back-off ") and "restarting failed container=main pod=restarting_" in message, message
        assert local.kubectl("logs", "restarting", "--previous", "-n", local.namespace) == "a run\n"
        local.delete_pod("restarting", 1)
        local.wait_pod_gone("restarting", 15)

    def test_deletion_gives_the_grace_and_then_kills(self, local):
        local.create_pod(pods.pod("stubborn", "trap '' TERM; echo deaf; while :; do sleep 0.2; done", grace=3))
        local.wait_ready("stubborn")
        began = time.monotonic()
        local.delete_pod("stubborn")
        local.wait_pod_gone("stubborn", 15)
        assert 2.5 < time.monotonic() - began < 8
        local.create_pod(pods.pod("obedient", pods.UNTIL_TERM, grace=30))
        local.wait_ready("obedient")
        began = time.monotonic()
        local.delete_pod("obedient")
        local.wait_pod_gone("obedient", 15)
        assert time.monotonic() - began < 8, "a container that ends on SIGTERM must not wait for the grace"

    def test_a_pod_deleted_at_once_leaves_nothing(self, local):
        local.create_pod(pods.pod("brief", pods.UNTIL_TERM))
        local.delete_pod("brief")
        local.wait_pod_gone("brief", 15)

    # --- what is missing, what is not supported ---

    def test_a_missing_config_map_is_waited_for(self, local):
        pod = pods.pod("configured", 'echo "color is $COLOR"; ' + pods.UNTIL_TERM)
        pod["spec"]["containers"][0]["env"] = [{"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "colors", "key": "first"}}}]
        local.create_pod(pod)

        def waiting(pod):
            return states(pod).get("main", {}).get("state", {}).get("waiting", {}).get("reason") == "CreateContainerConfigError"

        seen = local.wait_pod("configured", waiting, "to wait for its ConfigMap")
        assert seen["status"]["phase"] == "Pending"
        assert states(seen)["main"]["state"]["waiting"]["message"] == 'configmap "colors" not found'
        messages = [event["message"] for event in local.wait_event("configured", "Failed")]
        assert messages == ['Error: configmap "colors" not found'], messages
        local.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "colors", "namespace": local.namespace},
                "data": {"first": "green"},
            }
        )
        local.wait_ready("configured", 20)
        assert local.kubectl("logs", "configured", "-n", local.namespace).splitlines()[0] == "color is green"
        local.delete_pod("configured", 1)
        local.wait_pod_gone("configured", 15)

    def test_an_unsupported_volume_is_refused_before_anything_runs(self, local):
        volumes = [{"name": "host", "hostPath": {"path": "/etc"}}]
        local.create_pod(pods.pod("with-host-path", "echo never", volumes=volumes, initContainers=[pods.container("echo never", "first")]))
        failed = local.wait_phase("with-host-path", "Failed")
        assert failed["status"]["reason"] in ("PodFeatureUnsupported", "UnexpectedAdmissionError"), failed["status"]
        message = failed["status"]["message"]
        assert message.startswith("Pod was rejected: ") and "hostPath" in message and "spec.volumes[0]" in message, message
        assert not any(
            "running" in status["state"] or "terminated" in status["state"]
            for kind in ("containerStatuses", "initContainerStatuses")
            for status in states(failed, kind).values()
        )
        events = local.wait_event("with-host-path", failed["status"]["reason"])
        assert len(events) == 1 and events[0]["type"] == "Warning" and "hostPath" in events[0]["message"]
        local.delete_pod("with-host-path")
        local.wait_pod_gone("with-host-path", 10)

    def test_a_daemon_set_that_tolerates_everything_is_not_forwarded(self, local):
        template = pods.spec(
            pods.container(pods.UNTIL_TERM), runtimeClassName=None, restartPolicy="Always", tolerations=[{"operator": "Exists"}]
        )
        local.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": {"name": "everywhere", "namespace": local.namespace},
                "spec": {
                    "selector": {"matchLabels": {"app": "everywhere"}},
                    "template": {"metadata": {"labels": {"app": "everywhere"}}, "spec": template},
                },
            }
        )
        name = local.wait_for_pod_of("app=everywhere")["metadata"]["name"]
        events = local.wait_event(name, "DaemonSetNotForwarded")
        pod = local.wait_pod(
            name, lambda pod: condition(pod, "k8s.gpu/Forwarded").get("reason") == "DaemonSetNotForwarded", "to say why it is not forwarded"
        )
        assert pod["status"]["phase"] == "Pending"
        assert not any("running" in status["state"] for status in states(pod).values())
        time.sleep(2)
        events = [event for event in local.events(name) if event["reason"] == "DaemonSetNotForwarded"]
        assert [event.get("count", 1) for event in events] == [1], events
        assert not self.anywhere(pod["metadata"]["uid"]), "it was forwarded"
        local.kubectl("delete", "daemonset", "everywhere", "-n", local.namespace)
        local.wait_no_pods_of("app=everywhere")

    def test_a_daemon_set_with_our_class_is_forwarded(self, local):
        # The DaemonSet controller looks at the template alone: the tolerations of the class come too late for it.
        template = pods.spec(pods.container(pods.UNTIL_TERM), restartPolicy="Always", tolerations=[pods.TOLERATION])
        local.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": {"name": "wanted", "namespace": local.namespace},
                "spec": {
                    "selector": {"matchLabels": {"app": "wanted"}},
                    "template": {"metadata": {"labels": {"app": "wanted"}}, "spec": template},
                },
            }
        )
        name = local.wait_for_pod_of("app=wanted")["metadata"]["name"]
        local.wait_ready(name)
        local.kubectl("delete", "daemonset", "wanted", "-n", local.namespace)
        local.wait_no_pods_of("app=wanted")

    def test_recreation_under_the_same_name_runs_the_new_pod(self, local):
        for text in ("one", "two"):
            local.create_pod(pods.pod("again", f"echo {text}; " + pods.UNTIL_TERM))
            local.wait_ready("again")
            assert local.kubectl("logs", "again", "-n", local.namespace).splitlines()[0] == text
            local.kubectl("delete", "pod", "again", "-n", local.namespace, "--timeout=20s")
