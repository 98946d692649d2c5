"""A report in a real browser: it plays, switching keeps the place, keys work, nothing is fetched.

Needs playwright (dev extra) and Chromium: the one on PATH, else the one playwright has installed.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny_evaluation
from quieten.report.document import write_comparison, write_report

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.slow
ARGUMENTS = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
TAKEN_S = 0.03  # what a switch may move the place, and how far a reading of the clock may be off


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    with playwright.sync_playwright() as driver:
        try:
            started = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
        except playwright.Error as error:
            pytest.skip(f"no Chromium that starts: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    evaluation = tiny_evaluation.make(folder, count=4, systems=("speech", "gate"))
    return write_report([evaluation], folder / "report.html", count=1)


class Visit:
    """A page that is open, and what it complained about or asked for."""

    def __init__(self, browser, path: Path, width: int = 1280, **options) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        self.page = self.context.new_page()
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def state(self) -> dict:
        return self.page.evaluate("window.quieten.state()")

    def play(self, card: int = 0) -> None:
        self.page.locator(".card .play").nth(card).click()
        self.until("playing")

    def until(self, condition: str) -> None:
        """Waits; `wait_for_function` would need eval, which the page forbids."""
        for _ in range(500):
            if self.page.evaluate(f"window.quieten.state()?.{condition}"):
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"never {condition}: {self.state()}")


@pytest.fixture
def visit(browser, report) -> Iterator[Visit]:
    opened = Visit(browser, report)
    yield opened
    assert opened.troubles == []
    assert [url for url in opened.requests if not url.startswith(("data:", "blob:"))] == [
        report.as_uri()
    ]
    opened.context.close()


def test_it_plays_and_the_place_advances(visit):
    visit.play()
    first = visit.state()
    visit.until(f"position > {first['position'] + 0.2}")
    assert visit.state()["playing"] and first["gains"] == [1, 0, 0, 0, 0, 0]
    visit.until("playing === false")  # two seconds long
    assert visit.state()["position"] == pytest.approx(tiny_evaluation.SECONDS, abs=0.01)
    visit.play()  # starts over
    assert visit.state()["position"] < 1


def test_a_switch_keeps_the_place_and_changes_the_sound(visit):
    visit.page.locator(".card .loop").first.click()
    visit.play()
    visit.until("level > 0.2")  # the noisy one: RMS 0.29
    before, after, clock = visit.page.evaluate(
        """() => {
          const places = [window.quieten.state().position];
          const began = performance.now();
          document.querySelectorAll(".card")[0].querySelectorAll(".pick")[1].click();
          places.push(window.quieten.state().position);
          return [...places, (performance.now() - began) / 1000];
        }"""
    )
    assert abs(after - before - clock) < TAKEN_S
    visit.until("level < 0.09")  # speech: RMS 0.07
    state = visit.state()
    assert state["version"] == 1 and state["playing"]
    assert state["gains"][1] == pytest.approx(1, abs=0.01) and state["gains"][0] < 0.01


def test_all_versions_run_in_step(visit):
    """Noisy minus denoised minus removed is silence, if and only if they are aligned."""
    residue, loudest = visit.page.evaluate(
        """async () => {
          const context = new AudioContext({ sampleRate: 16000 });
          const sounds = [...document.querySelector(".card").querySelectorAll("audio")];
          const decoded = await Promise.all(sounds.map(async (sound) => {
            const text = atob(sound.src.slice(sound.src.indexOf(",") + 1));
            const bytes = Uint8Array.from(text, (one) => one.charCodeAt(0));
            return (await context.decodeAudioData(bytes.buffer)).getChannelData(0);
          }));
          const [noisy, speech, , removed] = decoded; // noisy, speech, gate, removed by speech
          let [residue, loudest] = [0, 0];
          for (let place = 4000; place < 28000; place++) {
            residue = Math.max(residue, Math.abs(noisy[place] - speech[place] - removed[place]));
            loudest = Math.max(loudest, Math.abs(noisy[place]));
          }
          return [residue, loudest];
        }"""
    )
    assert loudest > 0.4
    assert residue < 0.05 * loudest  # one sample out of step at 3 kHz would be more than half


def test_keys(visit):
    card = visit.page.locator(".card").first
    card.focus()
    press = visit.page.keyboard.press
    press("ArrowRight")
    assert visit.state()["position"] == pytest.approx(0.5)
    press("ArrowRight")
    press("Shift+ArrowLeft")
    assert visit.state()["position"] == pytest.approx(0.95)
    press("Home")
    assert visit.state()["position"] == 0
    press("3")
    assert visit.state()["version"] == 2
    press("l")
    assert visit.state()["loop"]
    press(" ")
    visit.until("playing")
    press(" ")
    assert not visit.state()["playing"]
    first = visit.state()["item"]
    press("ArrowDown")
    assert visit.state()["item"] != first and visit.state()["version"] == 2
    press("ArrowUp")
    assert visit.state()["item"] == first


def test_keys_leave_the_rest_of_the_page_alone(visit):
    visit.page.locator("#metric").focus()
    visit.page.keyboard.press("2")
    visit.page.locator("#theme").focus()
    visit.page.keyboard.press(" ")
    assert visit.state() is None
    assert visit.page.evaluate("document.documentElement.dataset.theme") == "light"


def test_a_click_goes_there_and_a_drag_repeats(visit):
    picture = visit.page.locator(".card .plot").nth(1)
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] / 2, "y": 20})
    state = visit.state()
    assert state["position"] == pytest.approx(1, abs=0.01) and state["version"] == 1
    mouse = visit.page.mouse
    mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
    mouse.down()
    mouse.move(box["x"] + box["width"] * 0.35, box["y"] + 20, steps=3)
    mouse.up()
    assert visit.state()["region"] == pytest.approx([0.5, 0.7], abs=0.02)
    visit.play()
    visit.page.wait_for_timeout(500)  # longer than the stretch
    assert 0.49 <= visit.state()["position"] <= 0.71
    visit.page.keyboard.press("Escape")
    assert visit.state()["region"] is None


def test_one_item_sounds_at_a_time(visit):
    visit.play(0)
    first = visit.state()["item"]
    visit.play(1)
    assert visit.state()["item"] != first
    assert visit.page.locator(".card.playing").count() == 1


def test_the_readout_tells_time_frequency_and_level(visit):
    picture = visit.page.locator(".card .plot").first
    picture.scroll_into_view_if_needed()
    visit.page.evaluate("document.querySelector('.picture').decode()")
    box = picture.bounding_box()
    share = 1 - tiny_evaluation.NOISE_HZ / 8000
    picture.hover(position={"x": box["width"] / 2, "y": box["height"] * share})
    seconds, hertz, level = visit.page.locator(".card .readout").first.inner_text().split(", ")
    assert seconds == "1.00 s"
    assert float(hertz.split()[0]) == pytest.approx(tiny_evaluation.NOISE_HZ, abs=80)
    assert float(level.split()[0].replace("\u2212", "-")) > -12  # the loudest there is


def test_tables_and_charts_follow_the_choice(visit):
    page = visit.page
    page.select_option("#metric", "lsd")
    assert "LSD" in page.locator("#boxes-title").inner_text()
    assert page.locator("#boxes svg .box").count() == 2 * 3  # two SNRs, three systems
    page.select_option("#label", "")
    assert page.locator("#boxes svg .box").count() == 3
    assert "\u22121.00" not in page.locator("#forest").inner_text().splitlines()[0]
    assert "+1.00" in page.locator("#forest").inner_text()  # noisy minus speech, lower is better
    assert "Right of zero is worse" in page.locator("#forest-caption").inner_text()
    page.locator("#summary th button", has_text="PESQ").first.click()
    first = page.locator("#summary tbody th").first.inner_text()
    assert first == "gate"  # the highest mean
    page.locator("#summary th button", has_text="PESQ").first.click()
    assert page.locator("#summary tbody th").first.inner_text() == "noisy"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_every_screen_and_scheme(browser, report, tmp_path, width, scheme):
    opened = Visit(browser, report, width, color_scheme=scheme)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = page.evaluate("getComputedStyle(document.body).color")
    lightness = [float(color.removeprefix("oklch(").split()[0]) for color in (ground, ink)]
    assert (lightness[0] > lightness[1]) == (scheme == "light")
    assert abs(lightness[0] - lightness[1]) > 0.6
    page.locator(".card").first.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / f"{width}-{scheme}.png")
    pixels = page.locator(".card .plot").first.screenshot()
    assert (brightness(pixels, tmp_path) > 0.5) == (scheme == "light")
    assert opened.troubles == []
    opened.context.close()


def brightness(png: bytes, folder: Path) -> float:
    """Mean grey of a picture, 0 to 1: mostly silence, so mostly the ground."""
    image = pytest.importorskip("PIL.Image")
    file = folder / "plot.png"
    file.write_bytes(png)
    grey = image.open(file).convert("L")
    return sum(value * count for value, count in enumerate(grey.histogram())) / (
        255 * grey.width * grey.height
    )


def test_it_reads_without_scripts(browser, report):
    opened = Visit(browser, report, java_script_enabled=False)
    assert opened.page.locator("audio").first.is_visible()
    assert opened.page.locator("#summary table").is_visible()
    assert not opened.page.locator("#compare").is_visible()
    opened.context.close()


def test_own_files_play_too(browser, report, tmp_path):
    evaluation = tiny_evaluation.make(tmp_path, count=1)
    item = evaluation.items[0]
    path = write_comparison(
        item.noisy, [evaluation.sound("speech", "000")], None, tmp_path / "a.html"
    )
    opened = Visit(browser, path)
    opened.play()
    opened.until("level > 0.2")
    assert opened.troubles == []
    opened.context.close()
