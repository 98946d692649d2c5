"""The vector quantizer: the nearest entry, gradients that pass, books that stay alive."""

import pytest
import torch
from torch import distributed

from quieten.errors import ConfigError
from quieten.training.quantizer import VectorQuantizer, entries, kmeans, nearest


def vectors(count=200, dim=4, seed=1):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def clusters(centres, each=50, spread=0.01):
    """Vectors (centres * each, D) around given centres, in turn."""
    return centres.repeat(each, 1) + spread * vectors(each * len(centres), centres.shape[1])


def make(*arguments, **settings):
    torch.manual_seed(3)
    return VectorQuantizer(*arguments, **settings)


def test_the_nearest_entry_is_chosen():
    x, book = vectors(40)[None], vectors(7, seed=2)[None]
    expected = torch.cdist(x, book).argmin(-1)
    assert torch.equal(nearest(x, book), expected)
    assert torch.equal(entries(book, expected)[0], book[0][expected[0]])


@pytest.mark.parametrize(("groups", "depth"), [(1, 1), (2, 1), (1, 3), (4, 2)])
def test_codes_are_sums_of_the_entries_that_their_numbers_name(groups, depth):
    quantizer = make(4, 8, groups, depth).train()
    quantizer(vectors())
    quantizer.eval()
    z_e = vectors(30, seed=5).reshape(2, 15, 4)
    code = quantizer(z_e)
    assert code.z_q.shape == z_e.shape and code.indices.shape == (2, 15, depth, groups)
    parts = [
        sum(quantizer.books[level, g][code.indices[..., level, g]] for level in range(depth))
        for g in range(groups)
    ]
    torch.testing.assert_close(code.z_q, torch.cat(parts, dim=-1))


def test_levels_take_what_the_level_before_left_over():
    errors = []
    for depth in (1, 2, 4):
        quantizer = make(4, 8, 1, depth).train()
        quantizer(vectors(400))
        errors.append(quantizer(vectors(400)).commitment.item())
    assert errors[1] < 0.6 * errors[0] and errors[2] < 0.6 * errors[1]


@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_the_gradient_goes_straight_through(learning):
    quantizer = make(4, 8, learning=learning).train()
    z_e = vectors().requires_grad_()
    weight = vectors(200, seed=9)
    (gradient,) = torch.autograd.grad((quantizer(z_e).z_q * weight).sum(), z_e)
    assert torch.equal(gradient, weight)


def test_commitment_pulls_at_the_vectors_and_codebook_at_the_entries():
    quantizer = make(4, 8, learning="gradient", start="uniform", restart_below=0.0).train()
    z_e = vectors().requires_grad_()
    code = quantizer(z_e)
    assert code.commitment.item() == pytest.approx(code.codebook.item())
    inputs = (z_e, quantizer.books)
    pull = torch.autograd.grad(code.commitment, inputs, retain_graph=True, allow_unused=True)
    assert pull[1] is None
    torch.testing.assert_close(pull[0], 2 * (z_e - code.z_q).detach() / z_e.numel())
    pull = torch.autograd.grad(code.codebook, inputs, allow_unused=True)
    assert pull[0] is None and pull[1].any()


def test_averaged_books_have_no_gradient_and_no_parameters():
    quantizer = make(4, 8).train()
    assert list(quantizer.parameters()) == []
    assert not quantizer(vectors().requires_grad_()).codebook.requires_grad


def test_books_start_from_kmeans():
    """Eight clear clusters, so the first batch is coded nearly without loss."""
    centres = 5 * vectors(8, seed=4)
    quantizer = make(4, 64).train()
    assert not quantizer.ready
    code = quantizer(clusters(centres))
    assert quantizer.ready and code.commitment < 1e-3
    distance = torch.cdist(centres, quantizer.books[0, 0]).min(1).values
    assert distance.max() < 0.05


def test_kmeans_centres_are_means_of_what_is_nearest_to_them():
    x = vectors(500)[None]
    torch.manual_seed(1)
    book = kmeans(x, 4)
    index = nearest(x, book)[0]
    means = torch.stack([x[0][index == k].mean(0) for k in range(4)])
    torch.testing.assert_close(book[0], means, atol=0.1, rtol=0)  # 12 rounds, nearly at rest


def test_averages_move_entries_to_their_vectors():
    """From a start at rest, an entry goes the share (1 - decay) towards the new mean."""
    quantizer = make(2, 2, decay=0.9, restart_below=0.0).train()
    book = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    with torch.no_grad():
        quantizer.books[0, 0], quantizer.sums[0, 0] = book, book
        quantizer.ready.fill_(1.0)
    quantizer(torch.tensor([[1.0, 0.0], [10.0, 2.0]]))
    expected = torch.tensor([[0.1, 0.0], [10.0, 0.2]])
    torch.testing.assert_close(quantizer.books[0, 0], expected)


def test_dead_entries_are_placed_anew():
    quantizer = make(4, 16, decay=0.5, restart_below=0.1).train()
    quantizer(vectors(400))
    x = 20 + vectors(400, seed=8)  # far from all entries: one takes them all, the others starve
    restarts = 0.0
    for _ in range(12):
        quantizer(x)
        restarts += quantizer.health["restarts"]
    assert restarts >= 15
    assert (quantizer.books[0, 0] - 20).abs().max() < 6  # all live where the vectors are
    assert quantizer.health["perplexity"] > 8


def test_entries_stay_dead_where_nothing_restarts_them():
    quantizer = make(4, 16, decay=0.5, restart_below=0.0).train()
    quantizer(vectors(400))
    for _ in range(12):
        quantizer(20 + vectors(400, seed=8))
    assert quantizer.health["restarts"] == 0 and quantizer.health["dead_codes"] >= 12


def test_perplexity_counts_entries_in_even_use():
    quantizer = make(2, 8, restart_below=0.0).train()
    centres = torch.tensor([[0.0, 0], [9, 0], [0, 9], [9, 9]])
    with torch.no_grad():
        quantizer.books[0, 0] = torch.cat([centres, 100 + centres])
        quantizer.sums.copy_(quantizer.books)
        quantizer.ready.fill_(1.0)
    for used in (1, 2, 4):
        quantizer(centres[:used].repeat(8, 1))
        assert 1 <= quantizer.health["perplexity"] <= 8
    health = quantizer.health
    assert health["perplexity"] == pytest.approx(4, rel=1e-4) and health["dead_codes"] == 4
    quantizer(centres[:1].repeat(8, 1))
    assert quantizer.health["perplexity"] == pytest.approx(1, rel=1e-4)


def test_the_error_is_relative_to_the_variance():
    """One entry at the mean loses all of the variance."""
    quantizer = make(4, 2, restart_below=0.0).train()
    with torch.no_grad():
        quantizer.books[..., 0, :] = vectors(2000).mean(0)
        quantizer.books[..., 1, :] = 100.0
        quantizer.ready.fill_(1.0)
    quantizer(vectors(2000))
    assert quantizer.health["vq_error"] == pytest.approx(1, abs=0.01)


def test_evaluation_changes_nothing():
    quantizer = make(4, 8).train()
    quantizer(vectors())
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    health = dict(quantizer.health)
    quantizer.eval()
    first, second = quantizer(vectors(seed=7)), quantizer(vectors(seed=7))
    assert torch.equal(first.z_q, second.z_q) and quantizer.health == health
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_the_same_generator_gives_the_same_books():
    states = []
    for _ in range(2):
        quantizer = make(4, 8).train()
        for seed in range(3):
            quantizer(vectors(seed=seed))
        states.append(quantizer.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_normalized_codes_lie_on_the_sphere():
    quantizer = make(4, 8, normalized=True).train()
    for seed in range(3):
        code = quantizer(vectors(seed=seed) * 7)
    torch.testing.assert_close(quantizer.books.norm(dim=-1), torch.ones(1, 1, 8))
    torch.testing.assert_close(code.z_q.norm(dim=-1), torch.ones(200))


def test_bfloat16_vectors_are_quantized_in_float32():
    quantizer = make(4, 8).train()
    quantizer(vectors())
    quantizer.eval()
    with torch.autocast("cpu", torch.bfloat16):
        code = quantizer(vectors().bfloat16())
    assert code.z_q.dtype == torch.float32
    torch.testing.assert_close(code.z_q, entries(quantizer.books[0], code.indices[..., 0].T)[0])


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match="3 groups do not divide a code of 64"):
        make(64, 8, 3)


def one_of_two(rank, path):
    """One process of two: its own vectors, then the state of its quantizer."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{path}/meet", rank=rank, world_size=2
    )
    torch.set_num_threads(1)
    torch.manual_seed(1)
    quantizer = VectorQuantizer(4, 8, 2, decay=0.5).train()
    for step in range(6):
        torch.manual_seed(step)
        quantizer(vectors(seed=10 * rank + step) + 5 * rank)
    torch.save(quantizer.state_dict(), f"{path}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_have_the_same_books(tmp_path):
    """Started from the first one's vectors, moved by both."""
    torch.multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    entries = one["books"][0, 0]
    assert (entries < 2.5).any() and (entries > 2.5).any()


@pytest.mark.parametrize("depth", [1, 2])
def test_cross_entropy_is_that_of_a_softmax_over_distances(depth):
    """Against the definition, with loops; its gradient pulls the vectors at the wanted entries."""
    torch.manual_seed(2)
    quantizer = VectorQuantizer(6, 4, groups=2, depth=depth, start="uniform")
    quantizer.books.normal_()
    z_e = torch.randn(5, 6, requires_grad=True)
    wanted = torch.randint(4, (5, depth, 2))
    expected = []
    for vector, choices in zip(z_e, wanted, strict=True):
        rest = vector.reshape(2, 3)
        for level in range(depth):
            for group in range(2):
                away = (rest[group] - quantizer.books[level, group]).square().sum(-1)
                expected.append(-torch.log_softmax(-0.5 * away, 0)[choices[level, group]])
            rest = rest - quantizer.books[level, torch.arange(2), choices[level]]
    loss = quantizer.cross_entropy(z_e, wanted)
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    loss.backward()
    assert quantizer.cross_entropy(z_e - 0.1 * z_e.grad, wanted) < loss


def test_books_that_do_not_learn_stay():
    quantizer = VectorQuantizer(4, 8, learning="none", start="uniform").train()
    before = quantizer.books.clone()
    quantizer(torch.randn(64, 4))
    torch.testing.assert_close(quantizer.books, before, atol=0, rtol=0)
    assert quantizer.health["perplexity"] >= 1
