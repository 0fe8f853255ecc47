"""Whether the Hugging Face hub can be reached."""

from __future__ import annotations

from huggingface_hub import constants, get_session

REACH_SECONDS = 5.0


def answers() -> bool:
    """Whether the hub can be reached at all: its clients would retry for half a minute before they give up.

    Nothing is asked where ``HF_HUB_OFFLINE`` is set.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=REACH_SECONDS)
    except Exception:  # the exceptions of its transport library changed between versions
        return False
    return True
