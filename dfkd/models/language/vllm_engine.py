"""Generation with vllm (extra ``vllm``), imported only when an engine is built; for machines with a GPU.

It does its own batching, keeps its own copy of the weights, and gives the results of the other engine's interface.
Texts are seeded one by one too, but its kernels are others: its texts are not those of the transformers engine.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Sequence

import torch

from dfkd.errors import ConfigError
from dfkd.models import sources
from dfkd.models.language import load
from dfkd.models.language._tokens import check_request, end_tokens, generated, positions, tokens_with
from dfkd.models.language.base import Generated, Sampling

MEMORY_SHARE = 0.5  # of the GPU's memory; teacher, student and a policy live there as well
NEVER = -100.0  # added to the logits of banned tokens


def check() -> None:
    """Whether vllm is there.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec("vllm") is None:
        fix = "in dfkd's checkout: pip install '.[vllm]' (it needs a GPU), or strategy.engine=transformers"
        raise ConfigError("strategy.engine=vllm, but vllm is not installed", fix=fix)


def open_model(reference: str, device: str | torch.device, precision: str, trust_remote_code: bool = False) -> Any:
    """vllm's ``LLM`` of a language model; for ``reference`` see :func:`dfkd.models.language.load.load`.

    Raises:
        ConfigError: vllm is missing, or the model cannot be found.
    """
    check()
    import vllm

    source = load.local_source(reference)
    load.check_source(source, trust_remote_code)
    given = str(load.weights_type(precision, device)).removeprefix("torch.")
    return sources.attempt(
        _open, source, reference, llm=vllm.LLM, dtype=given, trust_remote_code=trust_remote_code,
        gpu_memory_utilization=MEMORY_SHARE, seed=0,
    )


def _open(source: str, llm: Any, local_files_only: bool = False, **options: Any) -> Any:
    # vllm reads HF_HUB_OFFLINE by itself and knows no local_files_only
    return llm(model=source, **options)


def around(
    llm: Any, reference: str, batch_size: int = 64, stop: str = "", trust_remote_code: bool = False
) -> VllmEngine:
    """An engine around an open ``LLM`` of the model ``reference``."""
    source = load.local_source(reference)
    config, further = load.check_source(source, trust_remote_code), load.generation_config(source)
    tokenizer = load.load_tokenizer(reference, trust_remote_code)
    return VllmEngine(llm, tokenizer, config, batch_size, stop, further)


class VllmEngine:
    """Continues prompts with vllm.

    Args:
        llm: vllm's ``LLM``; several engines may share one.
        tokenizer: of the same model.
        config: the model's configuration.
        batch_size: prompts handed over at a time, at most; vllm makes its own batches of them.
        stop: a text also ends after the first token that contains this; that token stays.
        generation_config: the model's defaults for generation, which may name further ends; ``None``: it has none.
    """

    def __init__(
        self, llm: Any, tokenizer: Any, config: Any, batch_size: int = 64, stop: str = "", generation_config: Any = None
    ) -> None:
        self.llm, self.tokenizer, self.config, self.batch_size = llm, tokenizer, config, batch_size
        self.generated_tokens = 0
        self.ends, self.stops = end_tokens(tokenizer, config, generation_config), tokens_with(tokenizer, stop)

    def generate(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> list[Generated]:
        """Continue each prompt.

        Args:
            prompts: B prompts of token ids, of any lengths, each at least one token long.
            seeds: B seeds, one a prompt.
            sampling: how to draw.

        Raises:
            ConfigError: prompt and text do not fit into the model.
            ValueError: a prompt is empty, or there are not as many seeds.
        """
        check_request(prompts, seeds, positions(self.config), sampling.max_new_tokens)
        found: list[Generated] = []
        for first in range(0, len(prompts), self.batch_size):
            chosen = slice(first, first + self.batch_size)
            given = [{"prompt_token_ids": list(prompt)} for prompt in prompts[chosen]]
            how = [self._parameters(seed, sampling) for seed in seeds[chosen]]
            outputs = self.llm.generate(given, how, use_tqdm=False)
            found += [self._result(prompt, output) for prompt, output in zip(prompts[chosen], outputs)]
        return found

    def _parameters(self, seed: int, sampling: Sampling) -> Any:
        """vllm's ``SamplingParams`` of one text."""
        import vllm

        banned = {"logit_bias": {token: NEVER for token in sampling.banned}} if sampling.banned else {}
        return vllm.SamplingParams(
            temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k or -1,
            repetition_penalty=sampling.repetition_penalty, min_tokens=sampling.min_new_tokens,
            max_tokens=sampling.max_new_tokens, seed=seed, detokenize=False,
            stop_token_ids=sorted(self.ends | self.stops), **banned,
        )

    def _result(self, prompt: Sequence[int], output: Any) -> Generated:
        """vllm leaves the token that ended a text among the new ones; only one of ``stop`` stays."""
        tokens = [int(token) for token in output.outputs[0].token_ids]
        self.generated_tokens += len(tokens)
        ended = bool(tokens) and tokens[-1] in self.ends
        stopped = bool(tokens) and tokens[-1] in self.stops
        return generated(self.tokenizer, prompt, tokens[:-1] if ended else tokens, ended or stopped)
