"""Letters that the font of a plot lacks."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from modelmill.registry.figure_letters import draw_letters, missing_letters

NOWHERE = "\U0010fffd"
"""For private use: no font has it."""


def figure_with(label: str) -> Figure:
    figure = Figure()
    axes = figure.subplots()
    axes.barh([0, 1], [1, 2])
    axes.set_yticks([0, 1], labels=["known", label])
    return figure


def png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def letter_of_another_font() -> str:
    """A letter that a font of Matplotlib has and DejaVu Sans has not."""
    known = {
        entry.name: set(FT2Font(entry.fname).get_charmap())
        for entry in fontManager.ttflist
        if entry.name in ("DejaVu Sans", "STIXGeneral") and entry.style == "normal" and entry.weight == 400
    }
    return chr(min(code for code in known["STIXGeneral"] - known["DejaVu Sans"] if code > 0x2000))


def test_known_letters_are_drawn_once() -> None:
    drawn: list[int] = []
    assert draw_letters(figure_with("Ωя"), lambda: drawn.append(1)) == set()
    assert drawn == [1]


def test_another_font_shows_what_the_first_one_lacks() -> None:
    letter = letter_of_another_font()
    figure = figure_with(letter)
    pictures: list[bytes] = []
    with pytest.warns(UserWarning, match="missing from font"):
        plain = png(figure)
    assert draw_letters(figure, lambda: pictures.append(png(figure))) == set()
    assert pictures[0] == plain
    assert pictures[1] != plain
    families = [text.get_fontfamily() for text in figure.findobj() if isinstance(text, Text)]
    assert all(len(family) > 1 and family[0] == "sans-serif" for family in families)


def test_what_no_font_has_is_said_and_other_warnings_are_passed_on() -> None:
    figure = figure_with(NOWHERE)

    def draw() -> None:
        png(figure)
        warnings.warn("something else", UserWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        missing = draw_letters(figure, draw)
    assert {str(one.message) for one in caught} == {"something else"}
    assert missing == {NOWHERE}
    line = missing_letters("plots/confusion.png", {"食", "物"})
    assert line.startswith(
        "plots/confusion.png has boxes for 2 letters (物食): no font on this machine has them"
    )


def test_a_logged_plot_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import mlflow

    from modelmill.registry.tracking import TrackedRun

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("plots", artifact_location=str(tmp_path / "artifacts"))
    tracked = TrackedRun(client, client.create_run(experiment), fresh=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracked.log_figure(figure_with(NOWHERE + "food"), "plots/classes.png")
    assert list((tmp_path / "artifacts").rglob("classes.png"))
    assert capsys.readouterr().out.startswith("plots/classes.png has boxes for 1 letters")
