"""What a network that writes text is asked: a task states it, and the network's backend passes it on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """What a network that writes text is asked about each picture."""

    prompt: str = "Describe this picture in one short sentence."
    max_tokens: int = 48
    temperature: float = 0.0
    """0: always the likeliest token, so that the same picture gives the same text."""
    max_s: float = 20.0
    """It ends after so long, at the next token, s."""
