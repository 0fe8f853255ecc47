"""Contrast of samples with each other and with a memory of earlier ones.

Shapes: B samples, M remembered ones, H width of representations, P width of their projections.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def info_nce(views: Tensor, samples: Tensor, remembered: Tensor, temperature: float) -> Tensor:
    """How badly a view is told to be of its own sample, and not of another one or of an earlier one: a scalar.

    ``-mean_b log ( exp(v_b s_b / T) / sum_k exp(v_b k / T) )``, k the samples and the remembered ones, all of
    length 1.

    Args:
        views: (B, P), of a perturbed sample each.
        samples: (B, P), of the samples themselves; gradient does not flow into them.
        remembered: (M, P); none into them either.
        temperature: T > 0.

    Source: equation 6 of Fang et al., IJCAI 2021 (CMI); as in the authors' code, gradient flows through the views.
    """
    keys = F.normalize(torch.cat([samples, remembered]).detach().float(), dim=1)
    similarity = F.normalize(views.float(), dim=1) @ keys.T / temperature
    return F.cross_entropy(similarity, torch.arange(len(views), device=views.device))


class Bank:
    """A ring of the newest representations, at most ``size`` of them.

    Args:
        size: most rows.
        width: H.
        device: where they are kept.
    """

    def __init__(self, size: int, width: int, device: torch.device) -> None:
        self.size, self.rows, self.next = size, torch.zeros(0, width, device=device), 0

    def add(self, rows: Tensor) -> None:
        """Remember B rows (B, H); where the ring is full they take the places of the oldest."""
        rows = rows.detach().float()[-self.size :]
        free = self.size - len(self.rows)
        self.rows = torch.cat([self.rows, rows[:free]])
        places = (self.next + torch.arange(len(rows[free:]), device=rows.device)) % self.size
        self.rows[places] = rows[free:]
        self.next = (self.next + len(places)) % self.size

    def state_dict(self) -> dict[str, Any]:
        """The rows and the next place."""
        return {"rows": self.rows.clone(), "next": self.next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.rows, self.next = state["rows"].to(self.rows.device).clone(), state["next"]


class Contrast:
    """InfoNCE of representations through a small projection that learns along.

    Args:
        width: H.
        projection_width: P.
        rate: of the projection's Adam.
        temperature: of :func:`info_nce`.
        size: of the :class:`Bank`.
        device: where the representations are.
        generator: CPU generator of the first weights.

    Source: section 3.3 of Fang et al., IJCAI 2021 (CMI, arXiv:2105.08584). The bank there also keeps views, which
    are further anchors; they train the projection alone and are left out here.
    """

    def __init__(
        self, width: int, projection_width: int, rate: float, temperature: float, size: int, device: torch.device,
        generator: torch.Generator,
    ) -> None:
        self.temperature, self.bank = temperature, Bank(size, width, device)
        layers = [_linear(width, projection_width, generator), _linear(projection_width, projection_width, generator)]
        self.head = nn.Sequential(layers[0], nn.ReLU(), layers[1]).to(device)
        self.optimizer = torch.optim.Adam(self.head.parameters(), lr=rate)

    def loss(self, views: Tensor, samples: Tensor) -> Tensor:
        """InfoNCE of representations (B, H) of views and samples, in float32."""
        # autocast keeps its copies of weights to the end of its block, and the projection learns inside of it
        with torch.autocast(views.device.type, enabled=False):
            return info_nce(self.head(views), self.head(samples), self.head(self.bank.rows), self.temperature)

    def train_head(self, views: Tensor, samples: Tensor) -> None:
        """A step of the projection down the same loss."""
        loss = self.loss(views.detach(), samples.detach())
        for parameter, gradient in zip(self.head.parameters(), torch.autograd.grad(loss, list(self.head.parameters()))):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Bank, projection and its optimizer."""
        head = {name: value.clone() for name, value in self.head.state_dict().items()}
        return {"bank": self.bank.state_dict(), "head": head, "optimizer": _copied(self.optimizer.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.bank.load_state_dict(state["bank"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])


def _linear(width: int, out: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with torch's own distribution of first weights, drawn from ``generator``."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, width, out)  # torch's would draw from the global generator
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) / width**0.5)
    return layer


def _copied(state: Any) -> Any:
    """Nested dicts and lists with their tensors copied, so that later steps leave the state alone."""
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_copied(value) for value in state]
    return state.clone() if isinstance(state, Tensor) else state
