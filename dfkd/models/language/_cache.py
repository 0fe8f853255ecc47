"""A cache of keys and values whose memory is laid out once, and whose rows can be freed while others go on.

Shapes: B rows, H heads, L positions, D width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class _Layer(DynamicLayer):
    """One layer's keys and values in two blocks of memory; ``keys`` and ``values`` are what is filled of them.

    transformers' own layer copies everything to append one position, and once more to drop a row.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Tensor] = []
        self.rows, self.length = 0, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append positions (B, H, L, D); returns all there are so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.blocks, self.rows = [key_states, value_states], len(key_states)
            self.length = key_states.shape[2]
        else:
            end = self.length + key_states.shape[2]
            for block, states in zip(self.blocks, (key_states, value_states)):
                block[: self.rows, :, self.length : end] = states
            self.length = end
        return self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (block[: self.rows, :, : self.length] for block in self.blocks)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Positions filled."""
        return self.length

    def spread(self, index: Tensor, capacity: int) -> None:
        """Row ``i`` becomes a copy of the old row ``index[i]``; there is room for ``capacity`` positions from now."""
        wider = []
        for block in self.blocks:
            shape = (len(index), block.shape[1], capacity, block.shape[3])
            fresh = torch.empty(shape, dtype=block.dtype, device=block.device)
            fresh[:, :, : self.length] = block[index, :, : self.length]
            wider.append(fresh)
        self.blocks, self.rows = wider, len(index)
        self._show()

    def move(self, sources: Tensor, targets: Tensor, rows: int) -> None:
        """Copy the rows ``sources`` over the rows ``targets``, and keep the first ``rows``."""
        for block in self.blocks if len(sources) else ():
            block[targets, :, : self.length] = block[sources, :, : self.length]
        self.rows = rows
        self._show()


class RowCache(Cache):
    """The layers of one model; prompts are read first, then :meth:`spread` makes room for the texts."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=_Layer)

    def spread(self, index: Tensor, capacity: int) -> None:
        """Copy rows: the new row ``i`` is the old row ``index[i]``.

        Args:
            index: (B,).
            capacity: positions to make room for, those filled included.
        """
        for layer in self._filled():
            layer.spread(index, capacity)

    def move(self, sources: Tensor, targets: Tensor, rows: int) -> None:
        """Copy the rows ``sources`` over the rows ``targets`` (each (M,)), and keep the first ``rows``."""
        for layer in self._filled():
            layer.move(sources, targets, rows)

    def _filled(self) -> list[Any]:
        # some models share keys and values between layers and leave those of others empty
        return [layer for layer in self.layers if isinstance(layer, _Layer) and layer.is_initialized]
