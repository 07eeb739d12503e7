"""The page in a headless Chromium."""

import base64
import json
import shutil
import time
from pathlib import Path

import pytest

from onnxq.report.html import write_page

webdriver = pytest.importorskip("selenium.webdriver")
By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="there is no chromium with a chromedriver here"
)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


@pytest.fixture(scope="session")
def browser():
    """One browser for all tests."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def pages(tmp_path_factory, evidence, full, large, of_graph, quantized_model) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    evil = of_graph(quantized_model("<script>alert(1)</script>"), "<img src=x onerror=alert(2)>")
    made = {"centerpoint": evidence, "full": full, "large": large, "evil": evil}
    for name, one in made.items():
        write_page(one, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def opened(browser, pages):
    """`opened("centerpoint", width=1200, dark=False)`: the browser with that page."""

    def open_page(name: str, width: int = 1200, dark: bool = False):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}  # or clicks miss
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, still]})
        browser.get(pages[name].as_uri())
        return browser

    yield open_page
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def boxes(page):
    return page.find_elements(By.CSS_SELECTOR, ".box")


def column(page, name, table="nodes"):
    """The texts of a column of a table, from the top."""
    heads = page.find_elements(By.CSS_SELECTOR, f"#{table}-table thead th")
    place = next(
        i for i, head in enumerate(heads) if head.text.split(" ↓")[0].split(" ↑")[0] == name
    )
    rows = page.find_elements(By.CSS_SELECTOR, f"#{table}-table tbody tr")
    return [row.find_elements(By.XPATH, "./*")[place].text for row in rows]


def head(page, name):
    heads = page.find_elements(By.CSS_SELECTOR, "#nodes-table thead button")
    return next(h for h in heads if h.text.startswith(name))


def test_the_page_opens_whole_and_asks_for_nothing(opened):
    page = opened("centerpoint")
    assert page.find_element(By.TAG_NAME, "h1").text == "model.onnx"
    titles = [h.text for h in page.find_elements(By.TAG_NAME, "h2")]
    assert titles == ["Summary", "Graph", "Nodes", "Sensitivity", "Tensors", "Provenance"]
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_every_section_is_drawn_where_all_is_known(opened):
    page = opened("full")
    titles = [h.text for h in page.find_elements(By.TAG_NAME, "h2")]
    assert titles == ["Summary", "Pictures", "Graph", "Nodes", "Sensitivity", "Search",
                      "Comparison", "Tensors", "Engine", "Provenance"]  # fmt: skip
    assert page.find_element(By.CSS_SELECTOR, ".failed").text == "Failed: 'reg_0': too low"
    assert column(page, "plan", "trials") == ["front", "chosen", "front"]
    assert "∞" in column(page, "sqnr dB", "trials")[2]
    assert column(page, "error of the fit, %", "fit") == ["-40", "+10"]
    assert "fp32" in column(page, "runs in", "engine-nodes")
    for chart in ("curve", "pareto", "drift", "histogram"):
        assert page.find_element(By.ID, chart).rect["height"] > 100


def test_pictures_are_shown_and_described(opened):
    page = opened("full")
    images = page.find_elements(By.CSS_SELECTOR, "#pictures img")
    assert [image.get_attribute("alt") for image in images] == [
        "Sample 1, the input", "Sample 1, heat, float model", "Sample 1, heat, quantized model",
        "Sample 1, heat, difference: at most 1"]  # fmt: skip
    assert all(page.execute_script("return arguments[0].naturalWidth", i) == 60 for i in images)
    drawn = page.find_elements(By.CSS_SELECTOR, "#pictures svg[role=img]")
    assert [d.get_attribute("aria-label") for d in drawn] == [
        "Sample 2, float model: cat 0.90, <b>dog</b> 0.30",
        "Sample 2, quantized model: cat 0.90"]  # fmt: skip
    notes = [f.text for f in page.find_elements(By.CSS_SELECTOR, "#pictures figcaption")]
    assert notes[-2:] == ["float: 2 detections, 1 lost", "quantized: 1 detection"]
    halves = [d.rect for d in drawn]
    assert halves[0]["y"] == halves[1]["y"]  # side by side
    opened("full", width=390)
    wide = page.execute_script("return document.documentElement.scrollWidth")
    assert wide <= 390


def test_a_node_that_is_searched_is_shown_with_its_details(opened):
    page = opened("centerpoint")
    search = page.find_element(By.ID, "graph-search")
    search.send_keys("task_heads.1/rot/rot.0/conv")
    search.send_keys(Keys.ENTER)
    (chosen,) = page.find_elements(By.CSS_SELECTOR, ".box.chosen")
    canvas = page.find_element(By.ID, "graph-canvas").rect
    middle = (
        chosen.rect["x"] + chosen.rect["width"] / 2,
        chosen.rect["y"] + chosen.rect["height"] / 2,
    )
    assert canvas["x"] < middle[0] < canvas["x"] + canvas["width"]
    assert canvas["y"] < middle[1] < canvas["y"] + canvas["height"]
    assert "/rot.0/conv/Conv" in page.find_element(By.CSS_SELECTOR, "#details h3").text


def test_folders_fold_and_unfold(opened, shown):
    page = opened("centerpoint")
    page.find_element(By.ID, "unfold-all").click()
    nodes = page.find_elements(By.CSS_SELECTOR, ".box.node")
    assert len(nodes) == len(shown["nodes"])
    page.find_element(By.ID, "fold-all").click()
    assert not page.find_elements(By.CSS_SELECTOR, ".box.node")
    folder = page.find_element(By.CSS_SELECTOR, ".box.folder")
    before = len(boxes(page))
    folder.send_keys(Keys.ENTER)  # as a keyboard does
    assert len(boxes(page)) > before
    page.find_element(By.CSS_SELECTOR, ".handle").click()
    assert len(boxes(page)) == before


def test_dragging_moves_the_drawing_and_the_wheel_zooms_with_ctrl_alone(opened):
    page = opened("centerpoint")
    canvas = page.find_element(By.ID, "graph-canvas")
    page.find_element(By.ID, "fold-all").click()  # all that is left can be seen
    page.execute_script("arguments[0].scrollIntoView()", canvas)
    folder = page.find_element(By.CSS_SELECTOR, ".box.folder")
    before, count = folder.rect, len(boxes(page))
    place = page.execute_script("return arguments[0].getBoundingClientRect().toJSON()", folder)
    x, y = place["x"] + 5, place["y"] + 5
    moves = (("mousePressed", 0), ("mouseMoved", 10), ("mouseMoved", 40), ("mouseReleased", 40))
    for kind, far in moves:
        event = {"type": kind, "x": x + far, "y": y, "button": "left", "buttons": 1}
        page.execute_cdp_cmd("Input.dispatchMouseEvent", {**event, "clickCount": 1})
    assert folder.rect["x"] == pytest.approx(before["x"] + 40, abs=1)  # whole pixels
    assert len(boxes(page)) == count  # a drag is no click
    wheel = """arguments[0].dispatchEvent(
        new WheelEvent('wheel', {deltaY: -300, ctrlKey: arguments[1]}))"""
    page.execute_script(wheel, canvas, False)
    assert folder.rect["width"] == pytest.approx(before["width"], abs=1)
    page.execute_script(wheel, canvas, True)
    assert folder.rect["width"] > 1.5 * before["width"]


def test_no_two_boxes_overlap_and_edges_run_down(opened):
    page = opened("centerpoint")
    page.find_element(By.ID, "unfold-all").click()
    rects = page.execute_script(
        """return [...document.querySelectorAll('.box')].map((box) => {
            const [x, y] = box.getAttribute('transform').match(/[-.\\d]+/g).map(Number);
            const size = (name) => Number(box.querySelector('rect').getAttribute(name));
            return [x, y, x + size('width'), y + size('height')];
        })"""
    )
    for i, (a, b, c, d) in enumerate(rects):
        for e, f, g, h in rects[:i]:
            assert c <= e or g <= a or d <= f or h <= b
    ends = page.execute_script(
        """return [...document.querySelectorAll('.link:not(.against)')].filter((link) =>
            !link.getAttribute('d').includes('Q')).map((link) =>  // within a column
            [link.getPointAtLength(0).y, link.getPointAtLength(1e6).y])"""
    )
    assert ends
    assert all(start < end for start, end in ends)


def test_nodes_sort_by_a_column_and_back(opened):
    page = opened("centerpoint")
    shares = [float(s) for s in column(page, "damage %") if s]
    assert shares == sorted(shares, reverse=True)  # the worst first, at once
    head(page, "clipped").click()
    most = [float(s) for s in column(page, "clipped %") if s]
    head(page, "clipped").click()
    least = [float(s) for s in column(page, "clipped %") if s]
    assert most == sorted(most, reverse=True)
    assert least == most[::-1]
    head(page, "op").click()
    ops = column(page, "op")
    assert ops == sorted(ops)


def test_nodes_are_searched_by_words_of_any_column(opened):
    page = opened("centerpoint")
    page.find_element(By.ID, "nodes-search").send_keys("convtranspose skip")
    assert column(page, "op") == ["ConvTranspose"] * 3
    assert page.find_element(By.ID, "nodes-count").text.startswith("3 of ")


def test_the_graph_is_coloured_by_damage(opened):
    page = opened("centerpoint")
    page.find_element(By.ID, "unfold-all").click()
    page.find_element(By.CSS_SELECTOR, "#graph-colour option[value=damage]").click()
    heat = page.execute_script(
        """return [...document.querySelectorAll('.box.node')].map((box) =>
            parseInt(box.querySelector('rect').style.getPropertyValue('--heat')))"""
    )
    assert max(heat) == 100
    assert min(heat) == 0


def test_a_tensor_is_drawn_with_every_method(opened):
    page = opened("centerpoint")
    names = page.find_elements(By.CSS_SELECTOR, "#histogram .mark text")
    assert {n.text for n in names} == {"max", "percentile", "mse", "entropy", "used"}
    page.find_element(By.ID, "tensors-search").send_keys("spatial")
    page.find_element(By.CSS_SELECTOR, "#tensors-table tbody tr").click()
    assert page.find_element(By.CSS_SELECTOR, "#tensor h3").text.startswith("spatial_features")


def luminance(colour):
    """Of 'rgb(r, g, b)', by the WCAG 2 formula."""
    parts = [int(v) / 255 for v in colour.strip("rgba()").split(",")[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_light_and_dark(opened, dark):
    page = opened("centerpoint", dark=dark)
    panel = page.find_element(By.CSS_SELECTOR, "#nodes")
    behind = luminance(page.execute_script(
        "return getComputedStyle(arguments[0]).backgroundColor", panel))  # fmt: skip
    assert (behind < 0.1) == dark
    for part in ("#nodes h2", "#nodes tbody th", ".card-note", "#tensors p.dim"):
        one = page.find_element(By.CSS_SELECTOR, part)
        ink = luminance(page.execute_script("return getComputedStyle(arguments[0]).color", one))
        bright, deep = max(ink, behind) + 0.05, min(ink, behind) + 0.05
        assert bright / deep > 4.5, part  # WCAG 2, level AA


def test_a_phone_scrolls_down_only(opened):
    page = opened("centerpoint", width=390)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390


def test_it_prints_the_whole_graph_and_goes_back(opened):
    page = opened("centerpoint")
    pdf = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(pdf["data"]).startswith(b"%PDF")
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    canvas = page.find_element(By.ID, "graph-canvas")
    assert canvas.get_dom_attribute("viewBox")
    page.execute_script("dispatchEvent(new Event('afterprint'))")
    assert canvas.get_dom_attribute("viewBox") is None


def test_names_with_markup_are_text(opened):
    page = opened("evil")  # an alert would make the next command fail
    assert page.find_element(By.TAG_NAME, "h1").text == "<img src=x onerror=alert(2)>"
    assert column(page, "node") == ["<script>alert(1)</script>"]


def test_two_thousand_nodes_open_at_once(opened):
    start = time.monotonic()
    page = opened("large")
    assert time.monotonic() - start < 10  # takes 0.5 s; the rest is for a busy machine
    drawn = page.execute_script("return document.querySelectorAll('*').length")
    assert drawn < 3000  # a table's first rows and folded folders, however large the graph
    page.find_element(By.ID, "unfold-all").click()
    assert len(page.find_elements(By.CSS_SELECTOR, ".box.node")) == 2000


def focused(page):
    """What of the graph has the focus: its key."""
    return page.execute_script("return document.activeElement.dataset.key")


def press(page, *keys):
    webdriver.ActionChains(page).send_keys(*keys).perform()


def test_the_verdict_stands_first(opened, evidence):
    page = opened("centerpoint")
    grade = evidence.manifest["verdict"]["grade"]
    assert page.find_element(By.CSS_SELECTOR, "main .verdict strong").text == grade
    assert " dB" in page.find_element(By.CSS_SELECTOR, ".verdict-line").text


def test_the_graph_is_one_stop_of_tab_and_arrows_follow_its_edges(opened, shown):
    page = opened("centerpoint")
    page.find_element(By.ID, "unfold-all").click()
    stops = page.find_elements(By.CSS_SELECTOR, "#graph-canvas [tabindex='0']")
    assert len(stops) == 1
    page.execute_script("arguments[0].focus()", stops[0])
    assert focused(page) == "input0"
    press(page, Keys.ARROW_DOWN)
    first = shown["inputs"][0]["nodes"][0]
    assert focused(page) == f"n{first}"
    press(page, Keys.ARROW_DOWN)
    after = [edge[1] for edge in shown["edges"] if edge[0] == first]
    assert focused(page) in {f"n{i}" for i in after}
    press(page, Keys.ARROW_UP)
    assert focused(page) == f"n{first}"
    press(page, Keys.ENTER)
    name = shown["nodes"][first]["name"]
    assert page.find_element(By.CSS_SELECTOR, "#details h3 code").text == name
    press(page, Keys.ESCAPE)  # folds the folder around, and stays there
    assert focused(page).startswith("f")
    assert len(page.find_elements(By.CSS_SELECTOR, "#graph-canvas [tabindex='0']")) == 1


def test_the_graph_zooms_to_the_node(opened):
    page = opened("centerpoint")
    search = page.find_element(By.ID, "graph-search")
    search.send_keys("blocks.0.3", Keys.ENTER)
    wide = "return document.querySelector('.box.chosen').getBoundingClientRect().width"
    before = page.execute_script(wide)
    page.find_element(By.ID, "zoom-to").click()
    assert page.execute_script(wide) > before


def test_rows_open_by_keyboard(opened):
    page = opened("centerpoint")
    row = page.find_element(By.CSS_SELECTOR, "#nodes-table tbody th button")
    row.send_keys(Keys.ENTER)
    assert page.find_element(By.CSS_SELECTOR, "#details h3 code").text == row.text


def test_what_was_copied_is_said(opened):
    page = opened("centerpoint")
    page.execute_script(
        "Object.defineProperty(navigator, 'clipboard',"
        " {value: {writeText: () => Promise.resolve()}})"
    )
    page.find_element(By.CSS_SELECTOR, "#provenance .copy").send_keys(Keys.ENTER)
    said = page.find_element(By.ID, "said")
    assert said.get_dom_attribute("aria-live") == "polite"
    assert said.get_property("textContent") == "Copied"


def test_the_first_stop_of_tab_skips_to_the_report(opened):
    page = opened("centerpoint")
    press(page, Keys.TAB)
    assert page.execute_script("return document.activeElement.className") == "skip"


def test_a_text_or_a_table_stands_for_every_chart(opened):
    page = opened("full")
    for chart in page.find_elements(By.CSS_SELECTOR, "svg.chart"):
        told = chart.get_dom_attribute("aria-label")
        assert "table below" in told or "values from" in told, told
    assert page.find_elements(By.CSS_SELECTOR, "#curve-points-table tbody tr")


@pytest.mark.parametrize(("width", "media"), [(1400, "screen"), (700, "print")])
def test_tables_are_whole(opened, width, media):
    page = opened("full", width=width)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    cut = page.execute_script(
        """return [...document.querySelectorAll('.sortable')].filter((one) => {
            const table = one.querySelector('table'), around = one.querySelector('.scroll');
            return table.offsetWidth > around.clientWidth + 2;
        }).map((one) => one.id)"""
    )
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert cut == []


@pytest.mark.parametrize("width", [390, 1200])
def test_a_screenshot_shows_something(opened, tmp_path, width):
    page = opened("centerpoint", width=width)
    path = tmp_path / f"{width}.png"
    assert page.save_screenshot(str(path))
    # a blank page of this size takes less than 10 kB
    assert path.stat().st_size > 20_000
    assert json.loads(page.execute_script("return document.documentElement.dataset.ready === 'yes'"
                                          " ? 'true' : 'false'"))  # fmt: skip
