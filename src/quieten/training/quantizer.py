"""A vector quantizer: what a network knows about its input, as entries of codebooks.

Product quantization splits a vector into groups, each with a book of its own; residual
quantization quantizes what the level before left over. Books follow the vectors by averages or by
gradients; they start from k-means, and entries that nobody uses are placed anew.

Sources: VQ-VAE, straight-through gradient, averaged books: van den Oord et al., "Neural discrete
representation learning", 2017. Residual levels: Zeghidour et al., "SoundStream", 2021. Start from
k-means and restart of unused entries: Dhariwal et al., "Jukebox", 2020.

Letters: M vectors, D code dimension, G groups, d = D / G, K codebook size.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from quieten.errors import ConfigError

KMEANS_ROUNDS = 12
KMEANS_VECTORS = 8192
"""So many vectors of the first batch are looked at: enough for 512 entries."""


@dataclass(frozen=True)
class Quantized:
    """What became of vectors z_e (..., D).

    Attributes:
        z_e: the vectors as they came.
        z_q: the chosen entries (..., D); its gradient goes straight through to z_e.
        commitment: scalar, how far z_e is from the entries; pulls at z_e.
        codebook: the same scalar, pulling at the entries; without gradient if averages move them.
        indices: (..., depth, G), the chosen entries by number.
    """

    z_e: Tensor
    z_q: Tensor
    commitment: Tensor
    codebook: Tensor
    indices: Tensor


class VectorQuantizer(nn.Module):
    """Quantizes vectors (..., D) in float32.

    Args:
        dim: D.
        size: K, entries of each book.
        groups: parts of a vector, each with its own book.
        depth: levels, each for what the one before left over.
        learning: how books follow: by averages ("ema"), by the gradient of `codebook`, or not at
            all ("none").
        decay: of the averages, a step.
        start: where entries are at first: at the centres of the first batch ("kmeans"), or close
            to zero ("uniform", as in the paper of 2017).
        restart_below: an entry used less often than this share of even use is placed on a vector
            of the batch; 0 never does.
        normalized: vectors and entries have length 1, so that the nearest is the most similar.

    Attributes:
        health: of the last batch in training: `perplexity` (the number of entries that equally
            common choices would need), `dead_codes` (entries that nothing fell on), both the mean
            over the books; `restarts` (entries placed anew), `vq_error` (energy that is lost, over
            the variance of the vectors).

    Raises: ConfigError if the groups do not divide the dimension.
    """

    books: Tensor
    counts: Tensor
    sums: Tensor
    ready: Tensor

    def __init__(
        self,
        dim: int,
        size: int = 512,
        groups: int = 1,
        depth: int = 1,
        *,
        learning: Literal["ema", "gradient", "none"] = "ema",
        decay: float = 0.99,
        start: Literal["kmeans", "uniform"] = "kmeans",
        restart_below: float = 0.1,
        normalized: bool = False,
    ) -> None:
        super().__init__()
        if dim % groups:
            raise ConfigError(
                f"{groups} groups do not divide a code of {dim} numbers: choose a divisor"
            )
        self.groups, self.depth, self.size = groups, depth, size
        self.learning, self.decay, self.start = learning, decay, start
        self.restart_below, self.normalized = restart_below, normalized
        books = torch.empty(depth, groups, size, dim // groups).uniform_(-1 / size, 1 / size)
        if learning == "gradient":
            self.books = nn.Parameter(books)
        else:
            self.register_buffer("books", books)
        self.register_buffer("sums", books.clone())
        self.register_buffer("counts", torch.ones(depth, groups, size))
        self.register_buffer("ready", torch.tensor(float(start == "uniform")))
        self.health = dict.fromkeys(("perplexity", "dead_codes", "restarts", "vq_error"), 0.0)

    def forward(self, z_e: Tensor) -> Quantized:
        """Returns what is nearest to z_e (..., D). In training the books learn from it."""
        with torch.autocast(z_e.device.type, enabled=False):  # bfloat16 would merge entries
            return self.quantize(z_e.float())

    def quantize(self, z_e: Tensor) -> Quantized:
        """Returns what `forward` does, for float32."""
        x = z_e.reshape(-1, self.groups, self.books.shape[-1]).transpose(0, 1)  # (G, M, d)
        if self.normalized:
            x = functional.normalize(x, dim=-1)
        rest, total, indices = x.detach(), torch.zeros_like(x), []
        if self.training and not self.ready:
            self.start_books(rest)
        used, restarts = [], 0
        for level in range(self.depth):
            index = nearest(rest, self.books[level])
            part = entries(self.books[level], index)
            if self.training:
                count, fresh = self.learn(rest, index, level)
                used.append(count)
                restarts += fresh
            rest, total = rest - part.detach(), total + part
            indices.append(index)
        if self.training:
            self.health = health(torch.stack(used), restarts, x.detach(), total.detach())
        z_q = (x + (total - x).detach()).transpose(0, 1).reshape(z_e.shape)
        commitment = (x - total.detach()).square().mean()
        codebook = (x.detach() - total).square().mean()
        chosen = torch.stack(indices).permute(2, 0, 1)  # (M, depth, G)
        chosen = chosen.reshape(*z_e.shape[:-1], self.depth, self.groups)
        return Quantized(z_e, z_q, commitment, codebook, chosen)

    def cross_entropy(self, z_e: Tensor, indices: Tensor) -> Tensor:
        """Returns how far z_e is from making others' choices: scalar, nats per choice.

        The probability of an entry falls with the squared distance, as under a Gaussian of unit
        variance around it.

        Args: z_e (..., D); indices (..., depth, G), the choices to make.
        """
        with torch.autocast(z_e.device.type, enabled=False):
            rest = z_e.float().reshape(-1, self.groups, self.books.shape[-1]).transpose(0, 1)
            chosen = indices.reshape(-1, self.depth, self.groups).permute(1, 2, 0)  # (depth, G, M)
            losses = []
            for book, index in zip(self.books, chosen, strict=True):
                nearness = -0.5 * distances(rest, book)
                losses.append(functional.cross_entropy(nearness.flatten(0, 1), index.flatten()))
                rest = rest - entries(book, index)
            return torch.stack(losses).mean()

    @torch.no_grad()
    def start_books(self, x: Tensor) -> None:
        """Places the entries of all levels at the centres of vectors (G, M, d)."""
        pick = torch.randint(x.shape[1], (min(KMEANS_VECTORS, x.shape[1]),), device=x.device)
        rest = x[:, pick]
        for level in range(self.depth):
            book = self.unit(from_first_process(kmeans(rest, self.size)))
            self.books[level], self.sums[level] = book, book
            rest = rest - entries(book, nearest(rest, book))
        self.ready.fill_(1.0)

    @torch.no_grad()
    def learn(self, x: Tensor, index: Tensor, level: int) -> tuple[Tensor, int]:
        """Moves the books of a level; returns how often each entry was chosen (G, K), and restarts.

        Args: x (G, M, d); index (G, M).
        """
        count, total = (over_processes(part) for part in summed(x, index, self.size))
        if self.learning == "none":
            return count, 0
        scale = self.size / count[0].sum()  # counts are relative: 1 is even use
        counts = self.counts[level].lerp_(count * scale, 1 - self.decay)
        if self.learning == "ema":
            self.sums[level].lerp_(total * scale, 1 - self.decay)
            moved = self.sums[level] / counts.clamp(min=1e-6)[..., None]
            self.books[level] = self.unit(moved)
        dead = counts < self.restart_below
        restarts = int(dead.sum())
        if restarts:
            pick = torch.randint(x.shape[1], (self.size,), device=x.device)
            fresh = from_first_process(x[:, pick].contiguous())
            for place in (self.books, self.sums):
                place[level] = torch.where(dead[..., None], fresh, place[level])
            counts[dead] = 1.0
        return count, restarts

    def unit(self, book: Tensor) -> Tensor:
        """Returns entries at length 1 where that is asked for."""
        return functional.normalize(book, dim=-1) if self.normalized else book


def code_losses(quantized: Quantized | None, like: Tensor) -> dict[str, Tensor]:
    """Returns the terms `commitment` and `codebook`; zero where nothing is quantized."""
    if quantized is None:
        zero = like.new_zeros(())
        return {"commitment": zero, "codebook": zero}
    return {"commitment": quantized.commitment, "codebook": quantized.codebook}


@torch.no_grad()
def nearest(x: Tensor, book: Tensor) -> Tensor:
    """Returns the numbers (G, M) of the entries (G, K, d) nearest to vectors (G, M, d)."""
    return distances(x, book).argmin(-1)


def distances(x: Tensor, book: Tensor) -> Tensor:
    """Returns squared distances (G, M, K) less |x|^2, which is the same for all entries.

    Args: x (G, M, d); book (G, K, d).
    """
    return book.square().sum(-1)[:, None] - 2 * torch.bmm(x, book.transpose(1, 2))


def entries(book: Tensor, index: Tensor) -> Tensor:
    """Returns the entries (G, M, d) of books (G, K, d) by number (G, M)."""
    groups, size, _ = book.shape
    first = size * torch.arange(groups, device=book.device)[:, None]
    return functional.embedding(index + first, book.flatten(0, 1))


def summed(x: Tensor, index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Returns for each entry how many vectors chose it (G, K), and their sum (G, K, d).

    Args: x (G, M, d); index (G, M).
    """
    groups, _, dim = x.shape
    flat = (index + size * torch.arange(groups, device=x.device)[:, None]).flatten()
    total = x.new_zeros(groups * size, dim).index_add_(0, flat, x.reshape(-1, dim))
    count = torch.bincount(flat, minlength=groups * size).to(x.dtype)
    return count.view(groups, size), total.view(groups, size, dim)


def kmeans(x: Tensor, size: int) -> Tensor:
    """Returns the centres (G, K, d) of vectors (G, M, d) after some rounds of Lloyd's algorithm."""
    book = x[:, torch.randint(x.shape[1], (size,), device=x.device)].clone()
    for _ in range(KMEANS_ROUNDS):
        count, total = summed(x, nearest(x, book), size)
        other = x[:, torch.randint(x.shape[1], (size,), device=x.device)]  # for centres of nothing
        mean = total / count.clamp(min=1)[..., None]
        book = torch.where(count[..., None] > 0, mean, other)
    return book


def health(used: Tensor, restarts: int, x: Tensor, total: Tensor) -> dict[str, float]:
    """Returns `VectorQuantizer.health`.

    Args: used (depth, G, K), how often each entry was chosen; x and total (G, M, d).
    """
    share = used / used.sum(-1, keepdim=True)
    entropy = -(share * torch.log(share + 1e-10)).sum(-1)
    variance = x.var(dim=1).mean().clamp(min=1e-12)
    return {
        "perplexity": entropy.exp().mean().item(),
        "dead_codes": (used == 0).sum(-1).float().mean().item(),
        "restarts": float(restarts),
        "vq_error": ((x - total).square().mean() / variance).item(),
    }


def over_processes(tensor: Tensor) -> Tensor:
    """Returns the sum over all processes, where there are several."""
    if distributed.is_initialized():
        distributed.all_reduce(tensor)
    return tensor


def from_first_process(tensor: Tensor) -> Tensor:
    """Returns what process 0 has, so that books stay the same everywhere."""
    if distributed.is_initialized():
        distributed.broadcast(tensor, 0)
    return tensor
