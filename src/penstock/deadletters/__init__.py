"""Dead letters: look at them, fix them, and send them back to the topic they came from, marked and once."""

from penstock.deadletters.letters import Letter

__all__ = ["Letter"]
