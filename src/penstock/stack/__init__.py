"""The native stack: the real services as processes of this machine, under a process manager, on 127.0.0.1 only.

up        start what does not run, in the order of health
down      stop everything; no process is left
status    each part's state, health, address and memory
logs      what a part has written
doctor    what the machine and the cluster must offer, asked one by one
"""

from penstock.stack.checks import Check
from penstock.stack.doctor import doctor
from penstock.stack.logs import logs
from penstock.stack.native import PartStatus, down, status, up
from penstock.stack.transactions import OpenTransaction, abort_transactions, open_transactions

__all__ = [
    "Check",
    "OpenTransaction",
    "PartStatus",
    "abort_transactions",
    "doctor",
    "down",
    "logs",
    "open_transactions",
    "status",
    "up",
]
