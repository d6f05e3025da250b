"""firing.py PROMETHEUS EXPECTED LONGEST: waits until each alert of EXPECTED (lines: alert, tab,
labels as `name=value,...`, tab, how it was provoked) is `firing` in /api/v1/alerts, and says how long
after it became true. One whose `for` is longer than LONGEST seconds must become pending, and is said
to be. Fails five minutes after the last could have fired."""

import datetime
import json
import sys
import time
import urllib.request

API, EXPECTED, LONGEST = sys.argv[1], sys.argv[2], float(sys.argv[3])
# Windows fill, scrapes and evaluations come every 15 s; a machine may be busy.
PATIENCE = 300


def api(path):
    with urllib.request.urlopen(f"{API}/api/v1/{path}", timeout=30) as answer:
        return json.load(answer)["data"]


def expected():
    for line in open(EXPECTED).read().splitlines():
        alert, labels, how = line.split("\t")
        yield alert, dict(pair.split("=") for pair in labels.split(",") if pair), how


def durations():
    """Seconds of `for`, by alert and the label that two rules of one name differ in."""
    rules = (rule for group in api("rules")["groups"] for rule in group["rules"])
    return {(rule["name"], rule["labels"].get("window")): rule["duration"]
            for rule in rules if rule["type"] == "alerting"}


def found(alerts, name, labels):
    wanted = {"alertname": name, **labels}
    matching = [one for one in alerts if wanted.items() <= one["labels"].items()]
    # Of several series the furthest.
    return max(matching, key=lambda one: one["state"] == "firing", default=None)


def since(alert):
    active = datetime.datetime.fromisoformat(alert["activeAt"].split(".")[0].rstrip("Z"))
    return (datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - active).total_seconds()


def told(name, labels):
    return name + "{" + ", ".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def wait_for_all(wanted, end, enough):
    """Until each is in a state that is enough; their number."""
    waiting = list(wanted)
    while waiting:
        alerts = api("alerts")["alerts"]
        for one in list(waiting):
            name, labels, how, duration = one
            state = found(alerts, name, labels)
            if state and enough(state):
                word = "fires" if state["state"] == "firing" else "is pending"
                print(f"  {told(name, labels)} {word}, true for {since(state):.0f} s "
                      f"(for: {duration:.0f} s): {how}", flush=True)
                waiting.remove(one)
        if waiting and time.monotonic() > end:
            silent = [told(name, labels) for name, labels, _, _ in waiting]
            raise SystemExit(f"never true for long enough: {', '.join(silent)}")
        time.sleep(1)
    return len(wanted)


def main():
    of_rule = durations()
    waiting = [(name, labels, how, of_rule[name, labels.get("window")])
               for name, labels, how in expected()]
    late = [one for one in waiting if one[3] > LONGEST]
    waiting = [one for one in waiting if one[3] <= LONGEST]
    end = time.monotonic() + PATIENCE + max((one[3] for one in waiting), default=0)
    fired = wait_for_all(waiting, end, lambda state: state["state"] == "firing")
    pending = wait_for_all(late, end, lambda state: True)
    print(f"firing: {fired}, pending by the rules' own patience: {pending}")


main()
