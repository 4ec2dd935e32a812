"""How long after a slider moves is the new face there? `python benchmarks/explorer_latency.py`

(a) In the kernel: from the moment a slider's value arrives to the moment the picture is handed over, one movement at a time.
(b) In the browser, where Chromium is installed: from the key that moves the slider to the first frame painted after the
    new picture has been decoded, in JupyterLab and as a Voilà page. That is what a person waits for.
(c) Under a hand that never rests: sixty values a second; how old the shown picture is, and how many were computed at all.

Mesh codec, the built-in portrait at 256² as it is and enlarged to 512², the size of an explorer's picture, each mapper by itself.
Prints a table and stores it beside this file, as JSON and Markdown.
"""
import argparse
import itertools
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent/"tests")]
GOAL = 100  # milliseconds, 95th percentile

# Moves the slider by a key, waits for the picture, then for the frame in which it is painted.
RACE = """async n => {
  const slider = [...document.querySelectorAll('.cmet .widget-slider')].find(s => s.querySelector('label').innerText === 'happy');
  const knob = slider.querySelector('.noUi-handle'), image = document.querySelector('.cmet-after canvas'), times = [];
  const sleep = ms => new Promise(done => setTimeout(done, ms));
  for (let k = 0; k < n; k++) {
    await sleep(200 + 37*(k % 5));
    const loaded = new Promise(done => image.addEventListener('load', done, {once: true})), start = performance.now();
    knob.dispatchEvent(new KeyboardEvent('keydown', {key: k % 30 < 15 ? 'ArrowRight' : 'ArrowLeft', bubbles: true}));
    await Promise.race([loaded, sleep(5000)]);
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - start);
  }
  return times }"""


def source(side, folder):
    "The built-in portrait at a size, as a file."
    import cv2
    from cmet.core import builtin
    from cmet.io.media import read_video, write_video
    frames, fps = read_video(builtin("portrait.mp4"))
    large = (cv2.resize(f, (side, side), interpolation=cv2.INTER_CUBIC) for f in frames[:75])
    return str(write_video(Path(folder)/f"portrait_{side}.mp4", large, fps))


def explorer(mapper, path):
    from cmet.explorer import Explorer
    made = Explorer(path, mapper=mapper).wait(120)
    for k in (.5, 1.5): made.emotions.sliders["happy"].value = k; made.wait()
    return made


def in_kernel(mapper, path, n):
    "Milliseconds from a slider's new value to the new picture."
    e, times = explorer(mapper, path), []
    for k in np.tile(np.linspace(-2, 2, 41), 1 + n//41)[:n]:
        before, start = e.faces.after.value, time.perf_counter()
        e.emotions.sliders["happy"].value = float(k)
        while e.faces.after.value is before and time.perf_counter() - start < 5: time.sleep(2e-4)
        times.append((time.perf_counter() - start)*1e3)
        e.wait()
    e.live.close()
    return times


def never_resting(mapper, path, n):
    "Ages of the pictures in milliseconds while sixty values a second come in."
    e, moved, ages = explorer(mapper, path), {}, []
    inner = e.faces.show
    def show(view):
        inner(view)
        ages.append((time.perf_counter() - moved[dict(view.wish.weights)["happy"]])*1e3)
    e.faces.show = show
    for k in np.linspace(-2, 2.5, n):
        moved[round(float(k), 6)] = time.perf_counter()
        e.emotions.sliders["happy"].value = float(k)
        time.sleep(1/60)
    e.wait()
    e.live.close()
    return ages


def in_browser(kind, mapper, path, n):
    "Milliseconds from a key to the painted picture; None without a browser."
    import test_explore_browser as browser
    if browser.LACKS: return None
    code = f"from cmet.explorer import Explorer\nExplorer({path!r}, mapper={mapper!r}).show()"
    with tempfile.TemporaryDirectory() as d, browser.served(kind, d, code=code) as url, browser.browser(Path(d)/"profile") as page:
        browser.opened(page, kind, url)
        browser.settled(page, 2)
        page.evaluate(RACE, 5)
        return page.evaluate(RACE, n)


def machine():
    name = next((x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")), platform.processor()) \
        if os.path.exists("/proc/cpuinfo") else platform.processor()
    return {"processor": name, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
            "first": hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER,  # real-time priority
            "system": platform.system(), "python": platform.python_version()} | {p: version(p) for p in ("numpy", "torch", "ipywidgets")}


def measure(mappers, n, browsers, sides=(256, 512)):
    ways = {"kernel": in_kernel, "kernel, 60 values a second": lambda m, p, n: never_resting(m, p, 4*n)}
    if browsers: ways |= {"JupyterLab in Chromium": lambda m, p, n: in_browser("lab", m, p, n),
                          "Voilà in Chromium": lambda m, p, n: in_browser("voila", m, p, n)}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for side, mapper, (where, way) in itertools.product(sides, mappers, ways.items()):
            if (times := way(mapper, source(side, folder), n)) is None: continue
            rows.append([side, mapper, where, times])
            print(f"{side}², {mapper}, {where}: {np.quantile(times, .95):.0f} ms, load {machine()['load']}", file=sys.stderr)
    return {"machine": machine(), "n": n, "rows": rows}


def table(r):
    m = r["machine"]
    first = " Run with real-time priority, before all other work of the machine." if m.get("first") else ""
    lines = [f"## {m['processor']}, {m['cores']} cores" + (f" (load {m['load']})" if m["load"] else ""), "",
             f"Python {m['python']}, torch {m['torch']}, ipywidgets {m['ipywidgets']}, {m['system']}. Milliseconds from a slider "
             f"to the picture, mesh codec, {r['n']} movements; goal: 95 % below {GOAL} ms.{first}", "",
             "| picture | mapper | where | pictures | median | 95 % below | longest | goal |", "|---|---|---|---|---|---|---|---|"]
    for side, mapper, where, t in r["rows"]:
        p = np.quantile(t, .95)
        lines.append(f"| {side}² | {mapper} | {where} | {len(t)} | {np.median(t):.0f} | {p:.0f} | {max(t):.0f} | {'met' if p < GOAL else 'missed'} |")
    return "\n".join(lines + [""])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--mappers", nargs="+", default=["auto", "ridge"])
    p.add_argument("--sides", nargs="+", type=int, default=[256, 512], help="pixels of the picture")
    p.add_argument("--n", type=int, default=100, help="movements of the slider for each row")
    p.add_argument("--quick", action="store_true", help="few movements, no browser, to see that it runs; stores nothing")
    p.add_argument("--out", type=Path, default=HERE, help="folder of explorer_latency.json and explorer_latency.md")
    a = p.parse_args()
    result = measure(a.mappers, 10 if a.quick else a.n, not a.quick, a.sides)
    print(table(result))
    if a.quick: return
    a.out.mkdir(parents=True, exist_ok=True)
    rounded = result | {"rows": [[*what, np.round(t, 1).tolist()] for *what, t in result["rows"]]}
    (a.out/"explorer_latency.json").write_text(json.dumps(rounded) + "\n")
    intro = "# From slider to picture\n\nMade by `python benchmarks/explorer_latency.py`; what is measured is said at its top.\n\n"
    (a.out/"explorer_latency.md").write_text(intro + table(result))


if __name__ == "__main__": main()
