"""The HTML page of a graph, in a real browser: what it shows, and what pointer and keys do."""

import json
import re
import shutil

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.viz import page
from flowgraph.viz.graph_picture import GraphPicture


def network(blocks=2, layers=2):
    """Blocks of dense layers in scopes of scopes, a loss, and a step of SGD with momentum."""
    with fg.Graph() as graph:
        h = fg.placeholder("x", ("batch", 8))
        for block in range(blocks):
            with fg.scope(f"block{block}"):
                for layer in range(layers):
                    h = fg.nn.relu(fg.nn.Linear(8, 8, name=f"dense{layer}")(h) * 1.0)
        with fg.scope("loss"):
            loss = fg.mean(fg.square(h) + fg.square(h))
        update = fg.optim.SGD(0.1, momentum=0.9).minimize(loss)
    return graph, loss, update


def account():
    graph, loss, update = network()
    return fg.explain([loss, update], {graph.placeholders[0]: (4, 8)}, jit=False)


def data_of(text):
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


# --- what is in the file


def test_the_page_names_nothing_that_is_to_be_loaded():
    text = str(fg.draw(network()[0], format="html"))
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:,)|@import|url\((?!#m-)|https?://(?!www\.w3\.org)", text)
    assert "default-src 'none'" in text


def test_each_node_has_a_row_and_each_row_its_scope():
    graph, *_ = network()
    data = data_of(str(fg.draw(graph, format="html")))
    assert len(data["boxes"]) == len(GraphPicture(graph.nodes, 99, most=None, tags=False).boxes)

    def path(scope):
        name, around, _ = data["scopes"][scope]
        return [*path(around), name] if scope else []

    homes = {row[4].split("\n")[0]: path(row[3]) for row in data["boxes"]}
    assert homes["block1/dense0/matmul"] == ["block1", "dense0"]
    assert ["block1", "dense0", "gradient"] in homes.values()


def test_a_crowded_scope_is_parted_into_runs_that_no_page_is_too_small_for():
    with fg.Graph() as graph:
        h = fg.placeholder("x", ())
        for _ in range(9_999):
            h = fg.exp(h)
    data = data_of(str(fg.draw(graph, format="html")))
    inside = [0] * len(data["scopes"])
    for _, around, _ in data["scopes"][1:]:
        inside[around] += 1
    for row in data["boxes"]:
        inside[row[3]] += 1
    assert len(data["boxes"]) == 10_000
    assert max(inside) <= page.CROWD + 1
    assert data["scopes"][1][0] == "x … exp_1598"


@pytest.mark.parametrize("name", ["</script><b>", "<!-- x", "{{data}}", "\\u003c", "тензор"])
def test_odd_names_end_no_script(name):
    with fg.Graph() as graph:
        fg.exp(fg.placeholder("x", ()), name=name)
    data = data_of(str(fg.draw(graph, format="html")))
    assert data["boxes"][1][0] == name


def test_the_lines_around_the_user_s_are_in_the_page():
    data = data_of(str(fg.draw(network()[0], format="html")))
    row = next(row for row in data["boxes"] if row[4].startswith("loss/mean\n"))
    file, number, first, lines = data["lines"][row[5]]
    assert file == "test_page.py"
    assert "loss = fg.mean" in lines[number - first]


def test_a_stage_says_what_a_pass_took_out_what_replaced_it_and_why():
    found = account()
    names = [stage.name for stage in found.stages]
    assert names == ["graph", "prune", "algebra", "fold", "common", "tasks"]
    stages = dict(zip(names, found.stages))
    graph = found.nodes[0].graph
    product, square = graph.node("block0/multiply"), graph.node("loss/square_1")
    assert product in stages["prune"].alive
    assert product not in stages["algebra"].alive
    assert stages["algebra"].same[product.outputs[0]].node.name == "block0/dense0/add"
    assert stages["algebra"].changes[product] == "is block0/dense0/add"
    assert square in stages["fold"].alive
    assert square not in stages["common"].alive
    assert stages["tasks"].groups[graph.node("loss/mean")].startswith("task ")
    assert {unit.node.name for unit in found.plan.units} <= {node.name for node in stages["tasks"].alive}


def test_what_reads_a_loop_whose_gradient_runs_it_with_more_outputs_reads_that_one():
    with fg.Graph() as graph:
        w = fg.variable(np.eye(3, dtype=np.float32), name="w")
        last, _ = fg.scan(lambda h, x: (fg.tanh(h @ w + x), None), fg.constant(np.zeros(3, np.float32)), fg.placeholder("xs", (10, 3)))
        loss = fg.sum(last)
        slopes = fg.gradients(loss, [w])
    found = fg.explain([loss, slopes], {graph.placeholders[0]: (10, 3)}, jit=False)
    prune = found.stages[1]
    twin = prune.same[last].node
    assert (last.node in prune.alive, twin in prune.alive) == (False, True)
    assert prune.changes[last.node] == f"runs as {twin.name}"
    data = data_of(str(fg.draw(found, format="html")))
    names = [row[4].split("\n")[0] for row in data["boxes"]]
    gone = {names[i] for i in data["stages"][1]["gone"]}
    assert {"scan", "scan/tanh"} <= gone  # with its body
    assert [names.index(last.node.name), names.index(twin.name)] in data["stages"][1]["moved"]


def test_compiled_loops_are_a_stage():
    pytest.importorskip("llvmlite")
    with fg.Graph():
        x = fg.placeholder("x", (300_000,))
        y = fg.exp(x) * fg.tanh(x) + 1.5
    found = fg.explain(y, {x: (300_000,)}, jit=True)
    (fuse,) = [stage for stage in found.stages if stage.name == "fuse"]
    assert {node.op.name for node in fuse.groups} == {"exp", "tanh", "multiply", "add"}
    assert len(set(fuse.groups.values())) == 1


def test_a_picture_of_an_explanation_says_of_each_node_what_became_of_it():
    text = str(fg.draw(account(), format="dot", depth=9))
    assert "algebra: is block0/dense0/add" in text
    assert "runs in" not in text


# --- in the browser


def browser_or_skip():
    """A Chromium without a window, which keeps an account of what it logs and loads."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium with its chromedriver was found: apt install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1200,900",
    ):  # fmt: skip
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


@pytest.fixture(scope="module")
def chromium():
    browser = browser_or_skip()
    yield browser
    browser.quit()


class Hand:
    """What a user does to the page, and what then is there to see."""

    def __init__(self, browser):
        self.browser = browser

    def open(self, what, folder, **options):
        from selenium.webdriver.support.wait import WebDriverWait

        address = fg.draw(what, folder / "net.html", **options).as_uri()
        self.browser.get_log("performance")  # which forgets what was loaded so far
        self.browser.get(address)
        is_drawn = "document.URL === arguments[0] && document.querySelector('.box') !== null"
        WebDriverWait(self.browser, 60, 0.02).until(lambda _: self.js(is_drawn, address))
        return self

    def js(self, script, *arguments):
        return self.browser.execute_script(f"return {script}", *arguments)

    def each(self, css, body):
        """What ``body`` returns for each element ``g``."""
        return self.js(f"[...document.querySelectorAll(arguments[0])].map(g => {{ {body} }})", css)

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def element(self, css):
        return self.browser.find_element("css selector", css)

    def box(self, title):
        """The box with this title, as it is drawn now."""
        named = "g => g.querySelector('text').textContent.replace(/^[+−] /, '') === arguments[0]"
        return self.js(f"[...document.querySelectorAll('.box, .frame')].find({named})", title)

    def titles(self, css=".box"):
        return self.js("[...document.querySelectorAll(arguments[0])].map(g => g.querySelector('text').textContent)", css)

    def double_click(self, title):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).double_click(self.box(title).find_element("css selector", "rect, ellipse")).perform()

    def click(self, title):
        self.box(title).find_element("css selector", "rect, ellipse").click()

    def text(self, css):
        return self.element(css).text


@pytest.fixture
def hand(chromium):
    hand = Hand(chromium)
    yield hand
    assert [entry for entry in chromium.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


@pytest.mark.browser
def test_scopes_open_and_close_by_a_double_click_and_by_buttons(hand, tmp_path):
    hand.open(network()[0], tmp_path)
    hand.element("#close-all").click()
    assert set(hand.titles()) == {"x", "+ block0", "+ block1", "+ loss", "+ train"}
    assert hand.titles(".frame") == []
    hand.double_click("block0")
    assert {"+ dense0", "+ dense1", "relu"} <= set(hand.titles())
    assert hand.titles(".frame") == ["− block0"]
    hand.browser.find_element("css selector", ".frame .sign").click()
    assert "+ block0" in hand.titles()
    before = len(hand.titles())
    hand.element("#open-all").click()
    assert len(hand.titles()) > before


@pytest.mark.browser
def test_all_of_a_graph_can_be_opened_and_each_node_is_then_drawn_once(hand, tmp_path):
    graph, *_ = network()
    hand.open(graph, tmp_path)
    for _ in range(5):
        hand.element("#open-all").click()
    drawn = GraphPicture(graph.nodes, 99, most=None, tags=False)
    assert len(hand.titles()) == len(drawn.boxes)
    assert hand.js("document.querySelectorAll('.edge').length") == len(drawn.edges)
    boxes = hand.each(".box > :first-child", "const b = g.getBBox(); return [b.x, b.y, b.width, b.height]")
    overlaps = [
        (a, b)
        for i, a in enumerate(boxes)
        for b in boxes[i + 1 :]
        if a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
    ]
    assert overlaps == []


@pytest.mark.browser
def test_a_title_fits_into_its_box(hand, tmp_path):
    hand.open(network()[0], tmp_path)
    hand.press("e", "e", "e")
    sizes = hand.each(".box", "return ['text', 'rect, ellipse'].map(css => g.querySelector(css).getBBox().width)")
    assert all(text <= box for text, box in sizes)


@pytest.mark.browser
def test_search_finds_by_name_and_shape_and_goes_from_match_to_match(hand, tmp_path):
    from selenium.webdriver.common.keys import Keys

    hand.open(network()[0], tmp_path)
    hand.element("#close-all").click()
    hand.press("/")
    hand.press("dense1/matmul")
    assert hand.text("#found") == "10 matches"
    assert "block0/dense1/matmul" in hand.text("#results")
    assert set(hand.titles(".match")) == {"+ block0", "+ block1"}  # the closed scopes that hold them
    hand.press(Keys.ENTER)
    assert hand.text("#found") == "1 of 10"
    assert hand.titles(".chosen") == ["matmul"]
    assert hand.text("#panel h2") == "block0/dense1/matmul"
    hand.press(Keys.ENTER)
    assert hand.text("#panel h2") == "block1/dense1/matmul"
    hand.press(Keys.ESCAPE)
    assert hand.titles(".match") == []
    hand.press("/", "nothing like it")
    assert hand.text("#found") == "0 matches"


@pytest.mark.browser
def test_a_chosen_node_shows_its_line_its_inputs_and_its_readers(hand, tmp_path):
    hand.open(network()[0], tmp_path)
    hand.press("/", "loss/mean")
    from selenium.webdriver.common.keys import Keys

    hand.press(Keys.ENTER)
    panel = hand.text("#panel")
    assert "mean -> () float32" in panel
    assert "test_page.py:" in panel
    assert "loss = fg.mean(fg.square(h) + fg.square(h))" in hand.text("#panel pre b")
    assert "loss/add" in panel
    hand.element("#panel [data-go]").click()
    assert hand.text("#panel h2") == "loss/add"


@pytest.mark.browser
def test_closed_scopes_show_their_sum_in_letters_that_can_be_read(hand, tmp_path):
    graph, *_ = network()
    nodes = [node for node in graph.nodes if node.scope]
    hand.open(graph, tmp_path, heat=fg.viz.Heat(dict.fromkeys(nodes, 0.001), "s", "time"))
    hand.press("c", "c", "c")
    texts = hand.js("[...document.querySelectorAll('.box text.small')].map(text => [text.textContent, text.style.fill])")
    sums = {text: fill for text, fill in texts if "nodes, " in text}
    assert sums and all(text.endswith(" ms") for text in sums)
    most = max(sums, key=lambda text: float(text.split()[-2]))
    assert hand.text("#high") == most.rpartition(", ")[2]  # the scale reaches as far as what is shown
    assert sums[most] == "rgb(255, 255, 255)"


@pytest.mark.browser
def test_pointing_at_a_box_shows_shape_dtype_and_line(hand, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains

    graph, loss, _ = network()
    hand.open(graph, tmp_path, heat=fg.viz.Heat({loss: 0.002}, "s", "time"))
    hand.press("e", "e", "e")
    assert not hand.element("#tip").is_displayed()
    ActionChains(hand.browser).move_to_element(hand.box("mean").find_element("css selector", "rect")).perform()
    assert hand.element("#tip").is_displayed()
    lines = hand.text("#tip").split("\n")
    assert lines[:2] == ["loss/mean", "mean -> () float32, 4 B"]
    assert "test_page.py:" in lines[2]
    assert lines[3] == "time: 2 ms"


@pytest.mark.browser
def test_the_slider_goes_through_the_passes_and_nodes_keep_their_place(hand, tmp_path):
    hand.open(account(), tmp_path)
    hand.press("e", "e", "e", "e")
    assert hand.text("#stage").startswith("graph: ")
    place = "const b = g.getBBox(); return [g.dataset.id, b.x, b.y]"
    before = hand.each(".box", place)
    stages = []
    for _ in range(5):
        hand.press("]")
        stages.append(hand.text("#stage").partition(":")[0])
        assert hand.each(".box", place) == before
        if stages[-1] == "algebra":
            assert set(hand.titles(".gone.changed")) == {"multiply 1"}
            gone = hand.js("document.querySelectorAll('.gone').length")
    assert stages == ["prune", "algebra", "fold", "common", "tasks"]
    assert hand.js("document.querySelectorAll('.gone').length") > gone
    hand.press("[")
    assert hand.text("#stage").startswith("common: ")
    hand.js("(s => { s.value = 0; s.dispatchEvent(new Event('input')); })(document.getElementById('slider'))")
    assert hand.text("#stage").startswith("graph: ")
    assert hand.js("document.querySelectorAll('.gone').length") == 0


@pytest.mark.browser
def test_edges_lead_around_what_a_pass_has_taken_out(hand, tmp_path):
    hand.open(account(), tmp_path)
    hand.press("e", "e", "e", "e", "]", "]")
    hand.press("/", "block0/relu")
    from selenium.webdriver.common.keys import Keys

    hand.press(Keys.ENTER)
    assert hand.text("#panel h2") == "block0/relu"
    assert "block0/dense0/add" in hand.text("#panel ul")
    assert "block0/multiply" not in hand.text("#panel ul")


@pytest.mark.browser
def test_keys_walk_along_edges_open_scopes_and_zoom(hand, tmp_path):
    from selenium.webdriver.common.keys import Keys

    hand.open(network()[0], tmp_path)
    hand.press("c")
    hand.click("x")
    hand.press(Keys.ARROW_UP)
    assert hand.titles(".chosen") == ["+ block0"]
    hand.press(Keys.ARROW_UP, Keys.ARROW_UP)
    assert hand.titles(".chosen") == ["+ loss"]
    hand.press(Keys.ARROW_DOWN)
    assert hand.titles(".chosen") == ["+ block1"]
    hand.press(Keys.ENTER)
    assert hand.titles(".frame") == ["− block1"]
    hand.press(Keys.ARROW_UP)
    hand.press(Keys.ESCAPE)
    assert hand.titles(".chosen") == []
    transform = "document.getElementById('view').getAttribute('transform')"
    before = hand.js(transform)
    hand.press("+")
    assert hand.js(transform) != before
    hand.press("?")
    assert hand.element("#help").is_displayed()
    hand.press(Keys.ESCAPE)
    assert not hand.element("#help").is_displayed()


@pytest.mark.browser
def test_backspace_closes_the_scope_around(hand, tmp_path):
    from selenium.webdriver.common.keys import Keys

    hand.open(network()[0], tmp_path)
    hand.press("/", "block0/dense1/add")
    hand.press(Keys.ENTER)
    hand.js("document.activeElement.blur()")
    hand.press(Keys.BACKSPACE)
    assert hand.titles(".chosen") == ["+ dense1"]
    hand.press(Keys.BACKSPACE)
    assert hand.titles(".chosen") == ["+ block0"]


@pytest.mark.browser
def test_dragging_moves_the_picture_and_the_wheel_zooms_about_the_pointer(hand, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    hand.open(network()[0], tmp_path)
    hand.press("c")
    where = hand.box("x").rect
    drag = ActionChains(hand.browser).move_to_element_with_offset(hand.element("#canvas"), -400, 250)
    drag.click_and_hold().move_by_offset(60, -40).release().perform()
    moved = hand.box("x").rect
    assert (round(moved["x"] - where["x"]), round(moved["y"] - where["y"])) == (60, -40)
    middle = [moved["x"] + moved["width"] / 2, moved["y"] + moved["height"] / 2]
    ActionChains(hand.browser).scroll_from_origin(ScrollOrigin.from_viewport(*map(int, middle)), 0, -200).perform()
    zoomed = hand.box("x").rect
    assert zoomed["width"] > moved["width"]
    assert abs(zoomed["x"] + zoomed["width"] / 2 - middle[0]) < 3


@pytest.mark.browser
def test_the_page_asks_for_nothing_but_itself(hand, tmp_path):
    hand.open(account(), tmp_path)
    hand.press("e", "]", "/", "mean")
    events = [json.loads(entry["message"])["message"] for entry in hand.browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    others = [url for url in asked if not url.startswith("data:")]
    assert others == [(tmp_path / "net.html").as_uri()]


@pytest.mark.browser
def test_ten_thousand_nodes_are_folded_to_what_a_page_holds_and_are_all_found(hand, tmp_path):
    random = np.random.default_rng(0)
    with fg.Graph() as graph:
        tensors = [fg.placeholder("x", (4,))]
        for i in range(9_999):
            back = random.integers(1, 30, 2)
            tensors.append(fg.add(tensors[max(0, i - back[0])], tensors[max(0, i - back[1])]))
    hand.open(graph, tmp_path)
    assert 0 < len(hand.titles()) <= 300
    hand.press("/", "add_5000")
    from selenium.webdriver.common.keys import Keys

    hand.press(Keys.ENTER)
    assert hand.text("#panel h2") == "add_5000"
    assert hand.titles(".chosen") == ["add"]
    rect = hand.element(".chosen").rect
    assert 0 < rect["x"] < 1200 and 0 < rect["y"] < 900


@pytest.mark.browser
def test_a_plan_and_its_tasks_are_a_page_too(hand, tmp_path):
    found = account()
    hand.open(found.plan, tmp_path)
    hand.press("e", "e")
    assert {title.split(",")[0] for title in hand.titles(".frame")} == {f"− task {task.index}" for task in found.plan.tasks}
    assert not hand.element("#passes").is_displayed()


@pytest.mark.browser
def test_a_marked_node_is_in_sight_when_the_page_opens(hand, tmp_path):
    graph, *_ = network(8, 4)
    hand.open(graph, tmp_path, marked=graph.node("block5/dense2/matmul"), notes={graph.node("block5/dense2/matmul"): "made NaN"})
    assert hand.text("#panel h2") == "block5/dense2/matmul"
    assert hand.titles(".marked") == ["matmul"]
    assert "made NaN" in hand.js("document.querySelector('.marked').textContent")
