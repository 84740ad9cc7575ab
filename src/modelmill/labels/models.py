"""Label models: from the votes on a row to a probability for each label.

``majority_vote`` gives every function the same weight. ``weighted`` learns the accuracy of each function from
the votes alone, without labels: functions that agree more often than by chance are accurate.

It is the method of A. Ratner, B. Hancock, J. Dunnmon, F. Sala, S. Pandey and C. Ré, *Training complex
models with multi-task weak supervision*, AAAI 2019: the share of rows on which two functions both vote is,
given the label, a product of two rates (the functions are taken to be independent then), so the rates
follow from the matrix of those shares without a label; its diagonal, where a function meets itself, is left
out. A labelling function votes for one label or is silent, so one unknown is left of each: its accuracy.
Silence is no evidence. Nothing is drawn at random: the same counts give the same model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from modelmill.labels.votes import Fired, Floats, Functions, VoteCounts, votes_by_class
from modelmill.options import Record

ModelName = Literal["majority_vote", "weighted"]

_PRIOR_ACCURACY = 0.8
"""Start of the search, and the accuracy of a function that never votes together with another."""
_PRIOR_WEIGHT = 0.1
"""Weight of the prior's squared error beside the matrix's, whose entries are relative."""
_MOST = 0.99
"""Largest accuracy of a function."""


class LabelModel(Record):
    """A fitted label model. It is small: it is sent to the workers."""

    name: ModelName
    function_labels: tuple[str, ...]
    """Label that each function votes for, in the order of the functions."""
    balance: tuple[float, ...]
    """Share of each class, in the order of their names."""
    accuracy: tuple[float, ...] = ()
    """Share of right votes among each function's votes, as the model sees it; empty for a majority vote."""

    @property
    def functions(self) -> Functions:
        """The functions that it is for, named by their number."""
        return Functions(tuple(map(str, range(len(self.function_labels)))), self.function_labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, sorted."""
        return self.functions.classes

    def probabilities(self, fired: Fired) -> Floats:
        """Return how probable each label is, given the votes.

        :param fired: which functions voted, ``(rows, functions)``.
        :return: ``(rows, classes)``; zeros for a row without votes.
        """
        found = _PROBABILITIES[self.name](self, fired)
        found[~fired.any(axis=1)] = 0.0
        return found


def _vote_shares(model: LabelModel, fired: Fired) -> Floats:
    votes = votes_by_class(fired, model.functions)
    shares: Floats = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)
    return shares


def _posterior(model: LabelModel, fired: Fired) -> Floats:
    from scipy.special import softmax

    # Bayes' rule: the evidence of the votes times the prior.
    said = _shares(np.array(model.accuracy), np.array(model.balance), model.functions)
    posterior: Floats = softmax(fired @ np.log(said) + np.log(model.balance), axis=1)
    return posterior


_PROBABILITIES: dict[ModelName, Callable[[LabelModel, Fired], Floats]] = {
    "majority_vote": _vote_shares,
    "weighted": _posterior,
}


def _shares(accuracy: Floats, balance: Floats, functions: Functions) -> Floats:
    """Return the rate at which each function votes on rows of each class, relative to its rate on all rows.

    Wrong votes fall on the other classes as these are frequent.
    """
    share = balance[functions.voted]
    mine = np.arange(len(balance))[None, :] == functions.voted[:, None]  # (functions, classes)
    relative: Floats = np.where(mine, (accuracy / share)[:, None], ((1 - accuracy) / (1 - share))[:, None])
    return relative


def vote_balance(counts: VoteCounts) -> tuple[float, ...]:
    """Return the share of each class among all votes; none is 0."""
    votes = (counts.votes * counts.rows[:, None]).sum(axis=0) + 1.0
    return tuple((votes / votes.sum()).tolist())


def fit_majority_vote(counts: VoteCounts) -> LabelModel:
    """Return the model that gives every function the same weight.

    :param counts: the votes; their balance breaks ties.
    :return: the model.
    """
    labels = counts.functions.labels
    return LabelModel(name="majority_vote", function_labels=labels, balance=vote_balance(counts))


def fit_weighted(counts: VoteCounts, *, balance: Mapping[str, float] | None = None) -> LabelModel:
    """Learn the accuracy of each function from the votes.

    :param counts: the votes of two labels or more; gold labels are not looked at.
    :param balance: share of each class; None: its share of the votes.
    :return: the model.
    """
    from scipy.optimize import minimize

    functions = counts.functions
    shares = vote_balance(counts) if balance is None else tuple(balance[name] for name in functions.classes)
    known = np.array(shares)
    own = known[functions.voted]  # (functions,)
    votes = counts.fired.astype(np.float64)
    together = (votes * counts.rows[:, None]).T @ votes / counts.rows.sum()  # (functions, functions)
    rate = together.diagonal()
    scale = np.sqrt(np.outer(rate, rate))
    matters = (scale > 0) & ~np.eye(len(rate), dtype=bool)
    # Relative to what independent functions of the same rates would give, and to the rarer of both.
    weight = np.divide(1.0, scale, out=np.zeros_like(scale), where=matters) ** 2
    mine = np.arange(len(known))[None, :] == functions.voted[:, None]
    slope = rate[:, None] * np.where(mine, (1 / own)[:, None], (-1 / (1 - own))[:, None])

    def loss(accuracy: Floats) -> tuple[float, Floats]:
        rates = rate[:, None] * _shares(accuracy, known, functions)  # (functions, classes)
        error = (rates * known) @ rates.T - together
        off = accuracy - _PRIOR_ACCURACY
        gradient = (slope * (4 * (weight * error) @ rates * known)).sum(axis=1)
        value = float((weight * error**2).sum() + _PRIOR_WEIGHT * (off**2).sum())
        return value, gradient + 2 * _PRIOR_WEIGHT * off

    bounds = [_bounds(*pair) for pair in zip(rate, own, strict=True)]
    start = np.array([min(max(_PRIOR_ACCURACY, low), high) for low, high in bounds])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    # Rounded: two machines' sums differ in the last digits.
    accuracy = tuple(np.round(found, 6).tolist())
    return LabelModel(name="weighted", function_labels=functions.labels, balance=shares, accuracy=accuracy)


def _bounds(rate: float, own: float) -> tuple[float, float]:
    """Return the accuracies that a function can have which votes on a share of the rows."""
    # At least chance, else "every function is wrong" would fit the same matrix; and a function cannot vote on
    # more rows of its class than there are.
    return own, max(own, min(_MOST, own / rate if rate else _MOST))


def uncertainty(probabilities: Floats) -> Floats:
    """Return the uncertainty of each row's label: its entropy.

    :param probabilities: ``(rows, classes)``; at least two classes.
    :return: from 0 (sure) to 1 (every class is as probable as any other), ``(rows,)``.
    """
    from scipy.special import entr

    entropy: Floats = entr(probabilities).sum(axis=1) / np.log(probabilities.shape[1])
    return entropy


def most_probable(probabilities: Floats, balance: Any) -> Any:
    """Return the number of the most probable class of each row; the more frequent class wins a tie.

    :param probabilities: ``(rows, classes)``.
    :param balance: share of each class.
    :return: ``(rows,)``.
    """
    order = np.argsort(-np.asarray(balance), kind="stable")
    # Rounded: sums of floats must not decide a tie by chance.
    return order[np.round(probabilities[:, order], 12).argmax(axis=1)]
