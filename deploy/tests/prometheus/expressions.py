"""expressions.py PROMETHEUS RULES_DIR DASHBOARD METRICS.md EVENT_ONLY

Every expression of rules, alerts (their thresholds taken away) and dashboard returns data now, or
stands in EVENT_ONLY with the reason why it cannot; one that stands there and returns data is an
error, too. Every edge_ metric in them is documented.
"""

import json
import pathlib
import re
import sys
import urllib.parse
import urllib.request

PROMETHEUS, RULES, DASHBOARD, METRICS, EVENT_ONLY = sys.argv[1:]
NUMBER = r"-?[0-9][0-9.e+]*"
VARIABLES = {"$__rate_interval": "5m", "$datasource": "", "$job": "openclaw-edge"}


def api(path, **query):
    url = f"{PROMETHEUS}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]


def has_data(expression):
    """A value at least; 0/0 is none."""
    found = api("query", query=expression)["result"]
    return any(series["value"][1] != "NaN" for series in found)


def without_threshold(expression):
    """Comparisons are with plain numbers (rules/process.yml says so), so this is easy."""
    bare = re.sub(rf"\s(==|!=|<=|>=|<|>)\s({NUMBER})(?![\w(])", "", expression)
    if re.search(r"\s(==|!=|<=|>=|<|>)\s", bare):
        raise SystemExit(f"a comparison with something else than a number: {expression}")
    return bare


def of_rules():
    for group in api("rules")["groups"]:
        for rule in group["rules"]:
            if rule["type"] == "recording":
                yield f"rule {rule['name']}", rule["query"]
            else:
                window = rule["labels"].get("window", "")
                yield f"alert {rule['name']} {window}".strip(), without_threshold(rule["query"])


def filled_in(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$[a-z]+", ".*", expression)


def of_dashboard(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']} {target['refId']}", filled_in(target["expr"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
            yield f"variable {variable['name']}", f"count by ({label}) ({filled_in(series)})"
    for note in dashboard["annotations"]["list"]:
        yield f"annotation {note['name']}", without_threshold(filled_in(note["expr"]))


def check_dashboard(dashboard):
    """What Grafana needs to take it."""
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(ids) != len(set(ids)) or dashboard.get("id") is not None:
        raise SystemExit("panels need ids of their own, the dashboard none")
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            raise SystemExit(f"panel {panel['title']} sticks out")
        if panel["type"] != "row" and panel["datasource"]["uid"] != "${datasource}":
            raise SystemExit(f"panel {panel['title']} names a data source")


def undocumented(expressions):
    documented = set(re.findall(r"`(edge_\w+)`", open(METRICS).read()))
    for name, expression in expressions:
        for metric in re.findall(r"(?<![:\w])edge_\w+(?![\w:])", expression):
            base = re.sub(r"_(bucket|sum|count)$", "", metric)
            if not {metric, base} & documented:
                yield f"{name}: {metric} is not in METRICS.md"


def read_event_only():
    lines = open(EVENT_ONLY).read().splitlines()
    return dict(line.split("\t", 1) for line in lines if line and not line.startswith("#"))


def main():
    dashboard = json.load(open(DASHBOARD))
    check_dashboard(dashboard)
    expressions = [*of_rules(), *of_dashboard(dashboard)]
    written = sum(len(re.findall(r"^ +- (?:alert|record): ", file.read_text(), re.MULTILINE))
                  for file in pathlib.Path(RULES).glob("*.yml"))
    if sum(not name.startswith(("panel", "variable", "annotation")) for name, _ in expressions) != written:
        raise SystemExit(f"Prometheus has not loaded the {written} rules that are written")
    wrong, events = list(undocumented(expressions)), read_event_only()
    for name, expression in expressions:
        found = has_data(expression)
        if not found and name not in events:
            wrong.append(f"{name}: no data: {expression}")
        if found and name in events:
            wrong.append(f"{name}: listed as event-only, has data")
    wrong += [f"{name}: listed as event-only, is no expression" for name in events
              if name not in dict(expressions)]
    print("\n".join(wrong), file=sys.stderr)
    print(f"expressions: {len(expressions)}, of them events: {len(events)}, wrong: {len(wrong)}")
    sys.exit(1 if wrong else 0)


main()
