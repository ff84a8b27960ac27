"""What a host was when a plan was made: enough to tell, under the lock, whether it is that still, and in words what has moved.

Values that move by themselves (counters, members of dynamic sets, queues' fill) are no part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from runtime import boot, disruption, state, verify
from runtime.context import Context, Device
from runtime.steps import StepError

if TYPE_CHECKING:
    from runtime.backends.tc import Tc
    from runtime.plan import Plan

_TABLES = ("netc", "netc-fence")


class MovedOnError(Exception):
    """The host is no longer what the plan was made for. The text says what moved."""


class SeenDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """ifindex and address tell a device from another one that has got its name. xdp: the id of the program that runs, 0 without one."""

    name: str
    ifindex: int
    address: str
    driver: str
    xdp: int


class Live(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """sequence: of the last change that netc recorded. links: pin → id of the program that its link runs. nft: table → digest of its content.

    tc: device → digest of its root, classes and queues. settings: those that the plan turns, as words. drift: what was not as applied.
    steps: what was to be done.
    """

    boot: str
    sequence: int
    installed: str
    devices: dict[str, SeenDevice]
    links: dict[str, int]
    nft: dict[str, str]
    tc: dict[str, str]
    settings: dict[str, str]
    drift: tuple[str, ...]
    steps: tuple[str, ...]


def read(store: state.Store, context: Context, planned: Plan) -> Live:
    """The host now. context: with the devices of what is installed and of what is wanted. Raises StepError, StateError."""
    record = store.record()
    current = state.installed_here(record)
    old = planned.old
    drift = verify.drift(context._replace(devices=_those(context, current)), old, current.generation) if current and old else []
    return Live(
        boot=boot.boot_id(), sequence=record.generation, installed=current.bundle if current else "",
        devices={device.nic: _device(device) for device in context.devices}, links=_links(context), nft=_nft(), tc=_tc(context),
        settings=_settings(planned), drift=tuple(f"{item.where}: {item.what}: {item.detail}" for item in drift),
        steps=tuple(step.text for step in planned.ordered()),
    )  # fmt: skip


def require(then: Live, read_now: Callable[[], Live], record: state.Record, refusals: tuple[type[Exception], ...]) -> None:
    """Raises MovedOnError with everything that moved since. refusals: where planning anew is refused (a device is gone), that is what moved."""
    try:
        found = moved(then, read_now(), record)
    except refusals as error:
        found = [str(error).partition("\n")[0]]
    if found:
        raise MovedOnError("\n".join([
            "the host has moved on since this plan was made; nothing was changed", *(f"  {text}" for text in found),
            "  = help: make the plan anew (netc plan POLICY -o FILE), and look at it again",
        ]))  # fmt: skip


def moved(then: Live, now: Live, record: state.Record) -> list[str]:
    """What differs, in words; the most telling first."""
    if then.boot != now.boot:
        return ["it was rebooted: the kernel has forgotten what the plan counted on"]
    found = [text for nic in sorted(then.devices.keys() | now.devices.keys()) for text in _moved_device(nic, then.devices.get(nic), now.devices.get(nic))]
    found += _moved_items("setting", then.settings, now.settings)
    if then.sequence != now.sequence or then.installed != now.installed:  # all that netc makes is another then
        return [f"number {then.sequence} was the last change then; {_last(record)} came since", *found]
    found += _moved_items("the program that runs on hook", then.links, now.links)
    found += [f"changed outside netc: {text}" for text in now.drift if text not in then.drift]
    found += [f"put right again: {text}" for text in then.drift if text not in now.drift]
    found += _moved_programs(then, now)
    found += _moved_items("nft table", then.nft, now.nft, told=False)
    found += _moved_items("shaping on", then.tc, now.tc, told=False)
    if not found and then.steps != now.steps:
        found.append(f"it would take other steps now: {', '.join([x for x in now.steps if x not in then.steps][:3]) or 'fewer'}")
    return found


def _last(record: state.Record) -> str:
    current = record.current
    if current is None:
        return f"netc remove (number {record.generation})"
    return f"netc {current.command or 'apply'} of {current.policy} (number {current.number})"


def _moved_device(nic: str, then: SeenDevice | None, now: SeenDevice | None) -> list[str]:
    if then is None or now is None:
        return [f"nic {nic} is bound to {now.name}: it was not then" if now else f"nic {nic} is bound no more"]
    if (then.name, then.ifindex, then.address, then.driver) != (now.name, now.ifindex, now.address, now.driver):
        was, is_now = (f"number {seen.ifindex}, {seen.address}, {seen.driver}" for seen in (then, now))
        return [f"{now.name} is another device: then {was}; now {is_now}"]
    return []


def _moved_programs(then: Live, now: Live) -> list[str]:
    """Also where netc has no link: somebody else's program."""
    both = [(then.devices[nic], now.devices[nic]) for nic in then.devices.keys() & now.devices.keys()]
    return [f"{new.name} ran XDP program {old.xdp or 'none'}, now {new.xdp or 'none'}" for old, new in both if old.xdp != new.xdp]


def _moved_items(what: str, then: dict[str, int] | dict[str, str], now: dict[str, int] | dict[str, str], told: bool = True) -> list[str]:
    """told: the values say something to people."""
    found = []
    for key in sorted(then.keys() | now.keys()):
        if key not in now:
            found.append(f"{what} {key} is gone")
        elif key not in then:
            found.append(f"{what} {key} is new" + (f": {now[key]}" if told else ""))
        elif then[key] != now[key]:
            found.append(f"{what} {key} " + (f"was {then[key]}, is {now[key]}" if told else "was changed"))
    return found


def _those(context: Context, current: state.Installed | None) -> tuple[Device, ...]:
    return tuple(device for device in context.devices if current and current.bindings.get(device.nic) == device.name)


def _device(device: Device) -> SeenDevice:
    from runtime.backends import link
    from runtime.backends.netlink import NetlinkError

    try:
        found = link.get(device.name)
    except NetlinkError as error:
        raise StepError(f"read {device.name}", error.words) from None
    return SeenDevice(device.name, found.ifindex, found.address.hex(":"), disruption.driver_of(device.name), found.xdp_program)


def _links(context: Context) -> dict[str, int]:
    from runtime.backends import bpf
    from runtime.steps import xdp_pins

    found = {}
    for path in sorted(xdp_pins.links(context).glob("*")):
        try:
            with xdp_pins.opened(path) as link:
                found[path.name] = bpf.link_info(link).prog_id
        except bpf.BpfError as error:
            raise StepError(f"read {path}", str(error)) from None
    return found


def _nft() -> dict[str, str]:
    from runtime.backends import nft, nft_netlink

    try:
        there = [(family, table) for family, table in nft.tables() if table in _TABLES and family in ("inet", "netdev")]
        return {f"{family} {table}": _digest(nft_netlink.fingerprint(family, table)) for family, table in there}
    except nft.NftError as error:
        raise StepError("read nft's tables", str(error)) from None


def _tc(context: Context) -> dict[str, str]:
    from runtime.backends.tc import Tc
    from runtime.steps import tc_place, tc_tree

    found = {}
    with tc_tree.refusals("read qdiscs and classes"), Tc() as tc:
        for device in context.devices:
            for name in (device.name, tc_place.ifb_name(device.ifindex)):
                if (seen := tc.device(name)) is not None:
                    found[name] = _shaping(tc, seen.ifindex)
    return found


def _shaping(tc: Tc, ifindex: int) -> str:
    """Without the root's options: HTB counts packets among them."""
    qdiscs = sorted((item.kind, item.handle, item.parent, "" if item.kind == "htb" else item.options.hex()) for item in tc.qdiscs(ifindex))
    classes = sorted((item.classid, item.parent, str(item.parameters)) for item in tc.classes(ifindex).values())
    return _digest([qdiscs, classes])


def _settings(planned: Plan) -> dict[str, str]:
    from runtime.knobs import Refusal
    from runtime.steps.setting_step import SettingStep
    from runtime.steps.setting_words import show

    found = {}
    for step in planned.ordered():
        if isinstance(step, SettingStep):
            try:
                now = show(step.reading()[0])
            except Refusal as refusal:
                now = refusal.words
            found[f"{step.device or 'host'} {step.setting.group} {step.setting.key}"] = now
    return found


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
