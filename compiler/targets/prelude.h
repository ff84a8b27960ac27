/* What every netc program shares: the packet and its parser (docs/packet-model.md, numbered as there). state.h is the other half.
 *
 * The text in front of this file defines KIND_* and HAVE_* (one bit each, from compiler/ir.py), CPU_MAX, SCRATCH_SIZE, COUNTER_SLOTS.
 * What was parsed lives in map memory and is read back through volatile pointers: values in registers would make the verifier follow
 * every rule's outcome into every later rule (a million instructions at fifty rules); memory keeps its work linear.
 */
#define MAP(id) ((void *)bpf_pseudo_fd(1, (id)))
#define VALUE(id) ((void *)bpf_pseudo_fd(2, (id)))
#define INLINE static inline __attribute__((always_inline))
#define NONE 0xffffffffu
#define BE16(at) ((u32)(at)[0] << 8 | (at)[1])
/* An opaque copy: the compiler must not drop the bounds check that the verifier wants to see. */
#define OPAQUE(x) asm volatile("" : "+r"(x))

struct address { u32 family; u32 word[4]; };       /* 4, 6 or 0 (absent); network byte order, IPv4 in word[0] */
struct trie_key { u32 prefix; struct address at; };
struct bytes16 { u32 word[4]; };

struct packet {
    u32 judged, steered;                            /* indices of the counters; the runtime reads these two */
    u32 kinds, have, control, handed;
    u64 now;                                        /* ns */
    struct trie_key src, dst;
    u64 src_hi, src_lo, dst_hi, dst_lo;             /* host order; IPv4 in lo */
    u64 eth_src, eth_dst;
    u32 bytes, length, layer3, at, end, next;
    u16 ethertype, vlan, vlan_inner, proto, dscp, ttl, sport, dport, tcp_flags, icmp_type, icmp_code, tos;
    u64 change;                                     /* of sets by hand, the last one done when the packet came (keyed.h) */
    u32 row[8];                                     /* where each group's row begins in the tables (compiler.classify) */
};
typedef volatile struct packet packet_t;

INLINE u64 netc_mac(const u8 *at)
{
    return (u64)BE16(at) << 32 | (u64)BE16(at + 2) << 16 | BE16(at + 4);
}

INLINE void netc_fragment(packet_t *p, u32 offset, u32 more)
{
    if (offset)
        p->kinds |= KIND_fragment | KIND_later_fragment;
    else if (more)
        p->kinds |= KIND_fragment | KIND_first_fragment;
}

INLINE void netc_proto(packet_t *p, u32 proto, int version)
{
    p->proto = proto;
    p->have |= HAVE_proto;
    if (proto == 6)
        p->kinds |= KIND_tcp;
    else if (proto == 17)
        p->kinds |= KIND_udp;
    else if (proto == 132)
        p->kinds |= KIND_sctp;
    else if (version == 4 && proto == 1)
        p->kinds |= KIND_icmp4;
    else if (version == 6 && proto == 58)
        p->kinds |= KIND_icmp6;
}

/* 6 and 7: the transport header at p->at, layer 3 ending at p->end. */
INLINE void netc_transport(packet_t *p, u8 *data, u8 *data_end)
{
    u32 kinds = p->kinds, at = p->at & 0x3ff, left = p->end - p->at;
    u32 icmp = kinds & (KIND_icmp4 | KIND_icmp6), needs = kinds & KIND_tcp ? 20 : kinds & KIND_sctp ? 12 : 8;
    u8 *h = data + at;

    if (!(kinds & (KIND_tcp | KIND_udp | KIND_sctp | KIND_icmp4 | KIND_icmp6)))
        return;
    if (left < needs || h + 8 > data_end) {
        p->kinds |= KIND_malformed;
        return;
    }
    if (icmp) {
        p->icmp_type = h[0];
        p->icmp_code = h[1];
        p->have |= HAVE_icmp_type | HAVE_icmp_code;
        if (!(kinds & KIND_icmp6))
            return;
        if (h[0] >= 133 && h[0] <= 137 && p->ttl == 255 && !(kinds & KIND_fragment))
            p->kinds |= KIND_nd;
        else if ((h[0] >= 130 && h[0] <= 132) || h[0] == 143)
            p->kinds |= KIND_mld;
        return;
    }
    if (kinds & KIND_tcp) {
        u32 header;
        if (h + 20 > data_end) {
            p->kinds |= KIND_malformed;
            return;
        }
        p->tcp_flags = h[13];
        p->have |= HAVE_tcp_flags;
        header = (h[12] >> 4) * 4;
        if (header < 20 || header > left)
            p->kinds |= KIND_malformed;
    } else if (kinds & KIND_udp) {
        u32 length = BE16(h + 4);
        if (length < 8 || (length > left && !(kinds & KIND_first_fragment)))
            p->kinds |= KIND_malformed;
    }
    p->sport = BE16(h);
    p->dport = BE16(h + 2);
    p->have |= HAVE_sport | HAVE_dport;
}

/* 4. */
INLINE void netc_ipv4(packet_t *p, u8 *data, u8 *data_end)
{
    u32 at = p->layer3 & 0xff, left = p->bytes - p->layer3, header, length, fragment;
    u8 *h = data + at;
    u32 *words;

    if (left < 20 || h + 20 > data_end || h[0] >> 4 != 4 || (h[0] & 15) < 5) {
        p->kinds |= KIND_malformed;
        return;
    }
    words = (u32 *)(h + 12);
    header = (h[0] & 15) * 4;
    length = BE16(h + 2);
    fragment = BE16(h + 6);
    p->tos = h[1];
    p->dscp = h[1] >> 2;
    p->length = length;
    p->ttl = h[8];
    p->src.at.family = p->dst.at.family = 4;
    p->src.at.word[0] = words[0];
    p->dst.at.word[0] = words[1];
    p->src_lo = __builtin_bswap32(words[0]);
    p->dst_lo = __builtin_bswap32(words[1]);
    p->have |= HAVE_src | HAVE_dst | HAVE_ttl | HAVE_dscp | HAVE_length;
    netc_fragment(p, fragment & 0x1fff, fragment & 0x2000);
    netc_proto(p, h[9], 4);
    if (length < header || length > left || header > left) {
        p->kinds |= KIND_malformed;
        return;
    }
    if (fragment & 0x1fff)
        return;
    p->at = p->layer3 + header;
    p->end = p->layer3 + length;
    netc_transport(p, data, data_end);
}

INLINE int netc_is_extension(u32 next)
{
    const u64 low = 1ULL << 0 | 1ULL << 43 | 1ULL << 44 | 1ULL << 51 | 1ULL << 60;
    return (next < 64 && (low >> next & 1)) || next == 135 || next == 139 || next == 140;
}

/* 5, the extension headers. Position and type go through memory, so that every round looks the same to the verifier. */
INLINE int netc_extensions(packet_t *p, u8 *data, u8 *data_end)
{
    u32 i;
#pragma clang loop unroll(disable)
    for (i = 0; i < 9; i++) {
        u32 next = p->next, at = p->at & 0x3ff, end = p->end, size;
        u8 *h = data + at;

        if (!netc_is_extension(next))
            return 1;
        if (i == 8 || end - at < 8 || h + 8 > data_end)
            break;
        size = next == 44 ? 8 : next == 51 ? (h[1] + 2) * 4 : (h[1] + 1) * 8;
        if (size > end - at || at + size - p->layer3 - 40 > 256)
            break;
        p->next = h[0];
        p->at = at + size;
        if (next == 44) {
            u32 place = BE16(h + 2);
            netc_fragment(p, place >> 3, place & 1);
            if (place >> 3) {
                netc_proto(p, h[0], 6);
                return 0;
            }
        }
    }
    p->kinds |= KIND_malformed;
    return 0;
}

/* 5. */
INLINE void netc_ipv6(packet_t *p, u8 *data, u8 *data_end)
{
    u32 at = p->layer3 & 0xff, left = p->bytes - p->layer3, length;
    u8 *h = data + at;
    u32 *words;

    if (left < 40 || h + 40 > data_end || h[0] >> 4 != 6) {
        p->kinds |= KIND_malformed;
        return;
    }
    words = (u32 *)(h + 8);
    length = BE16(h + 4) + 40;
    p->tos = (h[0] & 15) << 4 | h[1] >> 4;
    p->dscp = (h[0] & 15) << 2 | h[1] >> 6;
    p->length = length;
    p->ttl = h[7];
    p->src.at.family = p->dst.at.family = 6;
    p->src.at.word[0] = words[0];
    p->src.at.word[1] = words[1];
    p->src.at.word[2] = words[2];
    p->src.at.word[3] = words[3];
    p->dst.at.word[0] = words[4];
    p->dst.at.word[1] = words[5];
    p->dst.at.word[2] = words[6];
    p->dst.at.word[3] = words[7];
    p->src_hi = (u64)__builtin_bswap32(words[0]) << 32 | __builtin_bswap32(words[1]);
    p->src_lo = (u64)__builtin_bswap32(words[2]) << 32 | __builtin_bswap32(words[3]);
    p->dst_hi = (u64)__builtin_bswap32(words[4]) << 32 | __builtin_bswap32(words[5]);
    p->dst_lo = (u64)__builtin_bswap32(words[6]) << 32 | __builtin_bswap32(words[7]);
    p->have |= HAVE_src | HAVE_dst | HAVE_ttl | HAVE_dscp | HAVE_length;
    if (length > left) {
        p->kinds |= KIND_malformed;
        return;
    }
    p->next = h[6];
    p->at = p->layer3 + 40;
    p->end = p->layer3 + length;
    if (netc_extensions(p, data, data_end)) {
        netc_proto(p, p->next, 6);
        netc_transport(p, data, data_end);
    }
}

INLINE int netc_is_tag(u32 type)
{
    return type == 0x8100 || type == 0x88a8;
}

INLINE void netc_tag(packet_t *p, u32 number, u32 id)
{
    if (number) {
        p->vlan_inner = id;
        p->have |= HAVE_vlan_inner;
    } else {
        p->vlan = id;
        p->have |= HAVE_vlan;
        if (id)
            p->kinds |= KIND_vlan;
    }
}

/* 2 and 3: the tags from p->at on. `accelerated`: the outer tag is not in the frame but in `tci` (an skb's vlan_tci). */
INLINE int netc_tags(packet_t *p, u8 *data, u8 *data_end, u32 accelerated, u32 tci)
{
    u32 tags = 0, at = 14, type = BE16(data + 12), i;

    if (accelerated) {
        netc_tag(p, 0, tci & 0xfff);
        tags = 1;
    }
#pragma clang loop unroll(full)
    for (i = 0; i < 3; i++) {
        u8 *h = data + at;
        if (!netc_is_tag(type))
            break;
        if (tags == 2 || h + 4 > data_end) {
            p->kinds |= KIND_malformed;
            return 0;
        }
        netc_tag(p, tags, BE16(h) & 0xfff);
        type = BE16(h + 2);
        tags++;
        at += 4;
    }
    if (tags == 0)
        p->vlan = 0;
    if (tags < 2)
        p->vlan_inner = 0;
    p->have |= HAVE_vlan | HAVE_vlan_inner | HAVE_ethertype;
    p->ethertype = type;
    p->layer3 = at;
    return 1;
}

INLINE void netc_forget(packet_t *p, u32 bytes)
{
    p->judged = p->steered = NONE;
    p->kinds = p->have = p->control = p->handed = 0;
    p->bytes = bytes;
    p->src.prefix = p->dst.prefix = 160;
    p->src.at.family = p->dst.at.family = 0;
    p->src.at.word[0] = p->src.at.word[1] = p->src.at.word[2] = p->src.at.word[3] = 0;
    p->dst.at.word[0] = p->dst.at.word[1] = p->dst.at.word[2] = p->dst.at.word[3] = 0;
    p->src_hi = p->src_lo = p->dst_hi = p->dst_lo = 0;
}

/* Read the frame at data..data_end, `bytes` long in all (fragments of a multi-buffer frame included), into *p. A header that does not
 * lie in the linear part cannot be read and makes the packet malformed. */
INLINE void netc_parse(packet_t *p, u8 *data, u8 *data_end, u32 bytes, u32 accelerated, u32 tci)
{
    netc_forget(p, bytes);
    if (data + 14 > data_end) {
        p->kinds = KIND_malformed;
        return;
    }
    p->eth_dst = netc_mac(data);
    p->eth_src = netc_mac(data + 6);
    p->have |= HAVE_eth_dst | HAVE_eth_src;
    if (netc_tags(p, data, data_end, accelerated, tci)) {
        u32 type = p->ethertype;
        if (type == 0x0800) {
            p->kinds |= KIND_ip4;
            netc_ipv4(p, data, data_end);
        } else if (type == 0x86dd) {
            p->kinds |= KIND_ip6;
            netc_ipv6(p, data, data_end);
        } else if (type == 0x0806) {
            p->kinds |= KIND_arp;
        } else if (type == 0x88cc || type == 0x8809 || type == 0x888e || (type < 1536 && p->eth_dst == 0x0180c2000000ULL)) {
            p->kinds |= KIND_l2;
        }
    }
    p->control = p->kinds & (KIND_arp | KIND_nd | KIND_mld | KIND_l2);
}
