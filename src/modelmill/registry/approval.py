"""Approval of a promotion by a person: whether to ask, and the verdict with the answer.

Under Airflow the question waits as a required action, and holds no worker (``ApproveOperator``). Without
Airflow nobody can be asked, and the step answers as its configuration says (``without_airflow``).
"""

from __future__ import annotations

from modelmill.artifacts import VerdictRef

APPROVE = "Approve"
REJECT = "Reject"


def needs_answer(verdict: VerdictRef) -> bool:
    """Return whether there is anything to approve.

    :param verdict: the gate's.
    :return: False if the gate refused, or if the challenger is the champion already.
    """
    return verdict.passed and not verdict.unchanged


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
        return verdict.model_copy(update={"approved_by": f"{who}: {reason}" if reason else who})
    refusal = f"rejected by {who}: {reason or 'no reason given'}"
    return verdict.model_copy(update={"passed": False, "reasons": (*verdict.reasons, refusal)})
