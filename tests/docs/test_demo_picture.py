"""The picture in the README: the one that is there, and one that its script makes now."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"
PANELS = {"Authorization", "Registration", "Login", "Token exchange", "Errors", "Identity provider"}


def make(*options: str) -> subprocess.CompletedProcess[str]:
    asked = [sys.executable, str(DOCS / "make_demo_picture.py"), *options]
    return subprocess.run(  # noqa: S603 - a script of this repository
        asked, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module", params=["committed", "made now"])
def drawing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "committed":
        return (DOCS / "demo.svg").read_text(encoding="utf-8")
    output = tmp_path_factory.mktemp("picture") / "demo.svg"
    short = ("--frames", "3", "--interval", "0.2", "--warm-up", "0.3", "--output", str(output))
    made = make(*short)
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    return output.read_text(encoding="utf-8")


@pytest.fixture
def svg(drawing: str) -> ET.Element:
    return ET.fromstring(drawing)  # noqa: S314 - a file of this repository


def frames(svg: ET.Element) -> list[ET.Element]:
    return [group for group in svg.iter(f"{SVG}g") if group.get("class") == "frame"]


def description(svg: ET.Element) -> str:
    return svg.findtext(f"{SVG}desc") or ""


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match, f"{pattern} is not in {text}"
    return match[1]


def animation(svg: ET.Element) -> str:
    """What the style sheet says where motion is welcome."""
    still, _, moving = (svg.findtext(f"{SVG}style") or "").partition("@media (prefers-reduced-motion:no-preference){")
    assert "animation" not in still
    return moving


def shown_at(moving: str, frame: int) -> list[float]:
    """At which percentages of the time line this frame appears and disappears."""
    steps = re.findall(r"([\d.]+)%{visibility:(\w+)}", found(rf"@keyframes show-{frame}{{(.*)}}$", moving))
    if frame > 1:
        assert steps.pop(0) == ("0", "hidden")
    assert [what for _, what in steps] == ["visible", "hidden"][: len(steps)]
    return [float(at) for at, _ in steps]


def test_the_picture_asks_for_nothing_from_elsewhere_and_runs_nothing(drawing: str, svg: ET.Element) -> None:
    assert {element.tag.removeprefix(SVG) for element in svg.iter()} <= {
        *("svg", "title", "desc", "style", "g", "rect", "circle", "text", "path"),
    }
    attributes = {name for element in svg.iter() for name in element.keys()}  # noqa: SIM118 - an Element is no dict
    assert not {name for name in attributes if name.startswith("on") or name.endswith("href")}
    assert re.findall(r"\w+://[^\"\s]+", drawing) == ["http://www.w3.org/2000/svg"]
    assert not re.findall(r"url\(|@import|@font-face|<!|<\?", drawing)


def test_the_picture_is_told_to_those_who_cannot_see_it(svg: ET.Element) -> None:
    assert svg.get("role") == "img"
    told = {element.get("id"): element.text for element in svg if element.tag in {f"{SVG}title", f"{SVG}desc"}}
    assert svg.get("aria-labelledby") == "title desc"
    assert told["title"]
    assert told["desc"]


def test_the_picture_names_every_panel_and_no_address(svg: ET.Element) -> None:
    words = {text.text or "" for text in svg.iter(f"{SVG}text")}
    assert words >= PANELS | {"seed-oauth demo", "● live"}
    assert not [word for word in words if re.search(r"127\.0\.0\.1|localhost|:\d", word)]


def test_the_picture_shows_logins_that_went_well(svg: ET.Element) -> None:
    words = [text.text for text in svg.iter(f"{SVG}text")]
    assert "No traffic yet. Figures appear with the first request to the front door." not in words
    assert {"token", "ok"} <= set(words)


def test_there_are_as_many_frames_as_the_picture_says_and_each_differs_from_the_one_before(svg: ET.Element) -> None:
    contents = [[(child.attrib, child.text) for child in frame] for frame in frames(svg)]
    assert len(contents) == int(found(r"(\d+) frames", description(svg)))
    assert all(before != after for before, after in pairwise(contents))


def test_one_frame_follows_the_other_and_the_last_stays_longest(svg: ET.Element) -> None:
    moving = animation(svg)
    seconds = float(found(r"\.frame{animation:([\d.]+)s step-end infinite}", moving))
    each = float(found(r"([\d.]+) s each", description(svg))) / seconds * 100
    numbers = range(1, len(frames(svg)) + 1)
    for number, following in pairwise(numbers):
        shown, gone = shown_at(moving, number)
        assert shown == pytest.approx((number - 1) * each, abs=0.01)
        # Not a moment without a frame, nor with two.
        assert gone == shown_at(moving, following)[0]
    [shown] = shown_at(moving, numbers[-1])
    assert 100 - shown > 2 * each
    assert all(f"#frame-{number}{{animation-name:show-{number}}}" in moving for number in numbers)
    assert [frame.get("id") for frame in frames(svg)] == [f"frame-{number}" for number in numbers]


def test_where_nothing_moves_the_last_frame_is_the_picture(svg: ET.Element) -> None:
    *others, last = [frame.get("visibility") for frame in frames(svg)]
    assert (set(others), last) == ({"hidden"}, "visible")


def test_columns_line_up_in_any_font(svg: ET.Element) -> None:
    for text in svg.iter(f"{SVG}text"):
        width = float(text.attrib["textLength"]) / len(text.text or "")
        assert width == pytest.approx(8.4, abs=0.01)
        assert float(text.attrib["x"]) / width == pytest.approx(round(float(text.attrib["x"]) / width), abs=0.05)


def test_the_picture_is_small_enough_for_a_front_page(drawing: str) -> None:
    assert len(drawing.encode()) < 350_000


@pytest.mark.parametrize("nothing", [("--frames", "0"), ("--interval", "0")])
def test_a_picture_of_nothing_is_refused(nothing: tuple[str, str], tmp_path: Path) -> None:
    made = make(*nothing, "--output", str(tmp_path / "demo.svg"))
    assert made.returncode == 2
    assert "there is no picture without a frame and an interval" in made.stderr
    assert not list(tmp_path.iterdir())
