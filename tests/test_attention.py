"""Attention of bf16 models on the CPU, and the output layer of language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from dfkd.models import attention
from dfkd.models.classifier import load_classifier
from dfkd.models.language import load


class _Layer(nn.Module):
    is_causal = False


def states(heads: int, positions: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(2, heads, positions, 8, dtype=dtype, requires_grad=True)


def exact(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    wide = (part.detach().double() for part in (query, key, value))
    return sdpa_attention_forward(_Layer(), *wide, mask)[0]


@pytest.mark.parametrize("mask", [None, torch.tensor([True, True, False]).expand(2, 1, 3, 3)])
def test_it_is_exact_up_to_the_rounding_of_what_it_gives(mask: Tensor | None) -> None:
    torch.manual_seed(0)
    query, key, value = states(4, 3), states(4, 3), states(4, 3)
    found, weights = attention.attend(_Layer(), query, key, value, mask)
    assert found.dtype == torch.bfloat16 and weights is None
    torch.testing.assert_close(found.double(), exact(query, key, value, mask), rtol=2**-8, atol=1e-6)
    for gradient in torch.autograd.grad(found.float().sum(), (query, value)):
        assert gradient.dtype == torch.bfloat16 and gradient.isfinite().all()


def test_a_mask_that_is_added_may_be_in_bf16() -> None:
    torch.manual_seed(0)
    parts = states(4, 3), states(4, 3), states(4, 3)
    closed = torch.tensor([True, True, False]).expand(2, 1, 3, 3)
    added = torch.zeros(2, 1, 3, 3, dtype=torch.bfloat16).masked_fill(~closed, torch.finfo(torch.bfloat16).min)
    found, expected = (attention.attend(_Layer(), *parts, mask)[0] for mask in (added, closed))
    assert torch.equal(found, expected)


def test_it_computes_in_float32_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = types_seen(monkeypatch)
    with torch.autocast("cpu", torch.bfloat16):
        attention.attend(_Layer(), states(4, 3), states(4, 3), states(4, 3), None)
    assert seen == [(torch.float32, False)]


@pytest.mark.parametrize("positions, dtype", [(attention.LONGEST + 1, torch.bfloat16), (3, torch.float32)])
def test_long_texts_and_other_types_are_the_librarys(
    monkeypatch: pytest.MonkeyPatch, positions: int, dtype: torch.dtype
) -> None:
    seen = types_seen(monkeypatch)
    attention.attend(_Layer(), *(states(4, positions, dtype) for _ in range(3)), None)
    assert seen == [(dtype, False)]


def types_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.dtype, bool]]:
    """What the library's function is given: the type, and whether autocast was on."""
    seen: list[tuple[torch.dtype, bool]] = []

    def library(module: nn.Module, query: Tensor, *args: Any, **options: Any) -> tuple[Tensor, None]:
        seen.append((query.dtype, torch.is_autocast_enabled("cpu")))
        return query, None

    monkeypatch.setattr(attention, "sdpa_attention_forward", library)
    return seen


def test_it_is_installed_where_the_library_would_take_sdpa(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    model = BertModel(config)
    attention.install(model)
    assert model.config._attn_implementation == attention.NAME
    model.save_pretrained(tmp_path)
    assert attention.NAME not in (tmp_path / "config.json").read_text()  # others can load it
    eager = BertModel._from_config(config, attn_implementation="eager")
    attention.install(eager)
    assert eager.config._attn_implementation == "eager"


def test_classifiers_and_language_models_have_it(toy_teacher: Path, toy_language_model: Path) -> None:
    live = load.load(str(toy_language_model), precision="bf16")
    assert live.model.config._attn_implementation == attention.NAME
    assert load_classifier(str(toy_teacher)).model.config._attn_implementation == attention.NAME


def test_a_language_models_last_position_is_one_product(toy_language_model: Path) -> None:
    live = load.load(str(toy_language_model), precision="float32")
    with torch.profiler.profile() as profile, torch.no_grad():
        live.model.get_output_embeddings()(torch.randn(4, 6, live.model.config.hidden_size)[:, -1:])
    products = {event.key: event.count for event in profile.key_averages()}
    assert "aten::bmm" not in products and products["aten::mm"] == 1
