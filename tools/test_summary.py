#!/usr/bin/python3
"""Adds up JUnit files of ctest and pytest and prints one closing line: `N passed, N failed, N skipped`.

    tools/test_summary.py [--require-remote] FILE…

Ends with status 1 when a test failed, when a file is missing or names no test, and, with --require-remote, when a test was skipped because
the remote cluster cannot run here.
"""

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

# How tests of the test bed begin the reason of such a skip.
REMOTE_REASONS = ("remote cluster:", "network namespaces:")


def outcome(case):
    """"passed", "failed" or "skipped" of one <testcase>, and the reason of a skip."""
    if case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail":
        return "failed", ""
    skipped = case.find("skipped")
    if skipped is None:
        return "passed", ""
    reason = skipped.get("message") or skipped.text or "no reason given"
    if case.get("status") == "notrun" and "SKIP_REGULAR_EXPRESSION" not in reason:
        return "failed", ""  # ctest: the program is not there, or it is disabled
    return "skipped", reason.replace("Skipped: ", "").replace("SKIP_REGULAR_EXPRESSION_MATCHED", "skipped by the test itself")


def main(arguments):
    require_remote = "--require-remote" in arguments
    counts, reasons, failed, complaints = Counter(), Counter(), [], []
    for name in [argument for argument in arguments if not argument.startswith("--")]:
        try:
            cases = list(ET.parse(name).iter("testcase"))
        except (OSError, ET.ParseError) as error:
            complaints.append(f"no results in {name}: {error}")
            continue
        if not cases:
            complaints.append(f"no test ran for {name}")
        for case in cases:
            result, reason = outcome(case)
            counts[result] += 1
            if result == "skipped":
                reasons[reason] += 1
            elif result == "failed":
                failed.append(f"{Path(name).stem}: {case.get('classname', '')}.{case.get('name', '')}")
    for line in failed:
        print(f"FAILED {line}")
    for reason, count in sorted(reasons.items()):
        print(f"skipped {count}: {reason}")
    lacking = sum(count for reason, count in reasons.items() if reason.startswith(REMOTE_REASONS))
    if require_remote and lacking:
        complaints.append(f"{lacking} tests need the remote cluster, which cannot run here; without --require-remote they are skipped")
    for complaint in complaints:
        print(f"error: {complaint}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if failed or complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
