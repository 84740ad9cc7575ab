"""AdamW, and Adam row by row."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelmill.training.optimizer import Optimizer


def table_of(values: torch.Tensor) -> nn.Embedding:
    return nn.Embedding.from_pretrained(values.clone(), freeze=False)


def optimizer_of(table: nn.Embedding, head: nn.Linear) -> Optimizer:
    group = {"params": list(head.parameters()), "lr": 0.01, "weight_decay": 0.0}
    return Optimizer([group], table=table, rate=0.01, weight_decay=0.1)


def loss_of(table: nn.Embedding, head: nn.Linear, ids: list[int]) -> torch.Tensor:
    loss: torch.Tensor = head(table(torch.tensor(ids))).square().sum()
    return loss


def test_rows_that_every_batch_has_learn_as_adamw_teaches_them() -> None:
    torch.manual_seed(0)
    values, head, other = torch.randn(4, 3), nn.Linear(3, 1), nn.Linear(3, 1)
    other.load_state_dict(head.state_dict())
    table, dense = table_of(values), table_of(values)
    ours = optimizer_of(table, head)
    theirs = torch.optim.AdamW(
        [
            {"params": list(other.parameters()), "weight_decay": 0.0},
            {"params": [dense.weight], "weight_decay": 0.1},
        ],
        lr=0.01,
    )
    for _ in range(5):
        loss_of(table, head, [0, 1, 2, 3, 1]).backward()
        ours.step(1.0, max_norm=1.0)
        loss_of(dense, other, [0, 1, 2, 3, 1]).backward()
        nn.utils.clip_grad_norm_([dense.weight, *other.parameters()], 1.0)
        theirs.step()
        theirs.zero_grad()
    torch.testing.assert_close(table.weight, dense.weight)
    torch.testing.assert_close(head.weight, other.weight)


def test_rows_that_a_batch_lacks_stay_and_have_a_clock_of_their_own() -> None:
    torch.manual_seed(0)
    values, head = torch.randn(4, 3), nn.Linear(3, 1)
    table = table_of(values)
    optimizer = optimizer_of(table, head)
    for ids in ([0], [0], [0, 2]):
        loss_of(table, head, ids).backward()
        optimizer.step(1.0, max_norm=1e9)
    assert torch.equal(table.weight[[1, 3]], values[[1, 3]])
    # A first step is as long as the rate, whenever it comes.
    moved = (table.weight[2] - values[2] * (1 - 0.01 * 0.1)).abs()
    assert moved.tolist() == pytest.approx([0.01] * 3, rel=1e-3)
    optimizer.close()
    loss_of(table, head, [1]).backward()
    assert table.weight.grad is not None
    assert not table.weight.grad.is_sparse


def test_a_state_goes_on_in_the_same_bits() -> None:
    def run(*, stop: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        table, head = table_of(torch.randn(4, 3)), nn.Linear(3, 1)
        optimizer = optimizer_of(table, head)
        for step in range(4):
            if step == stop:
                state = {name: value.clone() for name, value in optimizer.tensors().items()}
                optimizer = optimizer_of(table, head)
                optimizer.load(state)
            loss_of(table, head, [step % 3, 3]).backward()
            optimizer.step(0.5, max_norm=1.0)
        return table.weight.detach()

    assert torch.equal(run(stop=None), run(stop=2))
