"""Why a language model's answer ended: the contract's three words, and what servers call them."""

from __future__ import annotations

from gifty_compute.errors import InvalidResult

__all__ = ["CUT", "REFUSED", "STOPPED", "is_known", "read_finish"]

STOPPED, CUT, REFUSED = "stop", "length", "content_filter"
_MEANINGS = {
    STOPPED: "stop stopped eos eos_token end_turn end_of_text stop_sequence stop_token complete completed",
    CUT: "length max_length max_tokens max_output_tokens max_completion_tokens model_length token_limit "
    "model_context_window_exceeded",
    REFUSED: "content_filter content_filtered refusal refused safety image_safety blocklist language "
    "model_armor prohibited_content recitation spii guardrail_intervened",
}
# Documented by Gemini, Anthropic, vLLM and OpenRouter as ends that leave no whole answer.
_BROKEN = frozenset(
    {
        "abort",
        "cancelled",
        "error",
        "malformed_function_call",
        "malformed_response",
        "other",
        "pause_turn",
        "too_many_tool_calls",
        "unexpected_tool_call",
    }
)
_KNOWN = {word: meaning for meaning, words in _MEANINGS.items() for word in words.split()}
_KNOWN[""] = STOPPED


def read_finish(said: object) -> str:
    """`stop`, `length` or `content_filter`, by the word that a server gave or the None that it left.

    A word that is not known is `stop`: the answer came to an end, and whether there is one shows in its text.
    Raises InvalidResult for what is no word, and for ends that are documented as no answer.

    >>> read_finish("end_turn"), read_finish("MAX_TOKENS"), read_finish("SAFETY"), read_finish(None)
    ('stop', 'length', 'content_filter', 'stop')
    >>> read_finish("a_word_of_tomorrow")
    'stop'
    """
    if not isinstance(said, str | None):
        raise InvalidResult("the finish reason is no word")
    word = (said or "").lower()
    if word in _BROKEN:
        raise InvalidResult(f"the answer ended by {word}, which leaves no whole answer")
    return _KNOWN.get(word, STOPPED)


def is_known(said: str) -> bool:
    """Whether the word is one that `read_finish` has a meaning for, and does not only guess."""
    return said.lower() in _KNOWN
