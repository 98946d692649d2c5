"""Takes the README's picture of a report in headless Chromium.

    python benchmarks/screenshot.py REPORT.html PICTURE.png

Shows the head of the page and the first item, side by side. Needs playwright, Pillow and Chromium.
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HEIGHT = 1180  # pixels of each half


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1000, "height": HEIGHT}, color_scheme="light")
        page.goto(arguments.report.resolve().as_uri())
        page.wait_for_timeout(1000)  # charts are drawn, pictures decoded
        head = page.screenshot()
        page.locator(".card").first.evaluate(
            "card => card.scrollIntoView({block: 'start', behavior: 'instant'})"
        )
        page.wait_for_timeout(2000)  # pictures of the item are decoded
        item = page.screenshot()
        browser.close()
    halves = [Image.open(io.BytesIO(shot)).convert("RGB") for shot in (head, item)]
    joined = Image.new("RGB", (sum(half.width for half in halves), HEIGHT), "white")
    joined.paste(halves[0], (0, 0))
    joined.paste(halves[1], (halves[0].width, 0))
    joined.quantize(192).save(arguments.picture, optimize=True)


if __name__ == "__main__":
    main()
