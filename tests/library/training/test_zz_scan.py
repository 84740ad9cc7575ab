import sys, dataclasses, torch, pytest

sys.path[:0] = ["/work/main/tests/library/training"]
from test_loop import configured, fit, elsewhere, same_bits


class Stop(BaseException):
    pass


def test_scan(tiny_base_model, step_context):
    torch.set_num_threads(1)
    c = configured(tiny_base_model, checkpoint_seconds=1e-9)
    exp, _ = fit(tiny_base_model, c, elsewhere(step_context, "whole"))
    bad = []
    again, _ = fit(tiny_base_model, c, elsewhere(step_context, "whole2"))
    print("whole repeat", same_bits(again.state_dict(), exp.state_dict()))
    for k in range(2, 32):
        ctx = elsewhere(step_context, f"k{k}")

        def prog(d, t, **f):
            if d == k:
                raise Stop

        try:
            fit(tiny_base_model, c, dataclasses.replace(ctx, progress=prog))
        except Stop:
            pass
        m, _ = fit(tiny_base_model, c, ctx)
        if not same_bits(m.state_dict(), exp.state_dict()):
            bad.append(k)
    print("bad", bad)
    assert not bad
