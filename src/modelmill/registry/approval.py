"""Approval of a promotion by a person: whether to ask, the verdict with the answer, what is counted from it.

Under Airflow the question waits as a required action, and holds no worker (``ApproveOperator``). Without
Airflow nobody can be asked, and the step answers as its configuration says (``without_airflow``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelmill.artifacts import VerdictRef

if TYPE_CHECKING:
    from modelmill.registry.ledger import LedgerRow

APPROVE = "Approve"
REJECT = "Reject"


NOBODY = "modelmill run"
"""Who answers where nobody can be asked: no person."""


def is_approved(row: LedgerRow) -> bool:
    """Return whether a row of the ledger says that a person chose the champion."""
    by_person = any(
        reason.startswith("approved by ") and not reason.startswith(f"approved by {NOBODY}")
        for reason in row.reasons
    )
    return row.action == "rollback" or (row.action == "promote" and by_person)


@dataclass(frozen=True)
class Approved:
    """The champion that a person last approved, or the first one, and how many were judged since."""

    version: int
    look: int
    """1 for the first challenger after it."""


def last_approved(rows: Sequence[LedgerRow]) -> Approved | None:
    """Return the champion that the budget is counted from.

    :param rows: what happened to a model, the oldest first.
    :return: None if there has been no champion.
    """
    version, looks = None, 0
    for row in rows:
        first = version is None and row.action != "refuse" and row.to_version is not None
        if row.to_version is not None and (first or is_approved(row)):
            version, looks = row.to_version, 0
        elif row.action in ("promote", "refuse"):
            looks += 1
    return None if version is None else Approved(version, looks + 1)


def spent_at(look: int, alpha: float) -> float:
    """Return the part of an accepted chance of error that a look may spend: all looks together spend it all.

    It is 6 alpha / (pi² look²). By the union bound that holds however the looks depend on one another: all
    are made on the same test rows.

    :param look: 1 for the first.
    :param alpha: accepted chance that any of them errs.
    :return: the accepted chance that this one does.
    """
    return 6 * alpha / (math.pi * look) ** 2


def needs_answer(verdict: VerdictRef) -> bool:
    """Return whether there is anything to approve.

    :param verdict: the gate's.
    :return: False if the gate refused for what the rows show, or if the challenger is the champion already.
    """
    return (verdict.passed or verdict.undecided) and not verdict.unchanged


def answered(verdict: VerdictRef, *, approved: bool, who: str, why: str) -> VerdictRef:
    """Return the verdict with a person's answer.

    :param verdict: the gate's, which has passed.
    :param approved: the answer.
    :param who: who gave it.
    :param why: the reason given; may be empty for an approval.
    :return: the verdict: passed, or refused with the reason.
    """
    reason = " ".join(why.split())
    if approved:
        by = f"{who}: {reason}" if reason else who
        return verdict.model_copy(update={"passed": True, "undecided": False, "approved_by": by})
    refusal = f"rejected by {who}: {reason or 'no reason given'}"
    return verdict.model_copy(
        update={"passed": False, "undecided": False, "reasons": (*verdict.reasons, refusal)}
    )
