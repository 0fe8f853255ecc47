"""What the engines share: which tokens end a text, and tokens back to text."""

from __future__ import annotations

from typing import Any, Sequence

from dfkd.errors import ConfigError
from dfkd.models.language.base import Generated

# a model for conversations may end its turn by one of these and name only another as its end of text
ENDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>")


def end_tokens(tokenizer: Any, *configs: Any) -> frozenset[int]:
    """The ids after which nothing belongs to a text: its end, or the beginning of another one.

    Args:
        tokenizer: of the model.
        configs: configurations that may name such tokens: the model's, and that for generation.
    """
    vocabulary = tokenizer.get_vocab()
    found = {vocabulary[name] for name in ENDS if name in vocabulary}
    for holder in (tokenizer, *configs):
        for name in ("eos_token_id", "bos_token_id"):
            ids = getattr(holder, name, None)
            found.update(ids if isinstance(ids, (list, tuple)) else [] if ids is None else [ids])
    return frozenset(int(token) for token in found)


def special_tokens(tokenizer: Any) -> frozenset[int]:
    """The ids that are no text: those with a role, and those that are added as special without one.

    SmolLM2 has 17, of which three have a role; decoding drops the others as well.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return frozenset(tokenizer.all_special_ids) | {index for index, token in added.items() if token.special}


def tokens_with(tokenizer: Any, stop: str) -> frozenset[int]:
    """The ids of all tokens whose text contains ``stop``; none for an empty one."""
    if not stop:
        return frozenset()
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return frozenset(token for token, text in enumerate(texts) if stop in text)


def generated(tokenizer: Any, prompt: Sequence[int], tokens: Sequence[int], ended: bool) -> Generated:
    """The result for one prompt; its text joined to the prompt's text gives the whole."""
    before = tokenizer.decode(list(prompt), skip_special_tokens=True)
    whole = tokenizer.decode([*prompt, *tokens], skip_special_tokens=True)
    # a token alone may lose its leading space, and the bytes of a letter may be split between prompt and text
    fits = whole.startswith(before)
    text = whole[len(before) :] if fits else tokenizer.decode(list(tokens), skip_special_tokens=True)
    return Generated(tuple(tokens), text, ended)


def check_request(prompts: Sequence[Sequence[int]], seeds: Sequence[int], room: int | None, new: int) -> None:
    """Whether a request can be served.

    Args:
        prompts: B prompts.
        seeds: B seeds.
        room: positions of the model; ``None``: no limit is known.
        new: ``max_new_tokens``.

    Raises:
        ValueError: the numbers of prompts and seeds differ, or a prompt is empty.
        ConfigError: prompt and text do not fit into the model.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts and {len(seeds)} seeds")
    if not all(prompts):
        raise ValueError("a prompt holds at least one token: begin with the model's start token")
    longest = max(map(len, prompts), default=0)
    if room is not None and longest + new > room:
        raise ConfigError(
            "prompt and text together are longer than the language model reads",
            expected=f"at most {room} tokens",
            found=f"{longest} of the prompt and strategy.max_new_tokens={new}",
            fix=f"set strategy.max_new_tokens={max(1, room - longest)} or less",
        )


def positions(config: Any) -> int | None:
    """How many tokens a model reads; ``None`` where its configuration does not say."""
    found = getattr(config, "max_position_embeddings", None)
    return int(found) if found and found > 0 else None
