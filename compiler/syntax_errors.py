"""What to say of a token that does not fit: which constructs are only named and not built, what may stand there, what was likely meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from compiler.suggest import closest
from compiler.tables.durations import DURATIONS
from compiler.tokens import BAD, END, NEWLINE, STRING, WORD, Token
from compiler.units import BIT_RATES, PACKET_RATES, SIZES

NOT_YET = {
    "reject": ("`reject`", "write `drop`: the sender learns nothing instead of being told"),
    "trial": ("`trial`", "try the policy in the lab first: `netc lab up`, `netc replay`"),
    "police": ("`police`", "write `shape NIC in rate …`: it queues instead of dropping"),
    "spoofed": ("`spoofed` (reverse path)", "write the prefixes that belong behind the nic: `drop not src in inside`"),
    "until": ("`until`", "put the addresses into a dynamic set: `set guests : address timeout 12h`, entries end by themselves"),
    "connections": ("`connections N per src`", "limit the openings instead: `tcp dport 443 syn limit 50pps per src`"),
    "quota": ("`quota`", "write an `expect` over the rule's bytes, or `shape` with a class"),
    "nat": ("address translation", "NAT is not netc's: keep it in an nft table of your own"),
    "masquerade": ("address translation", "NAT is not netc's: keep it in an nft table of your own"),
    "snat": ("address translation", "NAT is not netc's: keep it in an nft table of your own"),
    "dnat": ("address translation", "NAT is not netc's: keep it in an nft table of your own"),
    "mirror": ("`mirror`", "write `then sample 1/N`: copies go to the capture ring"),
}  # fmt: skip

_HABITS = {
    "accept": "write `pass`", "allow": "write `pass`", "permit": "write `pass`", "deny": "write `drop`", "block": "write `drop`",
    "and": "write one condition behind the other: `udp dport 53` means both", "&&": "write one condition behind the other",
    "||": "write `or`", "!": "write `not`", "ip": "write `ip4`, `ip6`, or nothing: conditions hold for both families",
    "ipv4": "write `ip4`", "ipv6": "write `ip6`", "saddr": "write `src`", "daddr": "write `dst`", "from": "write `src`",
    "port": "write `dport` or `sport`", "input": "write `in`", "output": "write `out`", "forward": "write `filter wan -> lan`",
    "any": "leave it out: no condition means every packet", "all": "leave it out: no condition means every packet",
    "log": "effects come last, after `then`: `… as NAME then log`", "add": "effects come last, after `then`",
    "sample": "effects come last, after `then`", "limit": "the order is: verdict, condition, `limit`, `as`, `then`; a limit holds for the whole rule",
    "over": "the order is: verdict, condition, `over`, `as`, `then`; a limit holds for the whole rule", "==": "write `=` in `expect`; nothing in conditions: `dport 53`",
    "else": "write `else roll-back` or `else warn` before the `{`", ":": "a set's type stands behind its name: `set banned : address`",
}  # fmt: skip

_GROUPS = (
    (("TCP", "SRC"), "a condition (`tcp`, `udp dport 53`, `src in office`, `not …`)"),
    (("PASS", "DROP"), "a rule (`pass …`, `drop …`)"),
    (("NIC", "FILTER"), "a declaration (`nic`, `set`, `filter`, `steer`, `shape`, …)"),
)
_CONDITION_WORDS = frozenset(
    [
        "tcp",
        "udp",
        "sctp",
        "icmp",
        "icmp4",
        "icmp6",
        "ip4",
        "ip6",
        "src",
        "dst",
        "sport",
        "dport",
        "mac",
        "vlan",
        "proto",
        "dscp",
        "ttl",
        "length",
        "ethertype",
        "flags",
        "syn",
        "fragment",
        "first-fragment",
        "later-fragment",
        "malformed",
        "arp",
        "nd",
        "mld",
        "l2",
        "established",
        "new",
        "related",
        "invalid",
        "not",
        "(",
    ]
)
_FIELDS = frozenset(["src", "dst", "sport", "dport", "proto", "dscp", "ttl", "length", "vlan", "ethertype"])
_UNITS = frozenset([*BIT_RATES, *PACKET_RATES, *DURATIONS, *SIZES])
_DECLARATIONS = frozenset(
    ["nic", "set", "const", "include", "rules", "filter", "steer", "shape", "tune", "host", "protect", "expect", "test"]
)


def describe(
    token: Token, row: Collection[str], keywords: Mapping[str, str], statement: list[Token]
) -> tuple[str, str, str]:
    """Code, message and help for `token` where only the terminals of `row` fit."""
    if token.kind == BAD:
        return "N002", _bad_character(token.text), _character_help(token.text)
    if token.text in NOT_YET and token.kind == WORD:
        name, instead = NOT_YET[token.text]
        return "N006", f"{name} is not supported yet", instead
    fitting = sorted(text for text, terminal in keywords.items() if terminal in row)
    expected = _expected(fitting, row, token.first)
    if token.kind in (NEWLINE, END):
        return "N003", "the statement ends too early", f"expected {expected}"
    return "N003", f"`{_short(token.text)}` does not fit here", _help(token, fitting, expected, statement)


def _help(token: Token, fitting: list[str], expected: str, statement: list[Token]) -> str:
    before = statement[-2].text if len(statement) > 1 else ""
    if token.kind == WORD and (habit := _HABITS.get(token.text)):
        return habit
    if token.kind == WORD and (meant := closest(token.text, fitting)):
        return f"did you mean `{meant}`?"
    if token.first and token.text in _DECLARATIONS:
        return f"`{token.text}` is a declaration of its own: close the block before it with `}}`"
    if token.text == "}" and "nic" in fitting:
        return "there is no open block that it could close"
    if written := _list_or_negation(token, statement):
        return written
    if token.kind == STRING and before == "log":
        return "`log` takes no text: the line names the rule"
    if "," in fitting and set(fitting) <= {",", "}"}:
        return "members are separated by commas: { 80, 443 }"
    if token.text == "or" and any(t.text in ("limit", "over") for t in statement):
        return (
            "a limit holds for the whole rule and comes last: write it behind the last alternative, or make two rules"
        )
    if token.text == "=" and statement[0].text not in ("set", "const", "sysctl"):
        return _sign_help(before)
    if token.kind == STRING and expected.startswith("a name"):
        return "names and values stand without quotes"
    return f"expected {expected}"


def _list_or_negation(token: Token, statement: list[Token]) -> str:
    """`dport 22, 23`, `dport 22 or 23`, `src not in office`, `100 mbit`: what was meant, in the language's own form."""
    words = [t.text for t in statement[-4:]]
    if len(words) == 4 and words[-2] == "or" and words[-4] in _FIELDS and token.text[:1].isdigit():
        return f"alternatives for one field stand in braces: `{words[-4]} {{ {words[-3]}, {token.text} }}`"
    if token.text == "," and len(words) > 2 and words[-3] in _FIELDS:
        return f"several values stand in braces: `{words[-3]} {{ {words[-2]}, … }}`"
    if token.text in ("in", "{") and len(words) > 2 and words[-2] == "not" and words[-3] in _FIELDS:
        return f"`not` stands before the whole condition: `not {words[-3]} {token.text} …`"
    if token.text in _UNITS and len(words) > 1 and words[-2][-1:].isdigit():
        return f"the unit belongs to the number: `{words[-2]}{token.text}`"
    return ""


def _sign_help(before: str) -> str:
    if before.endswith("!"):
        return "write `not` before the condition: `not ttl 64`"
    return "conditions have no sign: `dport 53`; comparisons are <, <=, >, >="


def _expected(fitting: list[str], row: Collection[str], first: bool) -> str:
    """What may stand here, in words; groups first, single words after."""
    found, words = [], set(fitting)
    for terminals, name in _GROUPS:
        if all(t in row for t in terminals):
            found.append(name)
    if found:
        words -= _CONDITION_WORDS | _DECLARATIONS | {"pass", "drop"}
    found += [f"`{word}`" for word in sorted(words, key=lambda w: (not w[0].isalpha(), w))]
    if "WORD" in row:
        found[:0] = ["a name", "a value"]
    if STRING in row:
        found.insert(0, 'a text in quotes ("…")')
    if NEWLINE in row and not first:
        found.append("the end of the statement")
    shown = found[:9] + (["…"] if len(found) > 9 else [])
    return (
        " or ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown) or "the end of the file"
    )


def _bad_character(text: str) -> str:
    if text == '"':
        return "this text has no closing quote"
    name = f"`{text}`" if text.isprintable() else f"U+{ord(text):04X}"
    return f"the character {name} has no meaning in a policy"


def _character_help(text: str) -> str:
    known = {
        '"': 'a text ends on the line where it begins: "sets/bogons.txt"',
        "'": 'texts stand in double quotes: "…"',
        "&": "write one condition behind the other: `udp dport 53` means both",
        "|": "write `or`",
        "\u201c": 'write plain quotes: "…"', "\u201d": 'write plain quotes: "…"',
        "\u2013": "write a plain minus: 8080-8089", "\u2014": "write a plain minus: 8080-8089",
        "\u00a0": "this is a no-break space: write a plain space",
        "$": "names stand by themselves: `src in office`",
        "\\": "a line goes on behind `,` and `or`",
    }  # fmt: skip
    return known.get(
        text,
        "was it pasted from somewhere? remove it" if not text.isprintable() else "remove it, or put it into quotes",
    )


def _short(text: str) -> str:
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return clean if len(clean) <= 40 else clean[:39] + "…"
