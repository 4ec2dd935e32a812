"""The explorer in a real browser: Debian's Chromium, driven by Playwright, in JupyterLab and as a Voilà page.

One journey each: move a slider, type an expression, type nonsense, go around with the keyboard, play, render, watch, copy; bring a voice,
record one, mix it, keep it as a preset and load it again; two hundred random actions, after which everything says the same.
Screenshots are kept in `out/`, to be looked at. Without Chromium or Playwright nothing is tested, and pytest says so.
"""
import hashlib
import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = "/usr/bin/chromium"
FLAGS = ("--no-sandbox --headless --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync").split()
LACKS = [what for what, here in (("Chromium (Debian: apt-get install chromium)", Path(CHROMIUM).exists()),
                                 ("the package playwright", find_spec("playwright")), ("the package voila", find_spec("voila")),
                                 ("JupyterLab", find_spec("jupyterlab"))) if not here]
pytestmark = pytest.mark.skipif(bool(LACKS), reason=f"no browser tests: this machine lacks {', '.join(LACKS)}")


def notebook(code):
    cell = dict(cell_type="code", id="one", execution_count=None, metadata={}, outputs=[], source=code)
    spec = {"display_name": "python3", "language": "python", "name": "python3"}
    return json.dumps(dict(cells=[cell], metadata={"kernelspec": spec}, nbformat=4, nbformat_minor=5))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def reachable(url):
    try: return urllib.request.urlopen(url, timeout=5).status == 200
    except urllib.error.HTTPError: return True
    except OSError: return False


def command(kind, folder, port, dark):
    if kind == "voila":
        return [sys.executable, "-m", "voila", "explorer.ipynb", "--no-browser", f"--port={port}",
                f"--theme={'dark' if dark else 'light'}"], f"http://127.0.0.1:{port}/"
    settings = folder/"settings"
    for name, value in (("themes", {"theme": f"JupyterLab {'Dark' if dark else 'Light'}"}),
                        ("notification", {"fetchNews": "false", "checkForUpdates": False})):
        place = settings/"@jupyterlab"/"apputils-extension"
        place.mkdir(parents=True, exist_ok=True)
        (place/f"{name}.jupyterlab-settings").write_text(json.dumps(value))
    return [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", f"--ServerApp.root_dir={folder}",
            "--IdentityProvider.token=", f"--LabApp.user_settings_dir={settings}"], f"http://127.0.0.1:{port}/lab/tree/explorer.ipynb?reset"


@contextmanager
def served(kind, folder, dark=False, code="from cmet.explorer import Explorer\nExplorer(folder='files').show()"):
    "Address of a page that shows the explorer; files it makes go to `folder/files`."
    folder = Path(folder)
    (folder/"explorer.ipynb").write_text(notebook(code))
    # Only what is installed in this environment counts, and nothing of the user's own settings.
    own = {k: str(folder/"jupyter") for k in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    port = free_port()
    run, url = command(kind, folder, port, dark)
    with open(folder/"server.log", "w") as log:
        process = subprocess.Popen(run, cwd=folder, env=os.environ | own, stdout=log, stderr=log)
        try:
            ping = f"http://127.0.0.1:{port}/" + ("lab" if kind == "lab" else "voila/static/none")
            end = time.monotonic() + 90
            while not reachable(ping):
                assert process.poll() is None and time.monotonic() < end, (folder/"server.log").read_text()[-2000:]
                time.sleep(.2)
            yield url
        finally:
            process.terminate()
            try: process.wait(20)
            except subprocess.TimeoutExpired: process.kill()


@contextmanager
def browser(profile, width=1500, height=950, flags=()):
    "A page of a new browser without a past."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        context = p.chromium.launch_persistent_context(str(profile), executable_path=CHROMIUM, args=[*FLAGS, *flags],
                                                       viewport=dict(width=width, height=height))
        context.set_default_timeout(90_000)
        try: yield context.pages[0]
        except BaseException:
            shoot(context.pages[0], f"failed_{profile.parent.name}")
            print(json.dumps(context.pages[0].evaluate(STANDS), indent=1))
            raise
        finally: context.close()


SHOWS = "() => document.querySelector('.cmet-after canvas')?.jpeg && document.querySelector('.cmet-fact')"
# A camera's first pictures are black; who looks at its preview waits for oneself.
LIT = """() => { const v = document.querySelector('.cmet-sets video'), page = new OffscreenCanvas(8, 8).getContext('2d');
    if (!v?.videoWidth) return false;
    page.drawImage(v, 0, 0, 8, 8); return page.getImageData(4, 4, 1, 1).data[0] > 60 }"""
STANDS = """() => [...document.querySelectorAll('.jupyter-widgets-error-widget')].map(e => e.click()) && ({prompts: [...document.querySelectorAll('.jp-InputPrompt')].map(p => p.innerText),
    outputs: [...document.querySelectorAll('.jp-OutputArea-output')].map(o => o.innerText.slice(-800)),
    kernel: document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status, focus: document.activeElement.className,
    dialog: document.querySelector('.jp-Dialog')?.innerText, page: document.body.innerText.slice(0, 1500)})"""


def living(url):
    "Kernels of a server that run and that somebody listens to; none while it cannot tell."
    try:
        with urllib.request.urlopen(url.split("/lab")[0] + "/api/kernels", timeout=30) as answer: kernels = json.load(answer)
    except (OSError, ValueError): return []  # one that is just being born is answered with an error
    return [k["id"] for k in kernels if k["execution_state"] == "idle" and k["connections"]]


def run_first(page, url):
    "Run the first cell. JupyterLab calls a notebook idle before its kernel lives, and loses a cell that is run then: the server knows better."
    wait(page, lambda: living(url))
    for _ in range(4):
        page.locator(".jp-Notebook .jp-InputArea-editor").first.click()
        page.keyboard.press("Shift+Enter")
        try: return page.wait_for_function("() => document.querySelector('.jp-InputPrompt')?.innerText.match(/[*0-9]/)", timeout=15_000)
        except Exception: pass  # lost: a hand runs it again


def opened(page, kind, url):
    "The page once the explorer shows its first picture; where it does not, what stands there instead."
    said = []
    page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: said.append(str(e)))
    page.goto(url, wait_until="commit")  # the page also asks for icons in the net, which need not be there
    if kind == "lab": run_first(page, url)
    try: page.wait_for_function(SHOWS, timeout=120_000)
    except Exception as e:
        shoot(page, f"{kind}_unopened")
        raise AssertionError(json.dumps(dict(page.evaluate(STANDS), console=said[-8:]), indent=1)) from e
    return page


def picture(page, of=".cmet-after canvas"):
    "A number that stands for the picture that was drawn: the edited face, or another."
    return page.evaluate("""async of => {
        const h = await crypto.subtle.digest('SHA-1', document.querySelector(of).jpeg);
        return Array.from(new Uint8Array(h)).join() }""", of)


def settled(page, seconds=1.):
    "The picture, once it has not changed for a while."
    last, since = picture(page), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(.1)
        if (now := picture(page)) != last: last, since = now, time.monotonic()
    return last


def drawn(page, wish):
    "The picture of a wish. The code below it names what was drawn last, also where a busy machine was still for longer than `settled` waits."
    wait(page, lambda: wish() in page.locator(".cmet-code").inner_text())
    return settled(page)


def slider(page, name): return page.locator(".cmet .widget-slider").filter(has=page.get_by_text(name, exact=True))
def value(page, name): return float(slider(page, name).locator(".widget-readout").inner_text().replace("−", "-"))
def box(page): return page.locator(".cmet .widget-text", has_text="Expression").locator("input")


def wait(page, what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(.05)


def move_a_slider(page):
    before, unedited = settled(page), picture(page, ".cmet-faces canvas")
    slider(page, "sad").locator(".noUi-handle").focus()
    for _ in range(20): page.keyboard.press("ArrowRight")
    wait(page, lambda: value(page, "sad") == 1 and value(page, "neutral") == -2)
    wait(page, lambda: box(page).input_value() == "happy + sad")
    assert drawn(page, lambda: "'happy + sad'") != before
    assert picture(page, ".cmet-faces canvas") == unedited != picture(page), "the unedited face stays"


def drag(page):
    "A quick hand: sixty places in less than a second; the face is right as soon as the hand rests."
    before = settled(page)
    handle = slider(page, "surprised").locator(".noUi-handle").bounding_box()  # where it is now: words that came may have moved it
    x, y = handle["x"] + handle["width"]/2, handle["y"] + handle["height"]/2
    page.mouse.move(x, y)
    page.mouse.down()
    for k in range(60): page.mouse.move(x + k, y)
    page.mouse.up()
    wait(page, lambda: value(page, "surprised") > .5)
    dragged, at = drawn(page, lambda: f"{value(page, 'surprised'):g}*surprised"), value(page, "surprised")
    assert dragged != before
    box(page).fill(box(page).input_value())
    box(page).press("Enter")
    assert settled(page) == dragged and value(page, "surprised") == at, "nothing was still under way"


def type_an_expression(page):
    before = settled(page)
    box(page).fill("1.5*joy - anger - .5*neutral")
    box(page).press("Enter")
    wait(page, lambda: [value(page, n) for n in ("happy", "angry", "neutral", "sad", "surprised")] == [1.5, -1, -.5, 0, 0])
    assert drawn(page, lambda: "1.5*happy") != before and box(page).input_value() == "1.5*joy - anger - .5*neutral"


def type_nonsense(page):
    before = settled(page)
    for text, message in (("1.5*joi - anger", "did you mean happy?"), ("happy -", "cannot read the expression"),
                          ("<b>happy</b>", "cannot read the expression")):
        box(page).fill(text)
        box(page).press("Enter")
        page.locator(".cmet .cmet-bad[role=alert]", has_text=message).wait_for()
    assert settled(page) == before and value(page, "happy") == 1.5
    box(page).fill("happy - neutral")
    box(page).press("Enter")
    wait(page, lambda: not page.locator(".cmet-bad[role=alert]", has_text="cannot read").count())


def stand_in_line(page):
    "A voice of one's own had its number beside the bin, and a whole number stood further in than one with a sign."
    ends = page.evaluate("""() => [...document.querySelectorAll('.cmet-sets .widget-slider')].filter(s => s.offsetParent).map(s => {
        const edge = (part, side) => Math.round(s.querySelector(part).getBoundingClientRect()[side]), text = document.createRange();
        text.selectNodeContents(s.querySelector('.widget-readout'));
        return [edge('.noUi-base', 'left'), edge('.noUi-base', 'right'), Math.round(text.getBoundingClientRect().right)] })""")
    assert len(ends) > 9 and len(set(map(tuple, ends))) == 1, ends


def one_accent(page):
    "The face that is chosen, the first button and what a hand is at were marked by four blues."
    box(page).focus()
    colours = page.evaluate("""() => { const of = (q, what) => getComputedStyle(document.querySelector('.cmet ' + q))[what];
        return [of('.cmet-out .mod-primary', 'backgroundColor'), of('.cmet-gallery [aria-pressed=true]', 'outlineColor'), of('input:focus', 'borderTopColor')] }""")
    assert len(set(colours)) == 1, colours


def one_minus(page):
    "Bars and sentences had the keyboard's hyphen, and sliders a minus; what is to be copied or typed has the first."
    said = page.evaluate("""() => { const page = document.querySelector('.cmet').cloneNode(true);
        page.querySelectorAll('style, pre, code, select, input').forEach(e => e.remove());
        return [page.textContent, ...[...page.querySelectorAll('[aria-label]')].map(e => e.ariaLabel)].join(' | ') }""")
    assert "−" in said and not (found := re.findall(r".{20}[^\w]-[\d.]+", said)), found


def a_line_to_compare(page):
    "What is edited is said where there is something unedited beside it, and room for the word."
    line, seen = page.locator(".cmet-faces input"), []
    for cut in (4, 15, 50, 90, 4):
        line.fill(str(cut))
        seen.append("".join(page.locator(".cmet-faces i").evaluate_all("all => all.map(e => getComputedStyle(e).opacity)")))
    assert seen == ["00", "01", "11", "10", "00"], seen


def go_around(page):
    "Everything that can be clicked is reached with the Tab key (neutral only follows the others)."
    named = page.evaluate("() => [...document.querySelectorAll('.cmet [role=slider], .cmet .widget-play button')].map(e => e.ariaLabel)")
    assert {"happy", "strength", "brows", "moment", "play or pause"} <= set(named) and all(named), "a screen reader says what each one is"
    still = page.evaluate("() => [...document.querySelectorAll('.cmet [role=slider][aria-disabled=true]')].map(e => e.ariaLabel)")
    assert still == ["neutral"], "and which one does not move"
    why = slider(page, "neutral").locator("[role=slider]")
    assert "takes away" in why.get_attribute("aria-description") == slider(page, "neutral").get_attribute("title"), "and why"
    box(page).focus()
    seen = set()
    for _ in range(110):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("""() => { const e = document.activeElement;
            const f = e.closest('.widget-inline-hbox, .widget-slider, .widget-text, .widget-dropdown, .widget-checkbox');
            return ((f?.querySelector('label')?.innerText || e.innerText || e.title || e.className) + '').trim() }"""))
    wanted = {"happy", "surprised", "strength", "Parts of the face", "preset", "Save preset", "moment", "face", "mapper", "codec", "Render video", "PNG", "GIF",
              "CSV", "ARKit JSON", "copy", "add sound files", "● record", "upload a face", "camera", "drag to compare", "built-in portrait"}
    assert wanted <= seen, wanted - seen


def play(page):
    page.locator(".cmet .jupyter-widgets.widget-play button, .cmet .widget-play button").first.click()
    first = value(page, "moment")
    wait(page, lambda: value(page, "moment") > first + 5)
    page.locator(".cmet .widget-play button").first.click()
    settled(page)


def render(page, folder):
    page.get_by_role("button", name="Render video").click()
    page.locator(".cmet-saved").wait_for()
    from cmet.io.media import read_video
    made, = (folder/"files").glob("*.mp4")
    frames, fps = read_video(made)
    assert len(frames) == 138 and fps == 25 and made.with_suffix(".json").exists()
    assert page.locator(".cmet-saved a").get_attribute("download") == made.name
    assert page.locator(".cmet-saved code").inner_text() == str(made), "in full: who knows where the kernel was started?"
    with page.expect_download() as fetched: page.locator(".cmet-saved a").click()
    assert Path(fetched.value.path()).read_bytes() == made.read_bytes()
    seconds, moved, wide = page.locator(".cmet video").evaluate("""async v => { v.muted = true; await v.play();
        await new Promise(done => setTimeout(done, 700)); v.pause(); return [v.duration, v.currentTime, v.videoWidth] }""")
    assert abs(seconds - 138/25) < .1 and moved > .1 and wide == 256, "it plays in place"
    assert in_sight(page, page.locator(".cmet-out video"))
    page.get_by_role("button", name="Render video").click()
    page.get_by_role("button", name="Cancel").click()
    page.locator(".cmet .cmet-note", has_text="cancelled").wait_for()
    assert len(list((folder/"files").glob("*.mp4"))) == 1


def copy(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".cmet-code .cmet-copy").click()
    wait(page, lambda: page.locator(".cmet-code .cmet-copy").inner_text() == "copied")
    text = page.evaluate("() => navigator.clipboard.readText()")
    assert re.search(r"^from cmet.edit import edit_video$", text, re.M) and len(text.strip().splitlines()) == 3
    compile(text, "copied", "exec")


def pixels(part):
    "What is seen of a part of the page, int [H, W, 3]."
    import io

    import numpy as np
    from PIL import Image
    part.scroll_into_view_if_needed()
    return np.asarray(Image.open(io.BytesIO(part.screenshot())).convert("RGB")).astype(int)


def chart(page): return pixels(page.locator(".cmet-chart")).reshape(-1, 3)
def coloured(page): return (chart(page).max(1) - chart(page).min(1) > 60).mean() > .005
def in_sight(page, part): return (b := part.bounding_box())["y"] >= 0 and b["y"] + b["height"] <= page.viewport_size["height"] + 1


def look_at_first(page):
    "The face's shadow lay on the line's frame, and the button for which one comes stood below what a window shows."
    frame = pixels(box(page))[-1]
    assert (abs(frame[8:-8] - frame[8]).max() < 8), "the frame is whole"
    assert in_sight(page, page.get_by_role("button", name="Render video"))


def change_the_theme(page, kind):
    "While the page is open: by the system, or in JupyterLab's menu, which hid all for a moment and left an empty map."
    if kind == "voila": page.emulate_media(color_scheme="dark")
    else:
        page.get_by_text("Settings", exact=True).first.click()
        page.get_by_text("Theme", exact=True).first.hover()
        page.get_by_text("JupyterLab Dark", exact=True).first.click()
    wait(page, lambda: chart(page).mean() < 128)
    time.sleep(1)
    see_the_dark(page)
    assert coloured(page)
    rims = (abs(chart(page) - 136) < 24).all(1).mean()
    assert rims > .0015, "a dark dot is seen on a dark page by its grey rim"


def end_of(page, *names): return [float(page.locator(".cmet-chart svg > *").nth("xc".index(names[0][0])).get_attribute(n)) for n in names]


def see_a_map(page):
    "Dots in several colours; one is read where the pointer rests; the arrow follows a slider; keys and wheel zoom."
    assert coloured(page)
    box_ = page.locator(".cmet-chart").bounding_box()
    x, y = end_of(page, "x1", "y1")
    page.mouse.move(box_["x"] + x + 2, box_["y"] + y)
    page.locator(".cmet-chart p", has_text="neutral").wait_for()
    before = end_of(page, "cx", "cy")
    middle = box_["width"]/2
    page.locator(".cmet-chart svg").focus()
    page.keyboard.press("+")
    wait(page, lambda: abs((end_of(page, "cx")[0] - middle)/(before[0] - middle) - 1.3) < .05)
    page.keyboard.press("0")
    wait(page, lambda: end_of(page, "cx", "cy") == before)
    slider(page, "happy").locator(".noUi-handle").focus()
    page.keyboard.press("ArrowLeft")
    wait(page, lambda: end_of(page, "cx", "cy") != before)
    page.get_by_role("button", name=re.compile(r"\bReset")).click()
    wait(page, lambda: value(page, "happy") == 1 and end_of(page, "cx", "cy") == before)


def shoot(page, name):
    (ROOT/"out").mkdir(exist_ok=True)
    page.screenshot(path=str(ROOT/"out"/f"explorer_{name}.png"))


@pytest.mark.parametrize("kind", ["lab", "voila"])
def test_a_journey(kind, tmp_path):
    with served(kind, tmp_path) as url, browser(tmp_path/"profile") as page:
        opened(page, kind, url)
        time.sleep(1)
        shoot(page, f"{kind}_light")
        look_at_first(page)
        one_accent(page)
        a_line_to_compare(page)
        see_a_map(page)
        move_a_slider(page)
        drag(page)
        type_an_expression(page)
        one_minus(page)
        type_nonsense(page)
        go_around(page)
        play(page)
        render(page, tmp_path)
        copy(page)
        shoot(page, f"{kind}_done")
        change_the_theme(page, kind)
        if kind == "voila": on_a_phone(page)


def on_a_phone(page):
    "The face scrolled away, and the sliders below moved what nobody saw."
    top = lambda part: page.evaluate("part => document.querySelector(part).getBoundingClientRect().top", part)
    page.set_viewport_size(dict(width=400, height=800))
    page.wait_for_function("() => document.querySelector('.cmet-page').getBoundingClientRect().width < 400")
    page.evaluate("() => document.querySelector('.cmet-meant').scrollIntoView()")
    wait(page, lambda: top(".cmet-meant") < 400 and top(".cmet-sets") < 0)
    assert 0 <= top(".cmet-faces") < 100
    page.get_by_role("button", name="Render video").evaluate("b => b.scrollIntoView()")  # what comes into sight, as a new video, is not to lie under the face
    wait(page, lambda: top(".cmet-out .mod-primary") >= page.locator(".cmet-faces").evaluate("f => f.getBoundingClientRect().bottom"), 5)


def bring(page, button, *paths):
    from playwright.sync_api import TimeoutError
    for again in range(6):  # a message that appears under the hand moves the button away: a hand presses it again
        try:
            with page.expect_file_chooser(timeout=15_000) as chosen: page.get_by_role("button", name=button).click()
            break
        except TimeoutError:
            if again == 5: raise
    chosen.value.set_files([str(p) for p in paths])


def see_oneself(page):
    from playwright.sync_api import TimeoutError
    for again in range(4):  # words that come under the hand move this button away, too
        if not page.locator(".cmet-sets video").count(): page.get_by_role("button", name="camera").click()
        try:
            page.locator(".cmet-sets video").first.scroll_into_view_if_needed(timeout=25_000)  # out of sight a browser may not play it
            return page.wait_for_function(LIT, timeout=25_000)
        except TimeoutError:
            if again == 3: raise


def heard(page): return page.locator(".cmet-sets .cmet-fact")


def see_the_dark(page):
    import numpy as np
    ink, paper = page.evaluate("""() => { const lum = c => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)/765;
        let e = document.querySelector('.cmet'); const ink = getComputedStyle(e).color;
        while (e && /rgba\\(.*, 0\\)|transparent/.test(getComputedStyle(e).backgroundColor)) e = e.parentElement;
        return [lum(ink), e ? lum(getComputedStyle(e).backgroundColor) : 1] }""")
    assert ink > .6 and paper < .35, "light text on a dark page"
    assert np.median(chart(page)) < 90, "and a dark map"


@pytest.mark.parametrize("kind", ["lab", "voila"])
def test_a_voice_of_ones_own_on_a_dark_page(kind, tmp_path):
    "Bring a voice, mix it, keep it as a preset, load that again; bring what is no voice; bring a face; record. The page has a dark theme."
    from PIL import Image

    from cmet.core import builtin
    from cmet.io.media import open_video, read_audio, write_audio
    speech = [builtin(f"speech/F01_angry_3_00{k}.flac") for k in (1, 2, 3)]
    write_audio(tmp_path/"spoken.wav", read_audio(builtin("speech/M01_sad_3_001.flac"), 48000), 48000)
    Image.fromarray(next(iter(open_video(builtin("portrait.mp4")).frames()))).resize((480, 480)).save(tmp_path/"seen.mjpeg", "JPEG")  # a film of one picture
    microphone = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                  f"--use-file-for-fake-audio-capture={tmp_path/'spoken.wav'}", f"--use-file-for-fake-video-capture={tmp_path/'seen.mjpeg'}"]
    with served(kind, tmp_path, dark=True) as url, browser(tmp_path/"profile", flags=microphone) as page:
        opened(page, kind, url)
        see_the_dark(page)
        shoot(page, f"{kind}_dark")
        first = settled(page)
        bring(page, "add sound files", *speech)
        heard(page).filter(has_text="3 clips, against a guessed neutral").wait_for()
        alone = settled(page)
        assert alone != first and box(page).input_value() == "f01_angry_3" and value(page, "f01_angry_3") == 1
        page.locator(".cmet-key", has_text="f01_angry_3").wait_for()
        assert page.locator(".cmet").inner_text().count("against a guessed neutral") == 1, "it was said in two places"
        stand_in_line(page)
        one_accent(page)
        slider(page, "happy").locator(".noUi-handle").focus()
        for _ in range(10): page.keyboard.press("ArrowRight")
        wait(page, lambda: box(page).input_value() == "0.5*happy + f01_angry_3")
        mixed = drawn(page, lambda: "vector='0.5*happy + voice'")
        assert mixed != alone
        called = page.locator(".cmet-own .widget-text input")
        for typed, name in ("Anna!", "anna"), ("f01 angry 3", "f01_angry_3"):
            called.fill(typed)
            called.press("Enter")
            wait(page, lambda name=name: (box(page).input_value(), called.input_value()) == (f"0.5*happy + {name}", name))
            assert settled(page) == mixed and value(page, name) == 1, "the same voice, by another name"
        page.get_by_role("button", name="Save preset").click()
        box(page).fill("sad")
        box(page).press("Enter")
        assert drawn(page, lambda: "'sad") != mixed
        page.locator(".widget-dropdown", has_text="preset").locator("select").select_option("0.5*happy + f01_angry_3 | strength 1")
        wait(page, lambda: value(page, "happy") == .5 and value(page, "f01_angry_3") == 1)
        wait(page, lambda: settled(page) == mixed)
        (tmp_path/"broken.flac").write_bytes(b"no sound")
        bring(page, "add sound files", tmp_path/"broken.flac")
        page.locator(".cmet-out .cmet-bad[role=alert]", has_text="broken.flac").wait_for()
        assert settled(page) == mixed and value(page, "happy") == .5 and slider(page, "broken").count() == 0
        page.locator(".widget-dropdown", has_text="codec").locator("select").select_option("mesh")  # chosen already: no change, but something done
        wait(page, lambda: not page.locator(".cmet-bad[role=alert]").count())
        wide = Image.new("RGB", (1200, 700), (90, 110, 90))
        wide.paste(Image.fromarray(next(iter(open_video(builtin("portrait.mp4")).frames()))).resize((512, 512)), (500, 100))
        wide.save(tmp_path/"me.png")
        bring(page, "upload a face", tmp_path/"me.png")
        page.wait_for_function("() => document.querySelector('.cmet-after canvas').width > 500")
        box_ = page.locator(".cmet-after canvas").bounding_box()
        assert box_["width"] >= 512 and abs(box_["width"] - box_["height"]) < 2, "the face fills a large square"
        shoot(page, f"{kind}_voice")
        mine = settled(page)
        for name in ("built-in portrait", "me.png"):
            page.locator(".cmet-gallery").get_by_role("button", name=f"face {name}").click()
            wait(page, lambda name=name: ("me.png" in page.locator(".cmet-code").inner_text()) == (name == "me.png"))
            assert (settled(page) == mine) == (name == "me.png") and page.locator(".cmet-gallery [aria-pressed=true]").get_attribute("title") == name
        page.get_by_role("button", name="● record").click()
        page.get_by_role("button", name="■ stop").wait_for()
        time.sleep(4)
        page.get_by_role("button", name="■ stop").click()
        heard(page).filter(has_text="my_voice").wait_for()
        assert box(page).input_value() == "my_voice" and list((tmp_path/"files"/"uploads").glob("my_voice.*"))
        see_oneself(page)
        page.get_by_role("button", name="take the picture").click()
        page.locator(".cmet-sets .widget-dropdown option", has_text="camera.jpg").wait_for(state="attached")
        page.wait_for_function("() => document.querySelector('.cmet-after canvas').width == 480")
        assert not page.locator(".cmet-sets video").count() and list((tmp_path/"files"/"uploads").glob("camera*.jpg")), "the camera is let go"
        for width in (800, 400):
            page.set_viewport_size(dict(width=width, height=900))
            time.sleep(1)
            shoot(page, f"{kind}_{width}")
            if kind == "voila": assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
        if kind == "voila":  # on a phone the message stood two screens above the button, and nobody saw it
            bring(page, "add sound files", tmp_path/"broken.flac")
            wait(page, lambda: in_sight(page, page.locator(".cmet-out .cmet-bad[role=alert]")), 15)


SEEN = """() => {
    const text = q => document.querySelector('.cmet ' + q)?.innerText || '', number = t => parseFloat(t.replace('−', '-'));
    const field = n => [...document.querySelectorAll('.cmet .widget-dropdown')].find(d => d.innerText.startsWith(n)).querySelector('select').value;
    return {box: document.querySelector('.cmet .widget-text input').value, alert: text('.cmet-bad[role=alert]'), preset: text('.cmet-sets code'),
        code: text('.cmet-code pre'), face: document.querySelector('.cmet-gallery [aria-pressed=true]').title, list: field('face'), mapper: field('mapper').split(' (')[0], wrong: !!document.querySelector('.cmet .cmet-wrong'),
        numbers: Object.fromEntries([...document.querySelectorAll('.cmet .widget-slider')].map(s =>
            [s.querySelector('label').innerText, number(s.querySelector('.widget-readout').innerText)]))} }"""


def act(page, g, files):
    "One thing that a hand may do."
    def write(*texts): box(page).fill(g.choice(texts)); box(page).press("Enter")
    def press(name):
        slider(page, name).locator(".noUi-handle").focus()
        for _ in range(g.randrange(1, 9)): page.keyboard.press(g.choice(["ArrowRight", "ArrowRight", "ArrowLeft"]))
    def choose(name, *values): page.locator(".widget-dropdown", has_text=name).locator("select").select_option(g.choice(values))
    g.choice([*[lambda: press(g.choice(["happy", "sad", "angry", "surprised", "fear", "strength", "brows", "mouth", "left"]))]*5,
              lambda: write("joy - .5*sadness", "1.5*surprised + fear", "happy", "0.33*happy - .41*sad", "calm | strength 1.27", "sad | strength 1.1 | eyes 0.35"),
              lambda: (write("1.35*angry", "2.2*fear"), write("0.6*happy", "1.15*sad")), lambda: write("happi", "happy -", "<b>"),
              lambda: choose("preset", "0.6*happy | strength 1", "0.7*sad + 0.5*angry | strength 1"), lambda: choose("mapper", "auto", "ridge (synthetic voices)"),
              lambda: bring(page, "add sound files", files[0]), lambda: bring(page, "upload a face", files[1])])()


LISTENING = """import cmet.explorer.widgets as ours
from cmet.explorer import Explorer
take = ours.Number.set_state
def heard(self, state): print(self.description, state, file=open("heard", "a")); take(self, state)
ours.Number.set_state = heard
Explorer(folder='files').show()"""


def sliders_that_are_set_answer_nothing(page, heard):
    "A late answer of the browser would be taken for a hand, and turn the state back."
    for text, *shown in (("0.33*happy - .41*sad", .33, .08, 1), ("1.15*joy + 2.2*sad + 1.4*fear", 1.15, -4.75, 1), ("-.45*happy | strength 1.27", -.45, .45, 1.27)):
        box(page).fill(text)
        box(page).press("Enter")
        wait(page, lambda shown=shown: [value(page, n) for n in ("happy", "neutral", "strength")] == shown)
        settled(page)
    assert not heard.exists(), heard.read_text()
    slider(page, "happy").locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    wait(page, lambda: value(page, "happy") == -.4 and heard.exists())


def test_random_actions_leave_nothing_that_contradicts(tmp_path):
    "What is read off the page agrees with itself, and its picture is the one that the kit makes of the expression that is read off."
    from cmet.core import CmetError
    from cmet.explorer.preview import Scene, Wish
    from cmet.face.regions import PARTS
    from cmet.explorer.voices import read_preset, read_weights
    from cmet.explorer.widgets import jpeg
    g, scene, files = random.Random(0), Scene(), [tmp_path/"broken.flac", tmp_path/"broken.png"]
    for f in files: f.write_bytes(b"neither sound nor picture")

    def agrees(seen, shown):
        names = scene.voice(seen["mapper"]).parts
        try:
            told = read_preset(seen["preset"], names)
            assert seen["wrong"] or read_weights(seen["box"] or "0*neutral", names) == told["weights"]
        except CmetError: return False  # something is under way still
        *_, view = scene.look(Wish(tuple(told["weights"].items()), told["strength"], 20, mapper=seen["mapper"], regions=told["regions"]))
        parts = dict.fromkeys(PARTS, 1) | dict(told["regions"])
        assert all(abs(seen["numbers"].get(n, 0) - k) < .006 for n, k in (told["weights"] | {"strength": told["strength"]} | parts).items())
        told_code = f"regions={told['regions']!r}" if told["regions"] else f"vector='{seen['preset'].split(' |')[0]}', strength={told['strength']}"
        assert told_code in seen["code"] and seen["face"] == seen["list"] == "built-in portrait"
        return hashlib.sha1(jpeg(view.after)).digest() == bytes(map(int, shown.split(",")))

    with served("voila", tmp_path, code=LISTENING) as url, browser(tmp_path/"profile") as page:
        opened(page, "voila", url)
        sliders_that_are_set_answer_nothing(page, tmp_path/"heard")
        page.get_by_role("button", name="Parts of the face").click()
        for _ in range(50):
            for _ in range(4): act(page, g, files)
            last, end = None, 0
            while True:
                now = page.evaluate(SEEN), picture(page)
                if now != last: last, end = now, time.monotonic() + 60  # it is at rest once nothing has changed for long
                try:
                    if agrees(*now): break
                except AssertionError:
                    if time.monotonic() > end: raise
                assert time.monotonic() < end, now[0]
                time.sleep(.2)


def test_make_app_starts_this_page():
    if not shutil.which("make"): pytest.skip("no make here")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    run = subprocess.run(["make", "-n", "app"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert "voila nbs/tutorials/explorer.ipynb" in run.stdout, run.stderr


def test_strangers_start_no_kernel(tmp_path):
    "The options of `make app`, on a small page: without the token, or under another name of this machine, nothing runs."
    if not shutil.which("make"): pytest.skip("no make here")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))} | {"HOME": str(tmp_path)}
    line = subprocess.run(["make", "-n", "app"], cwd=ROOT, env=env, capture_output=True, text=True).stdout.replace("\\\n", " ")
    options = shlex.split(line[line.index("explorer.ipynb") + len("explorer.ipynb"):].splitlines()[0])
    assert "--token" in options and "--MappingKernelManager.cull_idle_timeout=600" in options
    (tmp_path/"explorer.ipynb").write_text(notebook("open('visited', 'a').write('x')"))
    port = free_port()
    def visit(query="", host="localhost"):
        ask = urllib.request.Request(f"http://127.0.0.1:{port}/{query}", headers={"Host": f"{host}:{port}"})
        try:
            with urllib.request.urlopen(ask, timeout=120) as answer: return answer.read() and answer.status, answer.url
        except urllib.error.HTTPError as e: return e.code, e.url
    options = ["--Voila.token=secret" if o == "--token" else o for o in options]
    run = [sys.executable, "-m", "voila", "explorer.ipynb", "--no-browser", f"--port={port}", *options]
    with open(tmp_path/"server.log", "w") as log: process = subprocess.Popen(run, cwd=tmp_path, env=env, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 90
        while not reachable(f"http://127.0.0.1:{port}/voila/static/none"):
            assert process.poll() is None and time.monotonic() < end, (tmp_path/"server.log").read_text()[-2000:]
            time.sleep(.2)
        assert "/login" in visit()[1] and "/login" in visit("?token=guess")[1]
        assert visit("?token=secret", "rebound.example.org")[0] == 403
        assert not (tmp_path/"visited").exists()
        assert visit("?token=secret")[0] == 200 and (tmp_path/"visited").read_text() == "x"
    finally:
        process.terminate()
        process.wait(20)
