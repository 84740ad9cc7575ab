"""The page of a verdict: everything is on it, and everything is escaped."""

from __future__ import annotations

import base64
import re
import warnings

from matplotlib.figure import Figure

from modelmill.registry.comparison import Comparison, NotJudged
from modelmill.registry.gate_report import ChainLink, ClassLine, GateReport, WrongTestRow, as_html
from modelmill.registry.learnt_rows import LeftOut
from modelmill.registry.verdict import judge

EVIL = "<script>alert('x')</script>"


def test_everything_is_on_the_page_and_escaped() -> None:
    found = Comparison(
        check="recall",
        name=f"class {EVIL}",
        metric="recall",
        unit="share",
        challenger=0.03,
        other=None,
        worse=0.03,
        limit=0.2,
        at_least=True,
        p_value=0.001,
        alpha=0.05,
        rows=33,
    )
    link = ChainLink(
        role="teacher",
        uri="models:/m-1",
        metric="R²",
        unit="score",
        value=0.54,
        low=0.5,
        high=0.58,
        cost=None,
        cost_low=None,
        cost_high=None,
    )
    report = GateReport(
        name="topics",
        passed=False,
        challenger="models:/m-2",
        champion=None,
        dataset="/data/topics@3",
        label=EVIL,
        rows=811,
        left_out_rows=366,
        left_out=(LeftOut(models=("champion",), dataset="/data/topics@2", same=341, near=25),),
        confidence=0.95,
        note=EVIL,
        chain=(link, link.model_copy(update={"cost": 0.125, "cost_low": 0.1, "cost_high": 0.15})),
        checks=judge([found], confidence=0.95),
        not_judged=(NotJudged(check="recall", name=f"class {EVIL}", rows=3, reason="too small to judge"),),
        classes=(ClassLine(name=EVIL, rows=33, precision=0.5, recall=0.03),),
        confusions=((EVIL, "", 12),),
        mistakes=(WrongTestRow(key=EVIL, text=EVIL, label=EVIL, answer=EVIL, score=0.99),),
    )
    page = as_html(report, None)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 9
    for told in (
        "366 of 1,177 test rows are left out, 811 are left: the champion learnt from 341 of",
        "near copies of 25 more (/data/topics@2).",
        "this step costs 0.125 (0.100 to 0.150 worse)",
        "refused: less than the accepted 20.00%, beyond chance (p = 0.001)",
        "Most frequent mistakes",
        "Worst rows",
        "Signature",
    ):
        assert told in page


def test_a_plot_of_classes_in_another_script_is_on_the_page_without_warnings() -> None:
    report = GateReport(
        name="topics",
        passed=True,
        challenger="models:/m-2",
        champion=None,
        dataset="/data/topics@3",
        label="\u98df\u7269",
        rows=811,
        confidence=0.95,
        note="",
        checks=(),
        not_judged=(),
    )
    figure = Figure()
    figure.suptitle("\u98df\u7269")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = as_html(report, figure)
    found = re.search(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert found is not None
    assert base64.b64decode(found.group(1)).startswith(b"\x89PNG")
