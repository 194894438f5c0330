"""How a plan is shown: as text for a terminal, as Markdown for a pull request.  Pure; JSON is `steps.plan_to_json`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.steps import VERBS, Keep, Plan, Refused, Step

if TYPE_CHECKING:
    from rich.console import Group

SYMBOLS = {"create": "+", "change": "~", "delete": "-", "none": "=", "refused": "!"}
_STYLES = {"create": "green", "change": "yellow", "delete": "red", "none": "dim", "refused": "bold red"}
_WORDS = {
    "create": ("to create", "created"),
    "change": ("to change", "changed"),
    "delete": ("to delete", "deleted"),
    "refused": ("refused", "refused"),
    "none": ("as declared", "as declared"),
}


def summary(plan: Plan, *, done: bool = False) -> str:
    """Return the plan in one line; `done` once it is carried out."""
    kept = plan.count("none")
    if not plan.changes and not plan.refused:
        notes = sum(isinstance(step, Keep) and step.notable for step in plan.steps)
        noted = f", {notes} with a note: see the plan" if notes else ""
        return f"nothing to do: {kept} resource{'s' * (kept != 1)} as declared{noted}"
    parts = [f"{plan.count(action)} {words[done]}" for action, words in _WORDS.items() if plan.count(action)]
    return ", ".join(parts)


def line(step: Step) -> str:
    """Return one step as a line of plain text."""
    return f"{SYMBOLS[step.action]} {step.kind} {step.subject}: {_reason(step)}"


def shown(plan: Plan, *, everything: bool = False) -> list[Step]:
    """Return the steps a reader wants to see: what changes, what is refused, and what is worth a note."""
    return [step for step in plan.steps if everything or not isinstance(step, Keep) or step.notable]


def text(plan: Plan, *, everything: bool = False) -> Group:
    """Return the plan for a terminal: a line a step in the order in which they run, then the sum.

    `everything` also shows what is as declared.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for ratio in (None, None, None, 1):
        table.add_column(overflow="fold", ratio=ratio, no_wrap=ratio is None)
    for step in shown(plan, everything=everything):
        style = _STYLES[step.action]
        table.add_row(
            Text(SYMBOLS[step.action], style=style),
            Text(step.kind),
            Text(step.subject, style=style),
            Text(_reason(step)),
        )
    lines: list[Table | Text] = [table] if table.row_count else []
    lines.append(Text(f"{plan.env}: {summary(plan)}", style="bold"))
    if plan.refused:
        lines.append(Text("apply does nothing while a step is refused", style="red"))
    return Group(*lines)


def markdown(plan: Plan) -> str:
    """Return the plan for a comment on a pull request: what changes as a table, what stays folded away."""
    lines = [f"### penstock plan: {plan.env}", "", f"**{summary(plan)}**", ""]
    changing = shown(plan)
    if changing:
        lines += _markdown_table(changing)
    if plan.refused:
        lines += ["", "`penstock apply` does nothing while a step is refused."]
    kept = [step for step in plan.steps if step not in changing]
    if kept:
        lines += [
            "",
            f"<details><summary>{len(kept)} as declared</summary>",
            "",
            *_markdown_table(kept),
            "",
            "</details>",
        ]
    return "\n".join([*lines, "", f"fingerprint `{plan.fingerprint}`", ""])


def _markdown_table(steps: list[Step]) -> list[str]:
    rows = [
        f"| {SYMBOLS[step.action]} {step.action} | {step.kind} | `{step.subject}` | {_escaped(_reason(step))} |"
        for step in steps
    ]
    return ["| | Kind | Subject | Why |", "| --- | --- | --- | --- |", *rows]


def _reason(step: Step) -> str:
    if isinstance(step, Refused) and step.flag:
        return f"{step.reason} [--allow {step.flag}]"
    return f"{VERBS[type(step)]}: {step.reason}" if type(step) in VERBS else step.reason


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
