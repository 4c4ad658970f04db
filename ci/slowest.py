"""Lists the test programs that took longest, of the output of `cargo test`.

usage: python3 ci/slowest.py LOG
"""

import re
import sys

program, rows = "", []
for line in open(sys.argv[1], encoding="utf-8", errors="replace"):
    if match := re.match(r" +Running (?:unittests )?(\S+) \(\S*/(\S+)-[0-9a-f]{16}\)", line):
        program = f"{match[2]}, {match[1]}"
    elif match := re.match(r" +Doc-tests (\S+)", line):
        program = f"{match[1]}, examples of its documentation"
    elif match := re.match(r"test result: \S+ (\d+) passed.* finished in ([\d.]+)s", line):
        rows.append((float(match[2]), int(match[1]), program))
rows.sort(reverse=True)
print(f"\n{'slowest test programs':<60} {'tests':>6} {'seconds':>8}")
for seconds, tests, program in rows[:8]:
    print(f"{program:<60} {tests:>6} {seconds:>8.1f}")
print(f"{'all':<60} {sum(row[1] for row in rows):>6} {sum(row[0] for row in rows):>8.1f}")
