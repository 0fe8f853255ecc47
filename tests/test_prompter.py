"""The reinforced topic prompter: its environment, its policies, its learner and its rewards."""

from __future__ import annotations

import copy
import doctest
import math
import warnings
from typing import Any, Sequence

import numpy
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from transformers import AddedToken, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from dfkd.config import typed
from dfkd.errors import ConfigError
from dfkd.models import tiny
from dfkd.models.language import environment
from dfkd.models.language.base import LanguageModel
from dfkd.models.language.environment import PromptEnvironment, VectorPromptEnvironment, later, roll_out
from dfkd.synthesis import _prompt_reward as rewarding
from dfkd.synthesis._prompt_actors import LoraActor
from dfkd.synthesis._prompt_policy import Choice, PolicyOptions, PromptPolicy, build_policy
from dfkd.synthesis._prompt_reward import Reward, RewardOptions
from dfkd.synthesis._reinforce import Learner, LearnerOptions, clipped_gain, token_kl

TEXT = "the rain falls on the hills and we eat soup while they play a match in the snow near our home town"
P = 3


def tokenizer() -> Any:
    made = tiny.wordpiece([TEXT, TEXT])
    made.bos_token, made.eos_token = "[CLS]", "[SEP]"
    return made


def language_model(kind: str = "gpt2") -> LanguageModel:
    """A tiny random language model with a vocabulary of about 60; the same one at each call."""
    words = tokenizer()
    common = {"vocab_size": len(words), "bos_token_id": 2, "eos_token_id": 3, "initializer_range": 0.2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "gpt2":
            model: Any = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **common))
        else:
            sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
            model = LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **sizes, **common))
    return LanguageModel(model.eval().requires_grad_(False), words)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def policy(kind: str = "gpt2", seed: int = 0, **options: Any) -> PromptPolicy:
    return build_policy(language_model(kind), PolicyOptions(**options), seeded(seed))


def first_word(word: str = "soup") -> environment.Score:
    """Rewards prompts that begin with a word."""
    token = tokenizer().convert_tokens_to_ids(word)
    return lambda prompts: (prompts[:, 0] == token).astype(float)


def upper_half(prompts: numpy.ndarray) -> numpy.ndarray:
    """Rewards tokens of the vocabulary's upper half."""
    return (prompts >= 30).mean(axis=1)


def train(
    learner: Learner, score: environment.Score, updates: int, until: float = 2.0, seed: int = 1, batch: int = 32
) -> tuple[int, list[dict[str, float]]]:
    """Learn from a score in the environment; the updates it took to a mean reward of ``until``, and all facts."""
    generator, made = seeded(seed), []
    environments = VectorPromptEnvironment(batch, learner.policy.vocabulary, P, score)
    for step in range(updates):
        prompts, rewards = roll_out(environments, lambda tokens: learner.policy.act(tokens, generator))
        if float(rewards.mean()) >= until:
            return step, made
        made.append(learner.update(prompts, rewards))
    return updates, made


def drawn(acting: PromptPolicy, n: int, seed: int = 5) -> torch.Tensor:
    generator = seeded(seed)
    return roll_out(VectorPromptEnvironment(n, acting.vocabulary, P, later), lambda t: acting.act(t, generator))[0]


# the environment

def test_the_usage_shown_works() -> None:
    results = doctest.testmod(environment)
    assert results.failed == 0 and results.attempted >= 10


def test_the_single_form_passes_gymnasiums_check() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*not having a spec.*")  # it is registered under no name
        check_env(PromptEnvironment(50, 4, first_word()))


@pytest.mark.parametrize("vector", [False, True])
def test_a_seed_reaches_a_score_that_draws(vector: bool) -> None:
    generator = numpy.random.default_rng(5)

    def reseed(seed: int) -> None:
        nonlocal generator
        generator = numpy.random.default_rng(seed)

    def score(prompts: numpy.ndarray) -> numpy.ndarray:
        return generator.random(len(prompts))

    made: Any = VectorPromptEnvironment(2, 9, 1, score, reseed) if vector else PromptEnvironment(9, 1, score, reseed)
    action, gained = numpy.array([3, 4]) if vector else 3, []
    for seed in (1, 1, None, 2):
        made.reset(seed=seed)
        gained.append(numpy.asarray(made.step(action)[1]).tolist())
    assert gained[0] == gained[1] and len({str(each) for each in gained}) == 3


def test_tokens_that_are_no_text_are_told_and_not_refused() -> None:
    allowed = numpy.array([True, False, True, False])
    environment = PromptEnvironment(4, 2, first_word(), allowed=allowed)
    _, facts = environment.reset(seed=0)
    assert facts["action_mask"].tolist() == [1, 0, 1, 0] and environment.action_masks().tolist() == allowed.tolist()
    drawn = {int(environment.action_space.sample(facts["action_mask"])) for _ in range(40)}
    assert drawn == {0, 2}
    assert environment.step(1)[4]["action_mask"].tolist() == [1, 0, 1, 0]
    plain = PromptEnvironment(4, 2, first_word())
    assert plain.reset()[1] == {} and plain.action_masks().all()


@pytest.mark.parametrize("allowed", [None, numpy.arange(9) > 2])
def test_the_vector_form_is_many_single_ones(allowed: Any) -> None:
    def score(prompts: numpy.ndarray) -> numpy.ndarray:
        return prompts.sum(axis=1) / 10

    def single() -> PromptEnvironment:
        return PromptEnvironment(9, P, score, allowed=allowed)

    both: list[Any] = [
        SyncVectorEnv([single] * 4, autoreset_mode=AutoresetMode.NEXT_STEP),
        VectorPromptEnvironment(4, 9, P, score, allowed=allowed),
    ]
    told = [each.reset(seed=3)[1] for each in both]
    assert set(told[0]) == set(told[1])
    assert all(numpy.array_equal(told[0][name], told[1][name]) for name in told[0])
    assert both[0].single_observation_space == both[1].single_observation_space
    assert both[0].observation_space == both[1].observation_space and both[0].action_space == both[1].action_space
    assert numpy.array_equal(*(each.reset(seed=3)[0] for each in both))
    actions, mask = numpy.random.default_rng(0), numpy.array([True, False, False, True])
    for step in range(20):
        if step == 6:  # some begin anew on their own
            assert numpy.array_equal(*(each.reset(options={"reset_mask": mask.copy()})[0] for each in both))
        action = actions.integers(0, 9, 4)
        expected, found = (each.step(action) for each in both)
        assert all(numpy.array_equal(one, other) for one, other in zip(expected[:4], found[:4])), step


def test_episodes_are_counted_by_gymnasiums_own_statistics() -> None:
    environments = RecordEpisodeStatistics(VectorPromptEnvironment(5, 9, P, lambda prompts: prompts[:, 0]))
    environments.reset(seed=0)
    for _ in range(2 * (P + 1)):  # an episode's steps, and the one that begins the next
        _, _, ended, _, facts = environments.step(numpy.arange(5))
        assert ("episode" in facts) == bool(ended.all())
    assert environments.episode_count == 10 and list(environments.return_queue)[-5:] == [0, 1, 2, 3, 4]


def test_wrong_moves_are_refused() -> None:
    single = PromptEnvironment(9, 1, later)
    single.reset()
    with pytest.raises(ValueError, match="tokens are 0 to 8"):
        single.step(9)
    single.step(8)
    with pytest.raises(ValueError, match="reset"):
        single.step(8)


# the policies

@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("actor", ["lora", "gru"])
def test_a_policy_starts_as_the_frozen_language_model(kind: str, actor: str) -> None:
    acting, plain = policy(kind, policy=actor), language_model(kind)
    tokens = torch.tensor([[10, 20], [30, 12]])
    choice = acting.choice(tokens, acting.reference(tokens))
    assert torch.equal(choice.policy, choice.reference)
    with torch.no_grad():
        logits = plain.model(torch.cat([torch.full((2, 1), plain.start[0]), tokens], dim=1)).logits
    allowed = ~acting.forbidden
    assert torch.allclose(choice.reference[..., allowed], logits[..., allowed].log_softmax(-1), atol=1e-5)
    assert torch.equal(choice.reference.exp()[..., ~allowed], torch.zeros(2, 3, int((~allowed).sum())))


def test_prompts_follow_the_policys_probabilities_and_the_seed() -> None:
    acting = policy()
    none = torch.zeros(4000, 0, dtype=torch.long)
    first = acting.act(none, seeded())
    expected = acting.choice(none[:1], acting.reference(none[:1])).policy[0, 0].exp()
    shares = torch.bincount(first, minlength=acting.vocabulary) / 4000
    assert torch.allclose(shares, expected.detach(), atol=5 * 0.5 / 4000**0.5)
    assert torch.equal(first, acting.act(none, seeded())) and not torch.equal(first, acting.act(none, seeded(1)))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("options", [{}, {"policy": "gru"}, {"prompt_top_p": 0.5}], ids=["lora", "gru", "top_p"])
def test_prompts_drawn_with_a_cache_are_those_drawn_without(kind: str, options: dict[str, Any]) -> None:
    acting = policy(kind, **options)
    train(Learner(acting, LearnerOptions(policy_rate=1e-2)), upper_half, 3)  # so that policy and reference differ
    caches, generator = acting.caches(), seeded(5)
    environments = VectorPromptEnvironment(50, acting.vocabulary, P, later)
    assert torch.equal(roll_out(environments, lambda t: acting.act(t, generator, caches))[0], drawn(acting, 50))
    read = [caches.policy.get_seq_length(), caches.reference.get_seq_length()]
    assert read == {"lora": [P, 0], "gru": [0, P], "top_p": [P, P]}[
        "gru" if "policy" in options else "top_p" if options else "lora"
    ]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("actor", ["lora", "gru"])
def test_an_opening_is_read_once_and_changes_nothing(
    kind: str, actor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    language = language_model(kind)
    acting = build_policy(language, PolicyOptions(policy=actor), seeded(), start=[2, 9, 8, 7])  # type: ignore[arg-type]
    train(Learner(acting, LearnerOptions(policy_rate=1e-2)), upper_half, 3)
    tokens, read, original = torch.tensor([[10, 20], [30, 12], [30, 14]]), [], language.model.forward

    def forward(*arguments: Any, **options: Any) -> Any:
        read.append(tuple(options["input_ids"].shape))
        return original(*arguments, **options)

    monkeypatch.setattr(language.model, "forward", forward)

    def found() -> list[torch.Tensor]:
        choice = acting.choice(tokens, acting.reference(tokens))
        return [*choice, *torch.autograd.grad(choice.policy[..., 25].sum(), acting.parameters())]

    once, drawn_once, seen = found(), drawn(acting, 50), list(read)
    assert set(seen[: 4 if actor == "lora" else 2]) == {(1, 3), (3, 3)}
    monkeypatch.setattr(PromptPolicy, "shared", 0)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(once, found()))
    assert torch.equal(drawn_once, drawn(acting, 50)) and (1, 3) not in read[len(seen) :]


def test_no_prompt_holds_special_tokens_parts_of_letters_or_unused_places() -> None:
    language = language_model()
    language.tokenizer.add_tokens([AddedToken("<silent>", special=True)])  # special, and without a role
    language.model.resize_token_embeddings(len(language.tokenizer) + 7)
    acting = build_policy(language, PolicyOptions(policy="gru"), seeded())
    closed = set(acting.forbidden.nonzero().flatten().tolist())
    added = language.tokenizer.convert_tokens_to_ids("<silent>")
    assert added not in language.tokenizer.all_special_ids
    assert closed == {*language.tokenizer.all_special_ids, added, *range(acting.vocabulary - 7, acting.vocabulary)}
    assert not closed & set(drawn(acting, 300).flatten().tolist())


@pytest.mark.parametrize("actor", ["lora", "gru"])
def test_prompt_top_p_keeps_the_policy_within_the_references_nucleus(actor: str) -> None:
    acting = policy(policy=actor, prompt_top_p=0.3)
    learner = Learner(acting, LearnerOptions(policy_rate=0.05, kl_weight=0.0))
    train(learner, lambda prompts: numpy.arange(32) % 2, 3)  # pushed anywhere
    none = torch.zeros(1, 0, dtype=torch.long)
    reference = acting.reference(none)[0, 0].masked_fill(acting.forbidden, -1e9).softmax(-1)
    ordered = reference.sort(descending=True)
    size = int((ordered.values.cumsum(0) < 0.3).sum()) + 1
    nucleus = set(ordered.indices[:size].tolist())
    assert set(drawn(acting, 500)[:, 0].tolist()) <= nucleus and 1 < size < 30


def test_a_drawn_token_is_open_whatever_rounding_makes_of_the_nucleus() -> None:
    acting = policy(prompt_top_p=0.05)
    beginnings = torch.tensor([[10], [30]])
    reference = acting.reference(beginnings)
    least = reference.masked_fill(acting.forbidden, 1e9).argmin(dim=-1)  # never within the nucleus
    without, with_drawn = acting.choice(beginnings, reference), acting.choice(beginnings, reference, least)
    assert float(without.policy.gather(-1, least.unsqueeze(-1)).max()) < -1e6
    for found in with_drawn:
        assert float(found.gather(-1, least.unsqueeze(-1)).min()) > -100
        assert torch.allclose(found.exp().sum(-1), torch.ones(2, 2))


def digest(language: LanguageModel) -> dict[str, bytes]:
    """The language model's own weights, without adapters, by the names that it has alone."""
    named = language.model.state_dict()
    own = {name.replace("base_model.model.", "").replace(".base_layer", ""): value for name, value in named.items()}
    return {name: value.numpy().tobytes() for name, value in own.items() if ".lora_" not in name}


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("actor", ["lora", "gru"])
def test_updates_leave_the_generator_as_it_was_to_the_bit(kind: str, actor: str) -> None:
    acting, plain = policy(kind, policy=actor), language_model(kind)
    train(Learner(acting, LearnerOptions(policy_rate=1e-2, learner="ppo")), upper_half, 5)
    assert digest(acting.language) == digest(plain)
    tokens = drawn(acting, 4)
    with acting.language.frozen() as model, torch.no_grad():
        assert torch.equal(model(tokens).logits, plain.model(tokens).logits)
    choice = acting.choice(tokens, acting.reference(tokens))
    assert not torch.allclose(choice.policy, choice.reference, atol=0.1)  # while the policy has moved


@pytest.mark.parametrize("actor", ["lora", "gru"])
def test_gradient_reaches_the_actor_alone(actor: str) -> None:
    acting = policy(policy=actor)
    tokens = drawn(acting, 4)
    acting.choice(tokens, acting.reference(tokens)).policy[..., 10].sum().backward()
    own = {id(parameter) for parameter in acting.parameters()}
    others = [p for p in acting.language.model.parameters() if id(p) not in own]
    assert others and all(p.grad is None and not p.requires_grad for p in others)
    gradients = {name: parameter.grad for name, parameter in acting.actor.trained().items()}
    reached = [name for name, gradient in gradients.items() if gradient is not None and gradient.abs().sum() > 0]
    # what is 0 at the start shields what lies before it: LoRA's A behind its B, the network behind its last layer
    assert reached == [name for name in gradients if ".lora_B." in name or name == "write.weight"]
    learner = Learner(acting, LearnerOptions(policy_rate=1e-2))
    train(learner, upper_half, 2)
    assert all(not torch.equal(acting.actor.trained()[n], policy(policy=actor).actor.trained()[n]) for n in gradients)


def test_adapters_share_the_one_copy_of_the_language_model() -> None:
    language = language_model("llama")
    before = {parameter.data_ptr(): parameter.numel() for parameter in language.model.parameters()}
    inner = language.model
    acting = build_policy(language, PolicyOptions(), seeded())
    after = {parameter.data_ptr(): parameter.numel() for parameter in language.model.parameters()}
    adapters = {parameter.data_ptr(): parameter.numel() for parameter in acting.parameters()}
    assert after == {**before, **adapters} and sum(adapters.values()) < 0.5 * sum(before.values())
    assert language.model.get_base_model() is inner
    with pytest.raises(ConfigError, match="adapters of another policy"):
        LoraActor(language, 8, "all", seeded())


def test_an_architecture_that_peft_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    language = language_model()
    monkeypatch.setattr(GPT2Config, "model_type", "novel")
    with pytest.raises(ConfigError, match="LoRA does not fit a 'novel' model"):
        build_policy(language, PolicyOptions(lora_targets="attention"), seeded())
    build_policy(language, PolicyOptions(lora_targets="all"), seeded())


def test_the_global_generator_is_left_alone() -> None:
    for actor in ("lora", "gru"):
        language, state = language_model(), torch.get_rng_state()
        drawn(build_policy(language, PolicyOptions(policy=actor), seeded()), 3)  # type: ignore[arg-type]
        assert torch.equal(torch.get_rng_state(), state)


# the learner

@pytest.mark.parametrize(("kind", "word"), [("gpt2", "we"), ("llama", "town")])
@pytest.mark.parametrize("learner", ["reinforce", "ppo"])
@pytest.mark.parametrize(("actor", "rate", "most"), [("lora", 5e-3, 30), ("gru", 1e-2, 12)])
def test_a_rigged_reward_is_found(kind: str, word: str, learner: Any, actor: Any, rate: float, most: int) -> None:
    """Prompts that begin with one word are nearly all that is written after this many updates of 32 prompts."""
    options = LearnerOptions(learner=learner, policy_rate=rate, kl_weight=1e-3)
    acting = policy(kind, policy=actor)
    start = float(torch.tensor(first_word(word)(drawn(acting, 500).numpy())).mean())
    updates, facts = train(Learner(acting, options), first_word(word), most, until=0.9)
    assert start < 0.1 and updates < most
    assert facts[-1]["policy_kl"] > 0.05 and facts[0]["policy_kl"] == 0
    assert float(torch.tensor(first_word(word)(drawn(acting, 500).numpy())).mean()) > 0.8


@pytest.mark.parametrize("learner", ["reinforce", "ppo"])
def test_without_reward_differences_nothing_moves(learner: Any) -> None:
    acting = policy()
    options = LearnerOptions(learner=learner, policy_rate=1e-2, kl_weight=0.0)
    train(Learner(acting, options), lambda prompts: [0.7] * 32, 3)
    tokens = drawn(acting, 8)
    choice = acting.choice(tokens, acting.reference(tokens))
    assert float(token_kl(choice).detach().max()) < 1e-6


@pytest.mark.parametrize("actor", ["lora", "gru"])
@pytest.mark.parametrize("learner", ["reinforce", "ppo"])
def test_an_infinite_kl_weight_leaves_the_policy_at_the_reference(actor: Any, learner: Any) -> None:
    acting = policy(policy=actor)
    before = acting.state_dict()
    moved = Learner(acting, LearnerOptions(learner=learner, policy_rate=1e-2, kl_weight=math.inf))
    _, facts = train(moved, first_word(), 5)
    assert all(torch.equal(value, before[name]) for name, value in acting.state_dict().items())
    assert [fact["policy_kl"] for fact in facts] == [0] * 5 and "policy_gradient" not in facts[0]


def test_the_kl_pulls_the_policy_back() -> None:
    ends = {}
    for weight in (0.0, 0.5):
        acting = policy(policy="gru")
        train(Learner(acting, LearnerOptions(policy_rate=1e-2, kl_weight=0.0)), upper_half, 8)
        _, facts = train(Learner(acting, LearnerOptions(policy_rate=1e-2, kl_weight=weight)), lambda p: [0.0] * 32, 10)
        ends[weight] = facts[-1]["policy_kl"] / facts[0]["policy_kl"]
    assert ends[0.0] == pytest.approx(1, rel=0.2) and ends[0.5] < 0.5


def test_the_step_is_the_formulas_gradient() -> None:
    acting, options = policy(policy="gru"), LearnerOptions(kl_weight=0.3, policy_clip=0.0)
    train(Learner(acting, LearnerOptions(policy_rate=1e-2)), upper_half, 3)  # off the reference
    learner, prompts = Learner(acting, options), drawn(acting, 6)
    learner.baseline, rewards = 0.25, torch.tensor([1.0, 0.0, 0.5, 0.0, 1.0, 0.25])
    parameters = acting.parameters()
    expected = [torch.zeros_like(parameter) for parameter in parameters]
    for prompt, reward in zip(prompts, rewards):
        logged, divergence = torch.zeros(()), torch.zeros(())
        for t in range(P):
            reference = acting.reference(prompt[None, :t])
            policy_log, reference_log = (each[0, -1] for each in acting.choice(prompt[None, :t], reference))
            logged = logged + policy_log[prompt[t]]
            divergence = divergence + (policy_log.exp() * (policy_log - reference_log)).sum()
        gain = (reward - 0.25) * logged - 0.3 * divergence
        for total, gradient in zip(expected, torch.autograd.grad(gain, parameters)):
            total += gradient / 6
    found: list[torch.Tensor] = []
    learner.optimizer.step = lambda: found.extend(p.grad.clone() for p in parameters)  # type: ignore
    learner.update(prompts, rewards)
    assert all(torch.allclose(-one, other, atol=1e-6) for one, other in zip(found, expected))
    assert learner.baseline == pytest.approx(0.9 * 0.25 + 0.1 * float(rewards.mean()))


def test_leaving_one_out_nothing_moves_where_only_the_batches_differ() -> None:
    # as while the student learns: all prompts of a batch are worth the same, each batch less than the one before
    drift = {}
    for baseline in ("moving", "leave_one_out"):
        options: dict[str, Any] = {"policy_rate": 1e-2, "kl_weight": 0.0, "baseline": baseline}
        learner = Learner(policy(policy="gru"), LearnerOptions(**options))
        worth = iter(0.9 ** step for step in range(10))
        _, facts = train(learner, lambda prompts: [next(worth)] * len(prompts), 10)
        drift[baseline] = facts[-1]["policy_kl"]
    assert drift["leave_one_out"] < 1e-6 < 1e-3 < drift["moving"]


def test_leaving_one_out_compares_with_the_others() -> None:
    learner = Learner(policy(policy="gru"), LearnerOptions(baseline="leave_one_out"))
    rewards = torch.tensor([1.0, 0.0, 0.5, 0.1])
    advantages, facts = learner._advantages(rewards)
    others = torch.tensor([float(rewards[torch.arange(4) != place].mean()) for place in range(4)])
    assert torch.allclose(advantages, rewards - others, atol=1e-6)
    assert facts == {"baseline": pytest.approx(0.4)}


def test_shuffled_rewards_are_the_same_ones_elsewhere() -> None:
    logits, prompts = torch.randn(64, 3, generator=seeded(0)), torch.arange(128).reshape(64, 2)
    own, shuffled = Reward(RewardOptions(), 3)(prompts, logits, logits.flip(1)), RewardOptions(shuffle_rewards=True)
    moved = [Reward(shuffled, 3, seeded(seed))(prompts, logits, logits.flip(1)) for seed in (0, 0, 1)]
    assert torch.equal(moved[0], moved[1]) and not torch.equal(moved[0], moved[2])
    assert not torch.equal(own, moved[0]) and torch.equal(own.sort().values, moved[0].sort().values)


def test_clipped_gain_by_hand() -> None:
    before = torch.full((2, 3), math.log(0.1))
    chosen = torch.tensor([[0.1, 0.2, 0.05], [0.1, 0.2, 0.05]]).log()
    gain = clipped_gain(chosen, before, torch.tensor([2.0, -1.0]), clip_ratio=0.2)
    # ratios 1, 2, 0.5; gains of good prompts end at 1.2, losses of bad ones at 0.8
    assert gain.tolist() == pytest.approx([2 * (1 + 1.2 + 0.5), -(1 + 2 + 0.8)])


def test_token_kl_by_hand() -> None:
    choice = Choice(torch.tensor([[[0.9, 0.1, 0.0]]]).clamp_min(1e-30).log(), torch.tensor([[[0.5, 0.25, 0.25]]]).log())
    assert float(token_kl(choice)) == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.4))


def test_normalised_advantages_keep_their_size_however_the_rewards_fade() -> None:
    learner = Learner(policy(policy="gru"), LearnerOptions(normalise_advantage=True))
    learner._advantages(torch.linspace(0.05, 0.07, 16))
    for rewards in (torch.full((16,), 1e-3), torch.linspace(1e-3, 2e-3, 16), torch.linspace(1e-5, 2e-5, 16)):
        advantages, _ = learner._advantages(rewards)
        assert float(advantages.square().mean()) == pytest.approx(1.0, rel=1e-3)


LEARNER_OPTIONS: dict[str, Any] = {
    "learner": "ppo", "kl_weight": 1.0, "baseline_momentum": 0.0, "normalise_advantage": True, "policy_rate": 1e-3,
    "policy_clip": 1e-8, "epochs": 2, "clip_ratio": 1e-4, "baseline": "leave_one_out",
}


@pytest.mark.slow
@pytest.mark.parametrize("option", LEARNER_OPTIONS)
def test_every_option_of_the_learner_acts(option: str) -> None:
    common = {"learner": "ppo"} if option in ("epochs", "clip_ratio") else {}

    def trained(**options: Any) -> dict[str, torch.Tensor]:
        acting = policy(policy="gru")
        train(Learner(acting, LearnerOptions(**{"policy_rate": 1e-2, **common, **options})), upper_half, 4)
        return acting.state_dict()

    plain, changed = trained(), trained(**{option: LEARNER_OPTIONS[option]})
    assert any(not torch.equal(value, changed[name]) for name, value in plain.items())


@pytest.mark.parametrize("actor", ["lora", "gru"])
def test_a_learner_goes_on_where_it_stood(actor: Any) -> None:
    learner = Learner(policy(policy=actor), LearnerOptions(policy_rate=1e-2))
    train(learner, upper_half, 3)
    state = copy.deepcopy(learner.state_dict())
    train(learner, upper_half, 3, seed=2)
    fresh = Learner(policy(policy=actor, seed=9), LearnerOptions(policy_rate=1e-2))
    fresh.load_state_dict(state)
    train(fresh, upper_half, 3, seed=2)
    ends = learner.state_dict(), fresh.state_dict()
    assert ends[0]["baseline"] == ends[1]["baseline"]
    assert all(torch.equal(value, ends[1]["policy"][name]) for name, value in ends[0]["policy"].items())


# the reward

def test_the_parts_of_a_reward_are_told_apart() -> None:
    reward = Reward(RewardOptions(balance_weight=0.5, repetition_weight=0.2, reward_window=64), 2)
    prompts = torch.tensor([[1, 2], [1, 2]])
    for _ in range(3):
        given = reward(prompts, logits([0.9, 0.1], [0.6, 0.4]), logits([0.5, 0.5], [0.5, 0.5]))
    assert reward.facts["reward_base"] == pytest.approx(0.25) and reward.facts["reward_balance"] < 0
    assert reward.facts["reward_repetition"] < 0
    assert sum(reward.facts.values()) == pytest.approx(float(given.mean()), abs=1e-6)


def logits(*rows: Sequence[float]) -> torch.Tensor:
    return torch.tensor(rows).log()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("teacher_minus_student", [0.7 - 0.2, 0.6 - 0.9]), ("teacher", [0.7, 0.6]), ("minus_student", [-0.2, -0.9]),
     ("kl", [0.7 * math.log(0.7 / 0.2) + 0.2 * math.log(0.2 / 0.5) + 0.1 * math.log(0.1 / 0.3),
             0.3 * math.log(0.3 / 0.05) + 0.6 * math.log(0.6 / 0.9) + 0.1 * math.log(0.1 / 0.05)])],
)
def test_rewards_by_hand(kind: Any, expected: list[float]) -> None:
    teacher, student = logits([0.7, 0.2, 0.1], [0.3, 0.6, 0.1]), logits([0.2, 0.5, 0.3], [0.05, 0.9, 0.05])
    reward = Reward(RewardOptions(reward=kind), 3)
    assert reward(torch.tensor([[1, 2], [3, 4]]), teacher, student).tolist() == pytest.approx(expected)


def test_the_balance_term_by_hand_and_in_action() -> None:
    assert rewarding.balance_bonus([], 4) == pytest.approx([0] * 4)
    seen = [0] * 5 + [1]  # with one more of each of 2 classes: 6 and 2 of 8
    assert rewarding.balance_bonus(seen, 2) == pytest.approx([-math.log(1.5) / math.log(2), 1])
    teacher, student = logits([0.8, 0.2], [0.2, 0.8]), logits([0.5, 0.5], [0.5, 0.5])
    reward = Reward(RewardOptions(balance_weight=0.5, reward_window=6), 2)
    reward.seen.extend([1, *seen])
    first = reward(torch.tensor([[1, 2], [3, 4]]), teacher, student)
    assert first.tolist() == pytest.approx([0.3 - 0.5 * math.log(1.5) / math.log(2), 0.3 + 0.5], rel=1e-4)
    assert list(reward.seen) == [0, 0, 0, 1, 0, 1]


@pytest.mark.slow
def test_the_balance_term_steers_the_policy_to_the_missing_class() -> None:
    """Words of one half of the vocabulary lead to class 0, those of the other to class 1; class 1 is rewarded less."""
    shares = {}
    for weight in (0.0, 1.0):
        acting = policy(policy="gru")
        learner = Learner(acting, LearnerOptions(policy_rate=5e-3, kl_weight=0.01))
        reward = Reward(RewardOptions(reward="teacher", balance_weight=weight, reward_window=64), 2)

        def score(prompts: numpy.ndarray) -> numpy.ndarray:
            second = torch.from_numpy(prompts[:, 0] >= 30)
            teacher = torch.where(second[:, None], logits([0.3, 0.7]), logits([0.9, 0.1]))
            return reward(torch.from_numpy(prompts), teacher, teacher).numpy()

        train(learner, score, 40)
        shares[weight] = float((drawn(acting, 400)[:, 0] >= 30).float().mean())
    assert shares[0.0] < 0.05 and 0.25 < shares[1.0] < 0.75


def test_repetition_is_what_distinct_2_lacks() -> None:
    prompts = [(1, 2, 3), (1, 2, 4), (5, 6, 7), (1, 2, 3)]
    found = rewarding.repetition(prompts, [])
    assert found == pytest.approx([(2 / 3 + 1 / 2) / 2, (2 / 3 + 0) / 2, 0, (2 / 3 + 1 / 2) / 2])
    assert sum(found) / 4 == pytest.approx(1 - rewarding.distinct_pairs(prompts))
    assert rewarding.distinct_pairs(prompts) == 5 / 8
    assert rewarding.repetition([(5, 6, 7)], prompts) == [0.5]
    assert rewarding.repetition([(4,), (5,), (4,)], []) == [0.5, 0, 0.5]  # single tokens


@pytest.mark.slow
def test_the_repetition_term_keeps_prompts_apart() -> None:
    ends = {}
    for weight in (0.0, 2.0):
        acting = policy(policy="gru")
        learner = Learner(acting, LearnerOptions(policy_rate=1e-2, kl_weight=0.0))
        reward = Reward(RewardOptions(reward="teacher", repetition_weight=weight, reward_window=64), 2)
        token = tokenizer().convert_tokens_to_ids("soup")

        def score(prompts: numpy.ndarray) -> numpy.ndarray:
            liked = torch.from_numpy((prompts == token).mean(axis=1, keepdims=True))
            believed = 0.5 + 0.49 * liked
            teacher = torch.cat([believed, 1 - believed], dim=1).log()
            return reward(torch.from_numpy(prompts), teacher, teacher).numpy()

        train(learner, score, 25)
        ends[weight] = rewarding.distinct_pairs([tuple(p) for p in drawn(acting, 64).tolist()])
    assert ends[0.0] < 0.1 and ends[2.0] > 0.3


def test_a_reward_remembers_through_its_state() -> None:
    options = RewardOptions(balance_weight=1.0, repetition_weight=1.0)
    teacher, student = logits([0.8, 0.2], [0.7, 0.3]), logits([0.5, 0.5], [0.5, 0.5])
    prompts = torch.tensor([[1, 2], [3, 4]])
    first, fresh = Reward(options, 2), Reward(options, 2)
    empty = first(prompts, teacher, student)
    fresh.load_state_dict(first.state_dict())
    expected = first(prompts, teacher, student)
    assert torch.equal(fresh(prompts, teacher, student), expected) and not torch.equal(expected, empty)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"kl_weight": -1.0}, "kl_weight"), ({"policy_rate": 0.0}, "policy_rate"), ({"epochs": 0}, "epochs"),
     ({"clip_ratio": 0.0}, "clip_ratio"), ({"baseline_momentum": 1.0}, "baseline_momentum")],
)
def test_bad_options_of_the_learner_are_refused(options: dict[str, Any], match: str) -> None:
    assert match in str(typed(LearnerOptions, options, "strategy.")[1][0])
