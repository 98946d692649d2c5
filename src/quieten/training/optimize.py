"""One optimiser step with everything around it: schedule, clipping, guard, averaging of weights.

A family owns one `Updater` for each network that it trains.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, distributed, nn

from quieten.errors import ConfigError
from quieten.training.config import OptimizerConfig
from quieten.training.tensorfile import below


class Updater:
    """AdamW on one network, with averaged weights beside it.

    Args:
        total_steps: where the cosine schedule ends.
        copied: modules and buffers of the network that are no weights to average, such as
            codebooks: the averaged network has them as they are.

    Attributes:
        net: the network that is trained.
        averaged: a copy whose weights follow slowly (EMA); it is validated and exported.
        skipped: steps left out so far because a gradient was not finite.
    """

    def __init__(
        self,
        net: nn.Module,
        config: OptimizerConfig,
        total_steps: int,
        copied: tuple[str, ...] = (),
    ) -> None:
        self.net = net
        self.copied = {name for name, _ in net.named_buffers() if name.split(".")[0] in copied}
        self.averaged = copy.deepcopy(net).requires_grad_(False).eval()
        self.config = config
        self.total_steps = total_steps
        self.optimizer = torch.optim.AdamW(
            parameter_groups(net, config.weight_decay), config.learning_rate, config.betas
        )
        self.skipped = 0
        self.bad_in_a_row = 0
        self.plateau = {"scale": 1.0, "best": -math.inf, "waited": 0.0}

    def update(self, loss: Tensor, step: int) -> dict[str, float]:
        """Takes one step down `loss`; returns the gradient norm and the learning rate.

        Raises: ConfigError when too many steps in a row had gradients that are not finite.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.share_gradients()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip_norm).item()
        rate = self.learning_rate(step)
        if math.isfinite(norm):
            self.bad_in_a_row = 0
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self.average(step)
        else:
            self.skip(step)
        return {"gradient_norm": norm, "learning_rate": rate, "skipped": float(self.skipped)}

    def skip(self, step: int) -> None:
        """Counts a step that was left out, and stops when it does not get better."""
        self.skipped += 1
        self.bad_in_a_row += 1
        kept = dict(self.averaged.named_buffers())
        for name, buffer in self.net.named_buffers():
            if not torch.isfinite(buffer).all():  # a norm's statistics would never recover
                buffer.copy_(kept[name])
        if self.bad_in_a_row >= self.config.max_bad_steps:
            raise ConfigError(
                f"training diverged: {self.bad_in_a_row} steps in a row up to step {step} had "
                "gradients that are not finite; lower optimizer.learning_rate or clip_norm"
            )

    def share_gradients(self) -> None:
        """Averages gradients and running statistics over all processes, where there are several."""
        if not distributed.is_initialized():
            return
        world = distributed.get_world_size()
        tensors = [p.grad for p in self.net.parameters() if p.grad is not None]
        tensors += [b for b in self.net.buffers() if b.is_floating_point()]
        together = torch.cat([tensor.reshape(-1) for tensor in tensors])  # one message, not many
        distributed.all_reduce(together)
        parts = torch.split(together.div_(world), [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def learning_rate(self, step: int) -> float:
        """Returns the rate at a step: linear warm-up, then the schedule."""
        config = self.config
        warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
        if config.schedule == "plateau":
            return config.learning_rate * warm * self.plateau["scale"]
        if config.schedule == "step":
            return config.learning_rate * warm * config.step_factor ** (step // config.step_every)
        held = config.hold_share
        progress = max(min(step / self.total_steps, 1.0) - held, 0.0) / (1.0 - held)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return config.learning_rate * warm * max(cosine, config.final_share)

    def watch(self, score: float) -> None:
        """Tells the plateau schedule the newest validation score (higher is better)."""
        plateau = self.plateau
        if score > plateau["best"]:
            plateau.update(best=score, waited=0.0)
            return
        plateau["waited"] += 1
        if plateau["waited"] > self.config.plateau_patience:
            plateau.update(scale=plateau["scale"] * self.config.plateau_factor, waited=0.0)

    @torch.no_grad()
    def average(self, step: int) -> None:
        """Moves the averaged weights towards the present ones, quickly at first."""
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        source = self.net.state_dict()
        for name, value in self.averaged.state_dict().items():
            if value.is_floating_point() and name not in self.copied:
                value.lerp_(source[name], 1 - decay)
            else:
                value.copy_(source[name])

    def tensors(self) -> dict[str, Tensor]:
        """Returns everything that a checkpoint must hold, by name."""
        named = {f"net/{k}": v for k, v in self.net.state_dict().items()}
        named |= {f"averaged/{k}": v for k, v in self.averaged.state_dict().items()}
        state = self.optimizer.state_dict()["state"]
        for index, entry in state.items():
            named |= {f"optimizer/{index}/{k}": v for k, v in entry.items()}
        return named

    def numbers(self) -> dict[str, Any]:
        """Returns the rest of the state, fit for JSON."""
        return {
            "skipped": self.skipped,
            "bad_in_a_row": self.bad_in_a_row,
            "plateau": {k: v for k, v in self.plateau.items() if math.isfinite(v)},
        }

    def begin_with(self, weights: dict[str, Tensor]) -> None:
        """Takes over weights, trained and averaged alike, without any state of the optimiser.

        Parts that the network calls optional keep their start where the weights lack them.

        Raises: RuntimeError if they are of another network.
        """
        optional = getattr(self.net, "optional_parts", ())
        kept = {k: v for k, v in self.net.state_dict().items() if k.split(".")[0] in optional}
        self.net.load_state_dict(kept | weights)
        self.averaged.load_state_dict(kept | weights)

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Takes over what `tensors` and `numbers` returned in another process."""
        self.net.load_state_dict(below("net/", tensors))
        self.averaged.load_state_dict(below("averaged/", tensors))
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in below("optimizer/", tensors).items():
            index, key = name.split("/")
            state.setdefault(int(index), {})[key] = laid_out_as(parameters[int(index)], value)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.skipped, self.bad_in_a_row = numbers["skipped"], numbers["bad_in_a_row"]
        self.plateau |= numbers["plateau"]


def laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """Returns a state of the optimiser in the memory layout of its parameter.

    Other strides could mean other rounding, and a resumed run is to end as one without a break.
    """
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Returns matrices with weight decay, vectors (biases, norms) without."""
    parameters = list(net.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
