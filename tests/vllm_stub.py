"""A stand-in for vllm, which needs a GPU: its interface as far as we use it, over a model of transformers."""

from __future__ import annotations

import importlib.machinery
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dfkd.models.language import load
from dfkd.models.language.base import Sampling
from dfkd.models.language.transformers_engine import TransformersEngine
from dfkd.models.language.vllm_engine import NEVER


@dataclass
class SamplingParams:
    """vllm's, with the fields in use; it refuses any other."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    max_tokens: int | None = 16
    seed: int | None = None
    detokenize: bool = True
    stop_token_ids: list[int] | None = None
    logit_bias: dict[int, float] | None = None


class LLM:
    """vllm's results over a model of transformers: the token that ended a text is among the new ones."""

    def __init__(
        self, model: str, dtype: str, trust_remote_code: bool, gpu_memory_utilization: float, seed: int
    ) -> None:
        self.opened = {"model": model, "dtype": dtype}
        self.engine = TransformersEngine(load.load(model, precision="float32"))
        self.asked: list[SamplingParams] = []

    def generate(self, prompts: Any, sampling_params: list[SamplingParams], use_tqdm: bool = True) -> list[Any]:
        assert not use_tqdm
        self.asked += sampling_params
        return [self._one(p["prompt_token_ids"], how) for p, how in zip(prompts, sampling_params)]

    def _one(self, prompt: list[int], how: SamplingParams) -> Any:
        assert how.max_tokens is not None and how.seed is not None and how.stop_token_ids is not None
        never = tuple(token for token, bias in (how.logit_bias or {}).items() if bias <= NEVER)
        sampling = Sampling(
            how.temperature, max(how.top_k, 0), how.top_p, how.repetition_penalty, how.min_tokens, how.max_tokens, never
        )
        self.engine.ends = frozenset(how.stop_token_ids)
        text, = self.engine.generate([prompt], [how.seed], sampling)
        # the last token was taken off by our engine; which one it was does not matter for the end of text
        tokens = [*text.tokens, how.stop_token_ids[0]] if text.ended else list(text.tokens)
        reason = "stop" if text.ended else "length"
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=tokens, finish_reason=reason)])


def install(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put the stand-in where ``import vllm`` finds it."""
    module = ModuleType("vllm")
    module.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module
