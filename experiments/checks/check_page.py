"""Drives the page of `retort-edge serve` in a real Chromium, as people would: mouse, keyboard, phone, dark.

    pip install playwright
    python check_page.py RETORT_EDGE MODEL.gguf [--browser /usr/bin/chromium-headless-shell] [--pictures DIR] [--page FILE]

MODEL needs a chat template. The browser is the system's (Debian: chromium-headless-shell) or, without --browser, the one
that `playwright install chromium` fetched. --pictures keeps screenshots; --page serves another page.html than the
program's own, to look at changes without building. What is held: text arrives in pieces, Stop and Escape stop, Again
answers again, the system prompt and every sampling control reach the request and survive a reload, everything works from
the keyboard alone, errors are shown, nothing is wider than the window (1280, 768, 390 and 320 pixels, light and dark),
text stands out from what is behind it, nothing from a model becomes markup, and no request leaves the server's origin.
"""

import argparse
import json
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from served import Served, check

# Pixels by which anything on the page is wider than the window, or text wider than its box.
OVERFLOW = """window => {
  const wide = [...document.querySelectorAll("body, body *")].filter(e => {
    const box = e.getBoundingClientRect();
    if (!box.width || e.closest("pre")) return false;
    return box.right > window + 0.5 || box.left < -0.5;
  });
  const cut = [...document.querySelectorAll("button")].filter(e => e.scrollWidth > e.clientWidth + 1);
  const page = document.documentElement.scrollWidth > window ? ["page"] : [];
  return [...page, ...[...wide, ...cut].map(e => e.tagName + "#" + e.id + "." + e.className)];
}"""

# The least contrast (WCAG 2) of visible text with the first opaque background behind it.
CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let least = [21, ""];
  const scope = document.querySelector("dialog[open]") || document.body;
  for (const e of scope.querySelectorAll("*")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || e.matches("input, textarea");
    if (!own || e.disabled || !e.offsetParent || e.closest("script, style, dialog:not([open])")) continue;
    let behind = e;
    while (behind && rgb(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const a = light(rgb(getComputedStyle(e).color)), b = light(rgb(getComputedStyle(behind || document.body).backgroundColor));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least[0]) least = [ratio, e.tagName + "#" + e.id + "." + e.className];
  }
  return least;
}"""


class Page:
    """One window of the browser, and what it asked for."""

    def __init__(self, browser, address, arguments, **options):
        self.address, self.pictures = address, arguments.pictures
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.asked, self.foreign, self.errors = [], [], []
        self.page.on("request", self.note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        if arguments.page:
            text = arguments.page.read_text()
            self.page.route(f"{address}/", lambda route: route.fulfill(body=text, content_type="text/html"))
        self.page.goto(f"{address}/")
        self.until("document.title !== 'retort'")

    def until(self, condition, argument=None, seconds=60):
        """Waits for a condition; from outside, as the page's policy forbids to evaluate text within."""
        for _ in range(seconds * 50):
            if self.page.evaluate(condition, argument):
                return
            self.page.wait_for_timeout(20)
        check(f"{condition} in {seconds} seconds", False)

    def note(self, request):
        if not request.url.startswith((f"{self.address}/", "data:")):
            self.foreign.append(request.url)
        if request.url.endswith("/chat/completions"):
            self.asked.append(json.loads(request.post_data))

    def text(self, selector):
        return self.page.locator(selector).last.inner_text()

    def wait_idle(self):
        self.until("document.getElementById('send').textContent === 'Send'", seconds=120)

    def wait_busy(self):
        self.until("document.getElementById('send').textContent === 'Stop'")

    def wait_text(self, letters):
        self.until("n => ([...document.querySelectorAll('.turn.assistant')].at(-1)?.textContent.length ?? 0) > n", letters)

    def set(self, **values):
        """Fills settings in through the dialog."""
        self.page.click("#open")
        for name, value in values.items():
            self.page.fill(f"#{name}", str(value))
        self.page.click("#close")

    def ask(self, text):
        self.page.fill("#text", text)
        self.page.click("#send")
        self.wait_idle()

    def shoot(self, name):
        if self.pictures:
            self.page.screenshot(path=self.pictures / f"{name}.png")

    def fits(self, where):
        over = self.page.evaluate(OVERFLOW, self.page.viewport_size["width"])
        check(f"{where}: nothing is wider than the window {over or ''}", not over)
        ratio, which = self.page.evaluate(CONTRAST)
        check(f"{where}: contrast of text at least 4.5 ({ratio:.1f} {which})", ratio >= 4.5)

    def done(self, where):
        check(f"{where}: no script error {self.errors or ''}", not self.errors)
        check(f"{where}: no request to another origin {self.foreign or ''}", not self.foreign)
        self.context.close()


def by_mouse(browser, address, arguments):
    p = Page(browser, address, arguments, viewport={"width": 1280, "height": 800})
    page = p.page
    p.fits("empty")
    p.shoot("empty")
    p.set(max_tokens=48, seed=3)
    page.evaluate(
        "window.seen = new Set(); new MutationObserver(() => seen.add([...document.querySelectorAll('.turn.assistant')].at(-1)?.textContent.length ?? 0))"
        ".observe(document.getElementById('talk'), { subtree: true, childList: true, characterData: true })"
    )
    p.ask("What is the capital of France?")
    first = p.text(".turn.assistant")
    check(f"an answer: {first!r}", len(first) > 0)
    steps = page.evaluate("seen.size")
    check(f"it came in {steps} steps", steps >= 3)
    check(f"figures: {p.text('#figures')}", "tokens/s" in p.text("#figures") and "MiB" in p.text("#figures"))
    page.click("#again")
    p.wait_busy()
    p.wait_idle()
    check("the same seed answers the same again", p.text(".turn.assistant") == first)
    check("one question, one answer", page.locator(".turn").count() == 2 and len(p.asked[-1]["messages"]) == 1)

    p.set(max_tokens=1500, seed="")
    page.fill("#text", "Write a very long story about the sea.")
    page.click("#send")
    p.wait_text(40)
    check("Again waits while an answer is written", page.is_disabled("#again"))
    page.click("#send")
    p.wait_idle()
    stopped = p.text(".turn.assistant")
    page.wait_for_timeout(500)
    check("Stop stops, and keeps what has come", p.text(".turn.assistant") == stopped and len(stopped) > 40)

    settings = dict(system="You are a pirate.", temperature=0.3, top_p=0.9, top_k=17, min_p=0.02, repetition_penalty=1.1, max_tokens=24, seed=5)
    p.set(**settings)
    page.reload()
    p.until("document.title !== 'retort'")
    p.ask("Who are you?")
    body = p.asked[-1]
    check("the system prompt goes first, a reload later", body["messages"][0] == {"role": "system", "content": "You are a pirate."})
    check("every control reaches the request", all(body[name] == value for name, value in settings.items() if name != "system"))
    p.ask("And what do you do?")
    check("the conversation goes along", [m["role"] for m in p.asked[-1]["messages"]] == ["system", "user", "assistant", "user"])
    p.set(temperature=99)
    p.ask("x")
    check(f"an error is shown: {p.text('.turn.note')!r}", "temperature" in p.text(".turn.note"))
    p.fits("with an error")
    p.set(temperature=0.3)
    p.ask("Try again, please.")
    check("and the next question is answered", p.page.locator(".turn.assistant").count() == 3)
    page.click("#new")
    check("New begins anew", page.locator(".turn").count() == 0 and page.is_visible("#empty"))
    p.done("by mouse")


def by_keyboard(browser, address, arguments):
    p = Page(browser, address, arguments, viewport={"width": 1280, "height": 800})
    page = p.page
    keys = page.keyboard
    focus = lambda: page.evaluate("document.activeElement.id")
    check("the keyboard begins in the message", focus() == "text")
    keys.press("Control+,")
    check("Ctrl+, opens the settings", page.locator("#settings").get_attribute("open") is not None)
    for _ in range(12):
        if focus() == "max_tokens":
            break
        keys.press("Tab")
    keys.type("400")
    keys.press("Escape")
    check("Escape closes them", page.locator("#settings").get_attribute("open") is None and focus() == "text")
    keys.type("First line")
    keys.press("Shift+Enter")
    keys.type("second line, and tell me a long story")
    check("Shift+Enter is a line", "\n" in page.input_value("#text") and not p.asked)
    keys.press("Enter")
    p.wait_busy()
    p.wait_text(20)
    keys.press("Escape")
    p.wait_idle()
    check("Enter sends with what the settings say", p.asked[-1]["max_tokens"] == 400)
    check("Escape stops", len(p.text(".turn.assistant")) > 0)
    keys.press("Control+Shift+R")
    p.wait_busy()
    p.wait_text(5)
    keys.press("Escape")
    p.wait_idle()
    check("Ctrl+Shift+R answers again", len(p.asked) == 2 and page.locator(".turn").count() == 2)
    order = []
    for _ in range(5):
        keys.press("Tab")
        order.append(focus())
    check(f"Tab reaches every button {order}", {"again", "send", "new", "open"} <= set(order))
    ring = page.evaluate("[...document.querySelectorAll('button')].map(e => (e.focus({focusVisible: true}), getComputedStyle(e).outlineStyle))")
    check("what has the focus shows it", set(ring[:4]) == {"solid"})
    keys.press("Control+Shift+K")
    check("Ctrl+Shift+K begins anew, ready to type", page.locator(".turn").count() == 0 and focus() == "text")
    p.done("by keyboard")


# What a model may say, at its worst: markup, a long word, code that is wide, an unfinished fence.
WORST = (
    "Hello <img src=x onerror='document.title=\"owned\"'> <script>document.title='owned'</script> & so on.\n\n" + "w" * 300 + "\n\n"
    "Here is a function:\n\n```python\ndef area(radius):\n    return 3.14159 * radius ** 2  # " + "wide " * 60 + "\n```\n\nIt takes "
    "the radius of a circle and returns its area.\n```sh\necho unfinished"
)


def with_key(browser, address, arguments):
    p = Page(browser, address, arguments, viewport={"width": 390, "height": 844})
    p.ask("Hello")
    check(f"without the key, the error says so: {p.text('.turn.note')!r}", "API key" in p.text(".turn.note"))
    p.set(key="secret", max_tokens=8)
    p.ask("Hello")
    check("with it, an answer", p.page.locator(".turn.assistant").count() == 1)
    kept = p.page.evaluate("Object.values(localStorage).includes('secret')")
    check("the key is not kept beyond the tab", not kept)
    p.done("with a key")


def appearance(browser, address, arguments):
    for scheme in ("light", "dark"):
        for width, height, phone in ((1280, 800, False), (768, 1024, False), (390, 844, True), (320, 568, True)):
            where = f"{width} pixels, {scheme}"
            size = {"width": width, "height": height}
            p = Page(browser, address, arguments, viewport=size, color_scheme=scheme, has_touch=phone, is_mobile=phone)
            told = [{"choices": [{"delta": {"content": WORST[i : i + 40]}}]} for i in range(0, len(WORST), 40)]
            body = "".join(f"data: {json.dumps(event)}\n\n" for event in told) + "data: [DONE]\n\n"
            p.page.route("**/v1/chat/completions", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
            p.ask("Show me a function, and " + "go on " * 30)
            check(f"{where}: what a model says is text", p.page.title() != "owned" and p.page.locator(".turn img, .turn script").count() == 0)
            p.fits(where)
            p.shoot(f"worst-{width}-{scheme}")
            p.page.unroute("**/v1/chat/completions")
            p.page.click("#open")
            check(f"{where}: no key is asked for where there is none", not p.page.is_visible("#key"))
            p.fits(f"{where}, settings")
            p.shoot(f"settings-{width}-{scheme}")
            p.page.click("#close")
            if phone:
                small = p.page.evaluate(
                    "[...document.querySelectorAll('button')].filter(e => e.offsetParent && e.getBoundingClientRect().height < 36).map(e => e.id)"
                )
                check(f"{where}: buttons can be hit {small or ''}", not small)
                p.page.focus("#text")
                p.page.keyboard.type("one")
                p.page.keyboard.press("Enter")
                check(f"{where}: Enter is a line on a phone", p.page.input_value("#text") == "one\n")
            p.done(where)


def pictures(browser, address, arguments):
    """A conversation as it is, for people to look at."""
    for name, width, height, scheme in (("page", 900, 520, "light"), ("page-phone", 390, 620, "dark")):
        phone = width < 500
        p = Page(browser, address, arguments, viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=phone, is_mobile=phone)
        p.set(temperature=0, max_tokens=120)
        p.ask("What is the capital of France?")
        p.ask("How is the weather there in spring?")
        p.page.wait_for_timeout(300)
        p.shoot(name)
        p.done(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--browser")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    with Served(arguments.program, arguments.model) as server, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=arguments.browser)
        by_mouse(browser, server.address, arguments)
        by_keyboard(browser, server.address, arguments)
        appearance(browser, server.address, arguments)
        if arguments.pictures:
            pictures(browser, server.address, arguments)
        with Served(arguments.program, arguments.model, "--api-key", "secret") as guarded:
            with_key(browser, guarded.address, arguments)
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
