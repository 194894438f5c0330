"""Test a pipeline of one's own on real services: the fixture `pipeline` is a `Deploy`, and gives a `Deployed`.

The fixtures are in `penstock.testing.plugin`, which pytest finds by itself where Penstock is installed.
"""

from collections.abc import Callable

from penstock.testing.deployed import Deployed

#: From a pipeline's name to the pipeline on a stack.
Deploy = Callable[[str], Deployed]

__all__ = ["Deploy", "Deployed"]
