"""Health of a pre-training run: label-free measures on one fixed batch, which change nothing that is trained.

Every method is measured alike, with no code of its own: through its pyramid, its embedding heads where they
are `nets.heads.Embedders`, its named losses, its preview pictures, and any frozen twin of a trained part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from foveate.core.contracts import Method
from foveate.core.types import Batch, Progress
from foveate.scoring import embedding, restoration
from foveate.views.drawn import samples_at
from foveate.views.pipeline import normalise, with_channels

SAMPLES = 16  # of the batch that is looked at: enough for a rank, cheap enough to repeat
PULLED = 4  # of them whose losses are differentiated and whose pictures are scored

Rows = tuple[int, Tensor, Tensor | None]  # stride; embeddings (B, C) of the first and any second view


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Inside the context anything may be computed: buffers and random states are put back after it."""
    kept = [(owner, name, value, value.clone()) for owner, name, value in buffers_of(module)]
    modes = {each: each.training for each in module.modules()}
    devices = sorted({p.device.index for p in module.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for owner, name, value, before in kept:
            owner._buffers[name] = value
            value.copy_(before)
        for each, mode in modes.items():
            each.training = mode


def buffers_of(module: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """Every buffer with its owner and its name there."""
    return [
        (owner, name, value)
        for owner in module.modules()
        for name, value in owner._buffers.items()
        if value is not None
    ]


def measure(method: Method, batch: Batch, progress: Progress) -> dict[str, float]:
    """All measures of a method by name, on a batch that is on the method's device."""
    few = first_samples(batch, PULLED)
    with undisturbed(method):
        with torch.no_grad():
            found = embedding_measures(method, batch["crops"]["global"])
            found |= restoration.scores(method.preview(few, progress))
            found |= twin_distances(method)
            found |= {name: float(value) for name, value in method.measures(batch, progress).items()}
        return found | pulls(method, few, progress)


def first_samples(batch: Batch, count: int) -> Batch:
    """The first samples of a batch."""
    return samples_at(batch, slice(count))


def embedding_measures(method: Method, views: Tensor) -> dict[str, float]:
    """Measures of pooled features and of projections at every scale, from clean views (B, V, C, *S)."""
    found: dict[str, float] = {}
    for scale, (stride, first, second) in enumerate(pooled_features(method, views), start=-1):
        rows = {"features": (first, second)}
        if (head := projector_of(method, scale)) is not None:
            rows["projections"] = (head(first), None if second is None else head(second))
        for kind, pair in rows.items():
            for name, value in embedding.describe(*pair).items():
                found[f"{kind}/stride{stride}/{name}"] = value
    return found


def pooled_features(method: Method, views: Tensor) -> list[Rows]:
    """Mean of the bottleneck and of every decoder map over space, under batch statistics as in training."""
    net = method.net
    clean = with_channels(views, net.in_channels)
    sides: list[list[list[Tensor]]] = [[] for _ in range(min(2, clean.shape[1]))]
    strides: list[int] = []
    for few in torch.split(clean, PULLED):  # no more memory than a step takes
        for side, images in zip(sides, few.unbind(1), strict=False):
            encoded = net.encoder(normalise(images, method.normalisation))
            maps = [encoded[-1], *net.decoder(encoded, len(net.channels))]
            side.append([x.float().flatten(2).mean(2) for x in maps])
            strides = [images.shape[2] // x.shape[2] for x in maps]
    first, *others = ([torch.cat(rows) for rows in zip(*side, strict=True)] for side in sides)
    seconds: list[Tensor] | list[None] = others[0] if others else [None] * len(first)
    return list(zip(strides, first, seconds, strict=True))


def projector_of(method: Method, scale: int) -> nn.Module | None:
    """What turns pooled features of a scale into embeddings, where the method has it and trains it."""
    head = method.embedders().get(scale)
    return None if head is None or isinstance(head, nn.Identity) or is_frozen(head) else head


def pulls(method: Method, batch: Batch, progress: Progress) -> dict[str, float]:
    """Gradient norm of every loss on the encoder: how hard each term pulls."""
    weights = [p for p in method.exported()["encoder"].parameters() if p.requires_grad]
    with torch.enable_grad():
        losses = method(batch, progress)
    found = {}
    for name, loss in losses.items():
        gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        norms = [g.float().norm() for g in gradients if g is not None]
        found[f"pull/{name}"] = float(torch.stack(norms).norm()) if norms else 0.0
    return found


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has weights and none of them takes a gradient."""
    weights = list(module.parameters())
    return bool(weights) and not any(p.requires_grad for p in weights)


def twin_distances(method: nn.Module) -> dict[str, float]:
    """Distance of every target network from the trained part that it follows, against the latter's length.

    A target network is a frozen module beside a trained one with the same parameter names and shapes.
    """
    parts = [(name, module) for name, module in method.named_modules() if name and list(module.parameters())]
    online = {signature(module): module for _, module in reversed(parts) if not is_frozen(module)}
    found: dict[str, float] = {}
    for name, module in parts:
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if is_frozen(module) and not inside and (twin := online.get(signature(module))) is not None:
            found[name] = relative_distance(module, twin)
    return {f"ema_distance/{name}": value for name, value in found.items()}


def signature(module: nn.Module) -> tuple[tuple[str, torch.Size], ...]:
    """What a module and its copy have in common."""
    return tuple((name, p.shape) for name, p in module.named_parameters())


def relative_distance(target: nn.Module, online: nn.Module) -> float:
    """Of all weights as one vector."""
    pairs = [(t, o.detach()) for t, o in zip(target.parameters(), online.parameters(), strict=True)]
    apart = torch.stack([(t.float() - o.float()).norm() for t, o in pairs]).norm()
    return float(apart / torch.stack([o.float().norm() for _, o in pairs]).norm().clamp_min(1e-12))
