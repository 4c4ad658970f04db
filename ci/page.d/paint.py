"""How soon the page of a running service is painted, each time by a visitor who has nothing of it yet.

usage: paint.py URL      prints JSON: milliseconds, the median and the largest of RUNS visits, and kilobytes sent
"""

import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from browser import Visit, browser

RUNS = 7


def first_paint(url, runs=RUNS):
    """`{first_paint_ms, usable_ms, worst_first_paint_ms, kilobytes, requests, runs}` of the page at `url`.

    The first visit is not counted: it warms up the browser, not the page. `usable` is when the first view is there.
    """
    painted, usable, sizes = [], [], []
    with browser() as chromium:
        for _ in range(runs + 1):
            visit = Visit(chromium, url.rstrip("/"))
            visit.open()
            painted.append(
                visit.page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime")
            )
            usable.append(visit.page.evaluate("() => performance.getEntriesByName('vitrine-view')[0].startTime"))
            sizes.append(
                visit.page.evaluate(
                    "() => ['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))"
                    ".map((one) => one.transferSize)"
                )
            )
            visit.close()
    return {
        "first_paint_ms": round(statistics.median(painted[1:]), 1),
        "worst_first_paint_ms": round(max(painted[1:]), 1),
        "usable_ms": round(statistics.median(usable[1:]), 1),
        "kilobytes": round(sum(sizes[-1]) / 1000, 1),
        "requests": len(sizes[-1]),
        "runs": runs,
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    print(json.dumps(first_paint(sys.argv[1])))
