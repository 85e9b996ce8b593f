#!/usr/bin/env python3
"""Draws docs/dashboard.png: the panels of monitoring/dashboard.json with what a real Prometheus answers to them.

Grafana itself cannot be had from a package registry, so this is a likeness: the same titles, places, expressions and
units, drawn plainly. It starts simulated nodes with the real agent, scrapes them for some minutes of real time, asks
each panel's expressions, and has Chromium turn the page into a picture.

    python3 tests/tools/dashboard/preview.py --binary target/release/spotwarden --out docs/dashboard.png

Needs the test's Prometheus (`make peers`) and `chromium`.
"""

import argparse
import contextlib
import html
import json
import pathlib
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
CELL = (54, 26)  # pixels of one unit of Grafana's grid
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#8ab8ff", "#c4a484", "#ff7383"]
STEP = 2

# Nodes that live through different days; seconds of real time.
NODES = {
    "ip-10-0-1-11": ("spot-a", "[notice]\nat = 70\nlead = 110\n" + 6 * '[[pods]]\nname = "web%d"\ngrace = 40\nstops_after = 12\n'),
    "ip-10-0-1-12": ("spot-a", "[notice]\nat = 95\nlead = 60\n" + 4 * '[[pods]]\nname = "api%d"\ngrace = 90\nstops_after = 50\n'),
    "ip-10-0-2-21": ("spot-b", 8 * '[[pods]]\nname = "job%d"\ngrace = 30\nstops_after = 5\n'),
    "ip-10-0-2-22": ("spot-b", '[[pods]]\nname = "web"\ncount = 20\nevery = 8\narrives = 5\ngrace = 30\nstops_after = 5\n'),
}


def scenario(body):
    """Numbers the pods, and gives the node a VPC CNI."""
    parts = body.split("%d")
    numbered = parts[0] + "".join(f"-{index}{part}" for index, part in enumerate(parts[1:]))
    return f'title = "preview"\n[cni]\n{numbered}'


def world(stack, binary, folder, node, body):
    """Starts one node; where its metrics are."""
    file = folder / f"{node}.toml"
    file.write_text(scenario(body))
    command = [binary, "simulate", "--serve", "--speed", "1", "--output", "json", "--scenario", file]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    stack.callback(process.kill)
    for line in process.stdout:
        told = json.loads(line)
        if "admin" in told:
            # Nobody reads the rest; a full pipe would stop the world.
            subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
            return told["admin"].removeprefix("http://").rstrip("/")
    raise SystemExit(f"{node} said nothing of itself; run the scenario {file} by hand")


def prometheus(stack, folder, targets):
    """Scrapes the nodes with the labels that monitoring/prometheus.yaml gives them."""
    tool = subprocess.run(["tests/tools/build.sh", "prometheus"], cwd=ROOT, check=True, capture_output=True, text=True)
    static = [
        {"targets": [admin], "labels": {"node": node, "instance": node, "nodegroup": group, "cluster": "shop"}}
        for node, group, admin in targets
    ]
    job = {"job_name": "spotwarden", "scrape_interval": "2s", "static_configs": static}
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
    address = "127.0.0.1:19090"
    command = [
        f"{tool.stdout.strip().splitlines()[-1]}/prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.kill)
    return address


def ask(address, target, start, end):
    """The series of one expression: a name and points."""
    expression, fixed = target["expr"], target.get("legendFormat", "")
    for name, value in {"$cluster": ".*", "$job": ".*", "$node": ".*", "$__rate_interval": "30s", "$__range": "5m"}.items():
        expression = expression.replace(name, value)
    query = urllib.parse.urlencode({"query": expression, "start": start, "end": end, "step": STEP})
    with urllib.request.urlopen(f"http://{address}/api/v1/query_range?{query}", timeout=10) as answer:
        result = json.load(answer)["data"]["result"]
    named = [(fixed if fixed and "{{" not in fixed else name_of(one["metric"]), one["values"]) for one in result]
    points = [(name, [(float(at), float(value)) for at, value in values if value != "NaN"]) for name, values in named]
    return [(name, values) for name, values in points if values]


def name_of(labels):
    return ", ".join(value for key, value in labels.items() if key != "__name__") or "value"


def shown(value, unit):
    """A number as Grafana's unit has it, roughly."""
    if unit == "bytes":
        return f"{value / 2**20:.1f} MiB"
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{text} s" if unit == "s" else text


def chart(series, unit, width, height, start, end):
    """Lines over time, with a legend."""
    values = [value for _, points in series for _, value in points]
    low, high = min(0.0, *values), max(values) or 1.0
    span = (high - low) or 1.0
    plot = height - 48
    lines = []
    for index, (_, points) in enumerate(series[:10]):
        path = " ".join(
            f"{(at - start) / (end - start) * (width - 60) + 50:.1f},{plot - (value - low) / span * (plot - 14) + 4:.1f}"
            for at, value in points
        )
        lines.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[index]}" stroke-width="1.6"/>')
    names = []
    for index, (name, _) in enumerate(series[:6]):
        names.append(f'<tspan fill="{COLOURS[index]}"> ▬ {html.escape(name[:34])}</tspan>')
    return (
        f'<svg width="{width}" height="{height}"><g font-size="11" fill="#9aa0a6">'
        f'<text x="4" y="16">{shown(high, unit)}</text><text x="4" y="{plot}">{shown(low, unit)}</text>'
        f'<line x1="50" x2="{width - 10}" y1="{plot + 4}" y2="{plot + 4}" stroke="#3a3f47"/>{"".join(lines)}'
        f'<text x="50" y="{height - 22}">{"".join(names)}</text></g></svg>'
    )


def body_of(panel, answers, width, height, start, end):
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
    series = [one for answer in answers for one in answer]
    if not series:
        return '<p class="none">No data</p>'
    if panel["type"] == "stat":
        return f'<p class="figure">{shown(series[0][1][-1][1], unit)}</p>'
    if panel["type"] == "table":
        rows = [
            f"<tr><td>{html.escape(name)}</td><td>{shown(points[-1][1], unit)}</td></tr>"
            for name, points in series[:8]
        ]
        return f"<table>{''.join(rows)}</table>"
    return chart(series, unit, width, height, start, end)


def page(dashboard, address, start, end):
    parts, bottom = [], 0
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        left, top = place["x"] * CELL[0], place["y"] * CELL[1]
        width, height = place["w"] * CELL[0] - 8, place["h"] * CELL[1] - 8
        bottom = max(bottom, top + height)
        title = html.escape(panel["title"])
        inside = ""
        if panel["type"] != "row":
            answers = [ask(address, target, start, end) for target in panel["targets"]]
            inside = body_of(panel, answers, width - 16, height - 30, start, end)
        style = f"left:{left}px;top:{top}px;width:{width}px;height:{height}px"
        parts.append(f'<div class="{panel["type"]}" style="{style}"><b>{title}</b>{inside}</div>')
    css = (
        "body{margin:12px;background:#111217;color:#d8d9da;font:13px 'DejaVu Sans',sans-serif}"
        "div{position:absolute;background:#181b1f;border:1px solid #2c3235;padding:6px 8px;box-sizing:border-box;overflow:hidden}"
        "div.row{background:none;border:0;padding:0;font-size:14px}.figure{font-size:30px;margin:6px 0;color:#73bf69}"
        ".none{color:#6e7276}td{padding:2px 14px 2px 0;font-size:12px}main{position:relative}"
    )
    return f"<!doctype html><meta charset=utf-8><style>{css}</style><main>{''.join(parts)}</main>", bottom


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=int, default=200, help="how long the nodes are watched")
    arguments = parser.parse_args()
    dashboard = json.loads((ROOT / "monitoring/dashboard.json").read_text())
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        targets = [
            (node, group, world(stack, arguments.binary, folder, node, body)) for node, (group, body) in NODES.items()
        ]
        address = prometheus(stack, folder, targets)
        start = time.time()
        time.sleep(arguments.seconds)
        text, bottom = page(dashboard, address, start, time.time())
        (folder / "page.html").write_text(text)
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-quic"]
        command += ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--user-data-dir={folder}/chromium", f"--window-size={24 * CELL[0] + 24},{bottom + 24}"]
        command += [f"--screenshot={pathlib.Path(arguments.out).resolve()}", f"file://{folder}/page.html"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


if __name__ == "__main__":
    main()
