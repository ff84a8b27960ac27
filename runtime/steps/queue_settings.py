"""What a change of the number of queues takes with it: the kernel forgets XPS and RPS of a queue that goes, many drivers of all queues.

Source: netif_reset_xps_queues_gt and rx_queue_release in net/core. Before the channels change, what stands in the files of the queues is
kept beside the settings that netc changed; it is given back after the channels.
"""

from __future__ import annotations

from compiler.bundle import Setting
from runtime.context import Context
from runtime.knobs import Knob, Refusal, Value, knob, queues
from runtime.steps import port_reset

PER_QUEUE = ("irq", "xps", "rps", "rfs", "queue")  # groups whose value is a list with an entry for each queue
_FILES = (("xps", "cpus"), ("rps", "cpus"), ("rfs", "flows"), *(("queue", file) for file in queues.RAW))


def only_kept(setting: Setting, group: str, key: str) -> Setting:
    """Names a knob that netc has not set itself, but that changes with the channels of `setting`."""
    return Setting(setting.nic, group, key, (), True, setting.file, setting.line, setting.text)


def is_only_kept(setting: Setting) -> bool:
    return setting.group in PER_QUEUE and setting.value == ()


def files(context: Context, channels: Setting) -> list[tuple[Setting, Knob, Value]]:
    """Every file of the device's queues in which something stands, and its RSS table: the setting, how to turn it, and its values."""
    found: list[tuple[Setting, Knob, Value]] = []
    for group, key in _FILES:
        setting = only_kept(channels, group, key)
        turn = knob(context, setting)
        try:
            value = turn.read()
        except Refusal:
            continue  # a device of one transmit queue has no XPS, a kernel without CONFIG_RPS no RPS
        if isinstance(value, list) and any(str(item).strip("0," if group in ("queue", "rfs") else "") for item in value):
            found.append((setting, turn, value))
    return [*found, *_table(context, channels)]


def _table(context: Context, channels: Setting) -> list[tuple[Setting, Knob, Value]]:
    """The RSS table, unless it is the default one, which the driver makes anew for the queues that there are. igb and others make it anew always."""
    setting = only_kept(channels, "rss", "indirection")
    turn = knob(context, setting)
    try:
        value = turn.read()
    except Refusal:
        return []
    entries = tuple(int(queue) for queue in value) if isinstance(value, list) else ()
    return [] if len(entries) < 2 or port_reset.is_default(context.device(channels.nic).name, entries) else [(setting, turn, value)]


def fitted(before: Value, now: Value) -> Value:
    """`before` for as many queues as there are: those that it has no entry for stay as they are, those that are gone are left out."""
    if not isinstance(before, list) or not isinstance(now, list):
        return before
    return [*before, *now[len(before) :]][: len(now)]


def joined(before: Value, now: Value) -> Value:
    """What is kept already, and what queues had that came since."""
    if not isinstance(before, list) or not isinstance(now, list):
        return before
    return [*before, *now[len(before) :]]
