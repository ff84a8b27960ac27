"""Is what was installed really there, does every stage add up, and do the policy's expectations hold?

Three readings in a row judge the balance (runtime.counters.unbalanced); an expectation is measured over its window, as the difference of
two readings, or since the counters began when no window is asked for.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

from compiler import bundle as bundles
from compiler.bundle import Bundle
from runtime import beside, counters, owner, plan
from runtime.context import Context
from runtime.counters import Reading
from runtime.steps import Step, StepError
from runtime.steps.saved_settings import SavedSettings

_OPERATORS = {"<": operator.lt, "<=": operator.le, "=": operator.eq, ">=": operator.ge, ">": operator.gt}
_SETTLING_TRIES = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the result. result: held, broken or `no traffic`. otherwise: roll-back or warn for expectations, else ""."""

    kind: str  # installed, balance, expect
    what: str
    where: str
    result: str
    detail: str
    otherwise: str = ""


def failed(findings: Sequence[Finding]) -> bool:
    """Does anything make `netc verify` fail? What is broken, except expectations that only warn."""
    return any(finding.result == "broken" and not warns(finding) for finding in findings)


def warns(finding: Finding) -> bool:
    """Broken, but only to be told: an `else warn` expectation, a preferred setting."""
    return finding.result == "broken" and finding.otherwise == "warn"


def rolls_back(findings: Sequence[Finding]) -> bool:
    """Does a broken expectation ask for the policy before?"""
    return any(finding.result == "broken" and finding.otherwise == "roll-back" for finding in findings)


def drift(context: Context, bundle: Bundle, generation: int) -> list[Finding]:
    """What of an installed bundle is no longer as it was installed: every step reads its change back from the kernel."""
    found = [Finding("installed", what, "owner", "broken", f"taken over by {owner.whose(context, mark)}") for what, mark in owner.others(context)]
    if bundle.programs and owner.pinned(context) is None:
        words = "the mark is gone that says whose they are: another netc would take them for nobody's; apply again"
        found.append(Finding("installed", f"the pins in {context.bpffs}", "owner", "broken", words))
    for name in plan.BACKENDS:
        try:
            steps = plan.backend(name).steps(context, bundle, None, generation)
        except (StepError, OSError) as error:
            found.append(_broken(name, error))
            continue
        for step in steps:
            if step.phase == "clean":
                continue
            try:
                step.check()
            except (StepError, OSError) as error:
                found.append(_broken(name, error, step.text, "warn" if _is_optional(context, step) else ""))
    return [*found, *(Finding("installed", news.what, "foreign", "broken", f"{news.words}: {news.mend}") for news in beside.came_since(context, bundle))]


def _is_optional(context: Context, step: Step) -> bool:
    """A preferred setting that this host may never have had. One that netc has changed was to be had, and was changed by somebody else since."""
    setting = getattr(step, "setting", None)
    if setting is None or not setting.prefer:
        return False
    return SavedSettings(context.state).get(str(getattr(step, "device", "")), setting) is None


def _broken(backend: str, error: StepError | OSError, text: str = "", otherwise: str = "") -> Finding:
    """A preferred setting that does not hold only warns: it may have been refused when it was applied."""
    if isinstance(error, StepError):
        words = error.words if text.startswith(error.what) else f"{error.what}: {error.words}"  # which of all that the step has done
        return Finding("installed", text or error.what, backend, "broken", words, otherwise)
    return Finding("installed", text or backend, backend, "broken", str(error), otherwise)


def balance(context: Context, bundle: Bundle) -> list[Finding]:
    """Every stage's balance. Packets between two stages at the instant of reading are waited for by reading again.

    Counters that cannot be read, because something of them is gone, are a broken balance, too.
    """
    try:
        return _balance_now(context, bundle)
    except StepError as error:
        return [Finding("balance", error.what, "counters", "broken", f"{error.words}: nothing can be added up")]


def _balance_now(context: Context, bundle: Bundle) -> list[Finding]:
    wrong: list[counters.Balance] = []
    middle: list[Reading] = []
    for _ in range(_SETTLING_TRIES):
        first = counters.read(context, bundle)
        middle = counters.read(context, bundle)
        wrong = counters.unbalanced(first, middle, counters.read(context, bundle))
        if not wrong:
            break
    bad = {(b.chain, b.stage): b for b in wrong}
    return [_balance(bad.get((b.chain, b.stage), b), (b.chain, b.stage) in bad) for b in counters.balances(middle)]


def _balance(balance: counters.Balance, broken: bool) -> Finding:
    detail = f"seen {balance.seen:,}, counted {balance.counted:,}"
    if broken:
        detail += f": {abs(balance.gap):,} packets {'are not accounted for' if balance.gap > 0 else 'were counted more than once'}"
    return Finding("balance", balance.chain, balance.stage, "broken" if broken else "held", detail)


def expectations(bundle: Bundle, before: Sequence[Reading] | None, after: Sequence[Reading]) -> list[Finding]:
    """Every assertion over the difference of two readings; `before` None: since the counters began."""
    return [_assertion(expect, a, before, after) for expect in bundle.expects for a in expect.assertions]


def window(bundle: Bundle) -> float:
    """The longest window of the expectations, seconds; 0 without any."""
    return max((expect.window for expect in bundle.expects), default=0) / 1e9


def _assertion(
    expect: bundles.Expect, assertion: bundles.Assertion, before: Sequence[Reading] | None, after: Sequence[Reading]
) -> Finding:
    def measure(name: str) -> int:
        return counters.value(after, name, assertion.what) - (counters.value(before, name, assertion.what) if before is not None else 0)

    where = f"{assertion.file}:{assertion.line}"
    try:
        got = measure(assertion.counter)
        whole = measure(assertion.of) if assertion.of else 0
    except (KeyError, ValueError) as error:
        return Finding("expect", assertion.text, where, "broken", f"cannot be measured: {error}", expect.otherwise)
    if assertion.of and whole == 0:
        return Finding("expect", assertion.text, where, "no traffic", f"{assertion.of} {assertion.what} is 0", expect.otherwise)
    bound = assertion.bound * whole if assertion.of else assertion.bound
    held = _OPERATORS[assertion.op](got, bound)
    detail = f"{assertion.counter} {assertion.what} is {got:,}, wanted {assertion.op} {bound:,.10g}"
    if assertion.of:
        detail += f" ({assertion.bound:.4g} of {whole:,})"
    return Finding("expect", assertion.text, where, "held" if held else "broken", detail, expect.otherwise)
