"""What a plan would change, in the policy's words: two bundles compared, and the settings as the devices have them now.

Rules are compared in runtime.plan_rules, shapes in runtime.plan_shapes; all of it is pure but `settings`, which reads the knobs of the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from compiler.bundle import NIC_HOOK, Bundle, Code, DynamicSet, StaticSet
from runtime import plan_rules, plan_shapes, set_differences
from runtime.plan_entry import ADDED, CHANGED, REMOVED, Entry

if TYPE_CHECKING:
    from runtime.plan import Planned

_NAMED = 3  # members that are named; of more, only how many


def differences(old: Bundle | None, new: Bundle | None, devices: Mapping[str, str]) -> list[Entry]:
    """Everything but settings. devices: nic → device."""
    return [
        *_sets(old, new), *plan_rules.differences(old, new), *plan_shapes.differences(old, new),
        *_programs(old, new, devices), *_tables(old, new), *_expectations(old, new),
    ]  # fmt: skip


def settings(steps: Sequence[Planned], old: Bundle | None) -> list[Entry]:
    """Each setting that a step turns, from what it reads now. Reads only."""
    from runtime.knobs import Refusal
    from runtime.steps.setting_step import SettingStep
    from runtime.steps.setting_words import show

    known = {(item.nic, item.group, item.key) for item in (old.settings if old else ())}
    entries = []
    for step in [planned.step for planned in steps if isinstance(planned.step, SettingStep)]:
        setting = step.setting
        try:
            now, wanted = map(show, step.reading())
        except Refusal as refusal:
            now, wanted = refusal.words, show(setting.value)
        if now == wanted:  # it holds, but an earlier step may change it
            continue
        sign = REMOVED if step.is_restored else CHANGED if (setting.nic, setting.group, setting.key) in known else ADDED
        name = f"{step.device or 'host'} {setting.group} {setting.key}"
        entries.append(Entry("settings", sign, "setting", name, wanted, now, "as it was before netc" if step.is_restored else "", setting.file, setting.line))
    return entries


AnySet = StaticSet | DynamicSet


def _sets(old: Bundle | None, new: Bundle | None) -> list[Entry]:
    had, wanted = _named(old), _named(new)
    entries = [_set(ADDED, item) for name, item in wanted.items() if name not in had]
    for name in wanted.keys() & had.keys():
        now, before = wanted[name], had[name]
        if not (isinstance(now, StaticSet) and isinstance(before, StaticSet)) and _members(now) != _members(before):
            entries.append(_set(CHANGED, now, was=_members(before)))
    for changed in set_differences.differences(old, new) if new else []:
        entries.append(_set(CHANGED, wanted[changed.name], set_differences.line(changed).removeprefix(f"{changed.name} ")))
    return entries + [_set(REMOVED, item) for name, item in had.items() if name not in wanted]


def _named(bundle: Bundle | None) -> dict[str, AnySet]:
    found: list[AnySet] = [*bundle.static, *bundle.sets] if bundle else []
    return {item.name: item for item in found}


def _set(sign: str, item: AnySet, text: str = "", was: str = "") -> Entry:
    file, line = (item.file, item.line) if isinstance(item, StaticSet) else ("", 0)
    return Entry("sets", sign, "set", item.name, text or _members(item), was, file=file, line=line)


def _members(item: AnySet) -> str:
    if isinstance(item, StaticSet):
        return set_differences.content(item)
    timeout = f", timeout {item.timeout / 1e9:g} s" if item.timeout else ""
    never = f", never {', '.join(item.never)}" if item.never else ""
    return f"dynamic, size {item.size:,}{timeout}, full {item.full}{never}"


def _programs(old: Bundle | None, new: Bundle | None, devices: Mapping[str, str]) -> list[Entry]:
    """By hook and device. One that stays is replaced only in so far as it differs."""
    had, wanted = ({(code.nic, code.hook): code for code in _codes(bundle)} for bundle in (old, new))
    entries = []
    for key, code in wanted.items():
        where = f"program {code.name} on {devices.get(code.nic, code.nic)} ({_hook(new, code)})"
        if key not in had:
            entries.append(Entry("xdp", ADDED, "program", where))
        elif _content(new, code) != _content(old, had[key]):
            entries.append(Entry("xdp", CHANGED, "program", where, note="replaced by one update of its link"))
    gone = [had[key] for key in had if key not in wanted]
    return entries + [Entry("xdp", REMOVED, "program", f"program {c.name} on {devices.get(c.nic, c.nic)} ({_hook(old, c)})") for c in gone]


def _codes(bundle: Bundle | None) -> list[Code]:
    from runtime.steps import xdp_offload

    return [*(bundle.programs if bundle else ()), *xdp_offload.codes(bundle)]


def _hook(bundle: Bundle | None, code: Code) -> str:
    mode = next((nic.xdp for nic in (bundle.nics if bundle else ()) if nic.name == code.nic), "")
    return {"xdp": f"xdp {mode}", NIC_HOOK: "xdp offload"}.get(code.hook, code.hook)


def _content(bundle: Bundle | None, code: Code) -> tuple[object, ...]:
    """What a program does: its instructions with its maps by name, and what those hold."""
    named = {item.id: (item.name, item.kind, item.max_entries, item.entries) for item in (bundle.maps if bundle else ())}
    places = next(((item.elements, item.value_size, item.counters) for item in (bundle.offloads if bundle else ()) if item.name == code.name), ())
    return code.code, places, tuple(sorted(named[number] for number in code.maps if number in named))


def _tables(old: Bundle | None, new: Bundle | None) -> list[Entry]:
    had, wanted = ({table.family: table for table in (bundle.nft if bundle else ())} for bundle in (old, new))
    entries = []
    for family, table in wanted.items():
        name = f"table {family} {table.table}"
        if family not in had:
            entries.append(Entry("nft", ADDED, "table", name))
        elif tuple(map(bytes, table.objects)) != tuple(map(bytes, had[family].objects)):
            entries.append(Entry("nft", CHANGED, "table", name, note="replaced in one transaction"))
    return entries + [Entry("nft", REMOVED, "table", f"table {family} {had[family].table}") for family in had if family not in wanted]


def _expectations(old: Bundle | None, new: Bundle | None) -> list[Entry]:
    had, wanted = (
        {(expect.nic, item.text, expect.window, expect.otherwise): item for expect in (bundle.expects if bundle else ()) for item in expect.assertions}
        for bundle in (old, new)
    )
    return [
        Entry("expect", sign, "expectation", f"{key[0]}: {key[1]}", f"over {key[2] / 1e9:g} s, else {key[3]}", file=item.file, line=item.line)
        for sign, items, others in ((ADDED, wanted, had), (REMOVED, had, wanted)) for key, item in items.items() if key not in others
    ]  # fmt: skip
