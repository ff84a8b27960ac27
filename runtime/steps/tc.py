"""Shaping: qdiscs, classes and ifb devices of a bundle's trees, as steps; what classes dropped; the words that classifiers are told."""

from __future__ import annotations

from compiler.bundle import Bundle
from runtime.backends import tc as backend
from runtime.backends.tc import Tc, TcError
from runtime.context import Context
from runtime.steps import Step, StepError, foreign_tc, tc_drops
from runtime.steps.tc_place import class_base, find_device, ifb_name, place, refuse_foreign, trees
from runtime.steps.tc_steps import ClassesStep, CleanStep, IfbStep, RateStep, RemoveStep, RootStep, StraysStep
from runtime.steps.tc_tree import refusals

__all__ = ["config_words", "read_counters", "steps"]


def steps(context: Context, new: Bundle | None, old: Bundle | None, generation: int) -> list[Step]:
    """From `old`'s trees to `new`'s. Raises StepError for a foreign root qdisc, and for queues that this kernel has none of."""
    wanted, had = trees(new), trees(old)
    unavailable = _unavailable(new)
    made: list[Step] = []
    for key, tree in wanted.items():
        here = place(context, tree)
        before = place(context, had[key]) if key in had else None
        stage_or_flip = "stage" if before or tree.direction == "in" else "flip"
        theirs = foreign_tc.taking(context, here.device, generation, stage_or_flip)
        if not theirs:
            _refuse_early(here.device)
        made += theirs
        if tree.direction == "in":
            made.append(IfbStep(here, kept=before is not None))
        if before is None:
            made.append(RootStep(here, stage_or_flip))
        made.append(ClassesStep(here, class_base(generation), stage_or_flip, unavailable))
        if before is not None:
            made.append(RateStep(here, before))
        made.append(CleanStep(here, before, class_base(generation), context))
    bound = {device.nic for device in context.devices}
    made += [
        RemoveStep(place(context, tree)) if tree.nic in bound else StraysStep(tree.nic, tree.direction)
        for key, tree in had.items()
        if key not in wanted
    ]
    shaped = {place(context, tree).device for tree in wanted.values()}
    left = {place(context, tree).device for key, tree in had.items() if key not in wanted and tree.nic in bound} - shaped
    return made + foreign_tc.putting_back(context, None if new is None else left)


def config_words(context: Context, nic: str, generation: int) -> dict[str, int]:
    """What the classifiers of a nic are told in their config map (`bundle.CONFIG_WORDS`), once the stage steps of tc are done.

    ifb_ifindex is 0 where the nic has no ifb: such a classifier lets packets go on unshaped.
    """
    with refusals(f"find the ifb of {nic}"), Tc() as tc:
        ifb = tc.device(ifb_name(context.device(nic).ifindex))
    return {"ifb_ifindex": ifb.ifindex if ifb else 0, "class_base": class_base(generation)}


def read_counters(context: Context, bundle: Bundle) -> dict[str, dict[str, int]]:
    """Each class by its counter's name: packets and bytes sent by the classes that are there now, drops since the counter exists, backlog in
    bytes. Raises StepError where the tree is not there."""
    found: dict[str, dict[str, int]] = {}
    earlier = tc_drops.kept(context.state)
    for tree in bundle.trees:
        here = place(context, tree)
        with refusals(f"read {here.words}"), Tc() as tc:
            ifindex = find_device(tc, here.device).ifindex
            for name, stats in tc_drops.of_tree(tc, ifindex, tree, tc_drops.bases(tc, ifindex)).items():
                drops = stats.drops + earlier.get(name, 0)
                found[name] = {"packets": stats.packets, "bytes": stats.bytes, "drops": drops, "backlog": stats.backlog}
    return found


def _refuse_early(device: str) -> None:
    """A foreign root is told while planning, before anything is done."""
    with refusals(f"look at {device}"), Tc() as tc:
        found = tc.device(device)
        if found is not None:
            refuse_foreign(tc.root(found.ifindex), device)


def _unavailable(bundle: Bundle | None) -> dict[str, str]:
    """Leaf kinds of the bundle that this kernel lacks, with its words. Raises StepError where a required queue has no alternative left.

    Trying needs CAP_SYS_ADMIN; without it the step finds out itself, kind by kind.
    """
    leaves = [leaf for tree in (bundle.trees if bundle else ()) for leaf in tree.leaves]
    kinds = tuple(sorted({choice.kind for leaf in leaves for choice in leaf.choices}))
    if not kinds:
        return {}
    try:
        said = backend.available(kinds)
    except TcError:
        return {}
    lacking = {kind: words for kind, words in said.items() if words}
    for leaf in leaves:
        if not leaf.prefer and all(choice.kind in lacking for choice in leaf.choices):
            named = " or ".join(choice.kind for choice in leaf.choices)
            words = "; ".join(f"{choice.kind}: {lacking[choice.kind]}" for choice in leaf.choices)
            raise StepError(f"queue {named}", words, "this kernel has none of them: add `or pfifo`, write `prefer queue`, or load the module (sch_*)")
    return lacking
