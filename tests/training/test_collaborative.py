"""Collaborative sampling: the discriminator's verdict rises, and what it accepts stays."""

import torch
from torch import nn

from quieten.training.collaborative import refine


def setup(seed=0):
    torch.manual_seed(seed)
    finish = nn.Linear(8, 32)
    judge = nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 1))
    return finish, (lambda waveform: judge(waveform)[:, 0])


def test_acceptance_rises():
    finish, judge = setup()
    made = refine(torch.randn(64, 8), finish, judge, step=3.0, most=50)
    rejected = made.before <= 0
    assert rejected.any() and (made.after[rejected] > made.before[rejected]).all()
    assert (made.after > 0).float().mean() > (made.before > 0).float().mean()


def test_what_is_accepted_is_not_moved():
    finish, judge = setup()
    late = torch.randn(64, 8)
    made = refine(late, finish, judge, step=3.0, most=50)
    kept = made.before > 0
    assert kept.any() and (made.moves[kept] == 0).all() and (made.moves[~kept] > 0).all()
    torch.testing.assert_close(made.waveform[kept], finish(late)[kept])
    torch.testing.assert_close(made.after, judge(made.waveform))


def test_moves_end_as_soon_as_it_accepts_and_never_exceed_the_most():
    finish, judge = setup()
    late = torch.randn(64, 8)
    few, many = (refine(late, finish, judge, step=3.0, most=most) for most in (3, 50))
    assert few.moves.max() <= 3 and many.moves.max() <= 50
    assert (many.moves[many.after > 0] < 50).any()
    nothing = refine(late, finish, judge, step=3.0, most=0)
    torch.testing.assert_close(nothing.waveform, finish(late))


def test_activations_move_by_the_step():
    """One move has the length step * |activations| / sqrt(most), whatever the gradient is."""
    late = torch.randn(5, 8)
    made = refine(late, lambda x: x, lambda x: -x.square().sum(1) - 1, step=0.1, most=1)
    distances = (made.waveform - late).norm(dim=1)
    torch.testing.assert_close(distances, 0.1 * late.norm(dim=1))
