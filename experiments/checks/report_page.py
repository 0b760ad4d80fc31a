#!/usr/bin/env python3
"""Whether a report's page is legible: opened in headless Chromium, texts of plots measured, pictures kept to be looked at.

    pip install playwright        # and a Chromium: --browser names it
    python3 experiments/checks/report_page.py report/index.html --pictures DIR [--browser /usr/bin/chromium-headless-shell]

Light and dark, 1280 and 360 pixels wide: nothing is loaded from elsewhere, no error on the console, no text of a plot
is small, lies over another or beyond its plot, every plot has texts on both axes, the page is no wider than its window, and on the
wide one no table has to be scrolled. One line a check; exits with 1 if any fails.
"""
import argparse
import pathlib
import sys

from playwright.sync_api import sync_playwright

TEXTS = """svg => {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim());
  const boxes = texts.map(t => ({text: t.textContent.trim(), box: t.getBoundingClientRect()}));
  const over = [];
  for (let i = 0; i < boxes.length; i++) {
    const a = boxes[i].box;
    if (Math.min(a.height, a.width * 4) < 11) over.push(boxes[i].text + ' is ' + a.height + ' pixels high');
    if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1 || a.bottom > frame.bottom + 1)
      over.push(boxes[i].text + ' leaves the plot');
    for (let j = 0; j < i; j++) {
      const b = boxes[j].box;
      // A line's box has room above and below its letters.
      const w = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (w > 1 && h > 0.35 * Math.min(a.height, b.height)) over.push(boxes[i].text + ' over ' + boxes[j].text);
    }
  }
  return {count: boxes.length, over};
}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("--pictures", type=pathlib.Path, required=True)
    parser.add_argument("--browser", help="Chromium's executable, where playwright has none")
    args = parser.parse_args()
    args.pictures.mkdir(parents=True, exist_ok=True)
    failed = 0

    def check(what, is_so, detail=""):
        nonlocal failed
        failed += not is_so
        print(("ok      " if is_so else "FAILED  ") + what + (f": {detail}" if detail and not is_so else ""))

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=args.browser)
        for scheme in ("light", "dark"):
            for width in (1280, 360):
                where = f"{scheme}, {width} pixels"
                page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
                asked, said = [], []
                page.on("request", lambda request: asked.append(request.url))
                page.on("console", lambda message: said.append(message.text))
                page.on("pageerror", lambda error: said.append(str(error)))
                page.goto(args.page.resolve().as_uri())
                check(f"{where}: one file", len(asked) == 1, asked)
                check(f"{where}: no error", not said, said)
                plots = page.query_selector_all("svg")
                check(f"{where}: plots", bool(plots))
                for title, plot in zip(page.query_selector_all("figure"), plots):
                    name = title.evaluate("f => f.previousElementSibling.textContent")
                    found = plot.evaluate(TEXTS)
                    check(f"{where}: {name}: {found['count']} texts", found["count"] > 8 and not found["over"], found["over"])
                if width > 1000:
                    wide = "[...document.querySelectorAll('.wide')].filter(d => d.scrollWidth > d.clientWidth).length"
                    check(f"{where}: tables whole", page.evaluate(wide) == 0)
                beyond = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
                check(f"{where}: no wider than its window", beyond <= 0, beyond)
                page.screenshot(path=args.pictures / f"report-{scheme}-{width}.png", full_page=True)
                page.close()
        browser.close()
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
