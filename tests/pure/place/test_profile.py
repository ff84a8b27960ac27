"""Profile files: the shipped ones are whole, bad ones are named with the place and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler import profile

HEAD = "format: netc-profile 1\nname: x\n"


def test_shipped_profiles_load() -> None:
    assert profile.shipped() == ("generic", "veth")
    assert [profile.chosen(name).name for name in profile.shipped()] == ["generic", "veth"]
    assert profile.chosen(None) == profile.chosen("generic") == profile.default()


def test_what_a_file_does_not_say_is_not_had(tmp_path: Path) -> None:
    file = tmp_path / "nic.yaml"
    file.write_text(HEAD)
    bare = profile.load(file)
    assert not bare.xdp.native and not bare.xdp.metadata and bare.ntuple.rules == 0 and bare.rss.indirection == 0
    assert not bare.xdp.frags and not bare.ntuple.drop and not bare.ntuple.contexts and not bare.hw_tc_offload
    assert (bare.xdp.max_mtu, bare.rss.contexts, bare.rss.key_size, bare.mtu, bare.numa) == (0, 0, 0, 0, -1)
    assert bare.channels == profile.Channels(0, 0, 0) and bare.rings == profile.Rings(0, 0)
    assert bare.ntuple.kinds == bare.rss.functions == bare.qdiscs == bare.classifiers == ()


def test_every_field_can_be_said(tmp_path: Path) -> None:
    file = tmp_path / "nic.yaml"
    file.write_text(HEAD + """
xdp: { native: true, frags: true, max_mtu: 3498 }
rss: { indirection: 128, key_size: 40, contexts: 7, functions: [toeplitz, xor] }
ntuple: { rules: 64, kinds: [tcp4, udp6], drop: true, contexts: true }
channels: { combined: 8, rx: 0, tx: 0 }
rings: { rx: 4096, tx: 4096 }
qdiscs: [htb, fq_codel]
classifiers: [bpf, u32]
hw_tc_offload: true
mtu: 1500
numa: 1
""")
    read = profile.load(file)
    assert (read.xdp.frags, read.xdp.max_mtu, read.channels.combined, read.rings.tx, read.mtu, read.numa) == (True, 3498, 8, 4096, 1500, 1)
    assert read.ntuple == profile.Ntuple(64, ("tcp4", "udp6"), True, True)
    assert (read.rss.key_size, read.rss.contexts, read.rss.functions) == (40, 7, ("toeplitz", "xor"))
    assert (read.qdiscs, read.classifiers, read.hw_tc_offload) == (("htb", "fq_codel"), ("bpf", "u32"), True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "rss: { indirection: many }", "rss.indirection: Expected `int`, got `str`"),
        (HEAD + "rsss: {}", "unknown field `rsss`"),
        (HEAD + "xdp: { native: yes please }", "xdp.native: Expected `bool`, got `str`"),
        (HEAD + "cpus: -1", "cpus: Expected `int` >= 0"),
        (HEAD + "channels: { combned: 8 }", "channels: Object contains unknown field `combned`"),
        (HEAD + "ntuple: { kinds: [tpc4] }", "ntuple.kinds[0]: Invalid enum value 'tpc4'"),
        (HEAD + "rss: { functions: [topelitz] }", "rss.functions[0]: Invalid enum value 'topelitz'"),
        (HEAD + "qdiscs: htb", "qdiscs: Expected `array`, got `str`"),
        (HEAD + "numa: -2", "numa: Expected `int` >= -1"),
        (HEAD + "cpus: {", "nic.yaml:4:1: N711 not YAML"),
        ("- a\n- b\n", "format: netc-profile 1"),
        ("", "format: netc-profile 1"),
        ("format: netc-profile 2\nname: x\n", "format: netc-profile 1"),
        (HEAD + "facts: { a: &a [x], b: [*a, *a] }", "nic.yaml:3:13: N711 anchors and aliases are not allowed"),
        (HEAD + "driver: !!python/object/apply:os.system [id]", "not YAML"),
        ("[" * 20000, "nic.yaml:1:17: N711 nested deeper than 16 levels"),
        ('format: netc-profile 1\nname: x\ndriver: "igb\\e[2J"\n', "driver: control characters"),
        ('format: netc-profile 1\nname: x\nqdiscs: ["fq\\n"]\n', "qdiscs[0]: control characters"),
        (HEAD + '"dri\\e[2Jver": igb', "unknown field `dri\\x1b[2Jver`"),
    ],
)
def test_bad_profiles_name_the_place(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "nic.yaml"
    file.write_text(text + ("" if text.endswith("\n") else "\n"))
    with pytest.raises(profile.ProfileError) as caught:
        profile.load(file)
    assert words in str(caught.value) and str(file) in str(caught.value)


def test_not_text_not_there_and_too_large(tmp_path: Path) -> None:
    file = tmp_path / "nic.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(profile.ProfileError, match="not UTF-8"):
        profile.load(file)
    file.write_bytes(b"#" * (2 << 20))
    with pytest.raises(profile.ProfileError, match="not a capability profile"):
        profile.load(file)
    with pytest.raises(profile.ProfileError, match="there is no profile"):
        profile.chosen(str(tmp_path / "absent.yaml"))
