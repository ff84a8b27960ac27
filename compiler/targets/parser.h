/* The parser (docs/packet-model.md, numbered as there): the other implementation is compiler/packet.py. After prelude.h.
 *
 * What decides about the walk stays in registers and is written to *p once, at the end; fields go to *p as they are met, and only those that
 * the program reads. Plain IPv4 and IPv6 without tags, options and extension headers is the straight line.
 */
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define SET(field, value) do { if (READS_##field) p->field = (value); } while (0)
#define ADDRESS_FIELDS (HAVE_src | HAVE_dst)

/* Where the walk is. bytes: of the whole frame; layer3, at, end: octets from its beginning; type: as it stands in the frame. 64 bits: BPF masks anything narrower. */
struct walk { u8 *data, *data_end; u64 bytes, layer3, at, end; u32 kinds, have, type; };

INLINE u64 netc_mac(const u8 *at)
{
    return (u64)__builtin_bswap32(*(const u32 *)at) << 16 | BE16(at + 4);
}

INLINE u32 netc_fragment(u32 offset, u32 more)
{
    if (offset)
        return KIND_fragment | KIND_later_fragment;
    return more ? KIND_fragment | KIND_first_fragment : 0;
}

INLINE void netc_addresses4(packet_t *p, const u32 *words)
{
    if (READS_src_family)
        p->src.at.family = 4;
    if (READS_dst_family)
        p->dst.at.family = 4;
    if (READS_src) {
        p->src.prefix = 160;
        p->src.at.word[0] = words[0];
        p->src.at.word[1] = p->src.at.word[2] = p->src.at.word[3] = 0;
    }
    if (READS_dst) {
        p->dst.prefix = 160;
        p->dst.at.word[0] = words[1];
        p->dst.at.word[1] = p->dst.at.word[2] = p->dst.at.word[3] = 0;
    }
    if (READS_absent) {
        SET(src_hi, 0);
        SET(dst_hi, 0);
    }
    SET(src_lo, __builtin_bswap32(words[0]));
    SET(dst_lo, __builtin_bswap32(words[1]));
}

INLINE u64 netc_half(const u32 *words)
{
    return (u64)__builtin_bswap32(words[0]) << 32 | __builtin_bswap32(words[1]);
}

INLINE void netc_addresses6(packet_t *p, const u32 *words)
{
    u32 i;

    if (READS_src_family)
        p->src.at.family = 6;
    if (READS_dst_family)
        p->dst.at.family = 6;
#pragma clang loop unroll(full)
    for (i = 0; i < 4; i++) {
        if (READS_src)
            p->src.at.word[i] = words[i];
        if (READS_dst)
            p->dst.at.word[i] = words[4 + i];
    }
    if (READS_src)
        p->src.prefix = 160;
    if (READS_dst)
        p->dst.prefix = 160;
    SET(src_hi, netc_half(words));
    SET(src_lo, netc_half(words + 2));
    SET(dst_hi, netc_half(words + 4));
    SET(dst_lo, netc_half(words + 6));
}

/* Absent addresses have no family; a flow's hash reads them without asking. */
INLINE void netc_no_addresses(packet_t *p)
{
    if (READS_src_family)
        p->src.at.family = 0;
    if (READS_dst_family)
        p->dst.at.family = 0;
    if (READS_absent) {
        SET(src_hi, 0);
        SET(src_lo, 0);
        SET(dst_hi, 0);
        SET(dst_lo, 0);
    }
}

INLINE void netc_icmp(packet_t *p, struct walk *w, const u8 *h, int version, u32 ttl)
{
    u32 type = h[0];

    SET(icmp_type, type);
    SET(icmp_code, h[1]);
    w->have |= HAVE_icmp_type | HAVE_icmp_code;
    if (version == 4)
        return;
    if (type - 133 <= 4 && ttl == 255 && !(w->kinds & KIND_fragment))
        w->kinds |= KIND_nd;
    else if (type - 130 <= 2 || type == 143)
        w->kinds |= KIND_mld;
}

/* 6 and 7: the transport header at w->at, layer 3 ending at w->end. */
INLINE void netc_transport(packet_t *p, struct walk *w, u32 proto, int version, u32 ttl)
{
    u64 left = w->end - w->at;
    const u8 *h = w->data + w->at;

    if (proto == 6) {
        u64 header;
        w->kinds |= KIND_tcp;
        if (left < 20 || h + 20 > w->data_end)
            goto malformed;
        SET(tcp_flags, h[13]);
        w->have |= HAVE_tcp_flags;
        header = (h[12] >> 4) * 4;
        if (UNLIKELY(header < 20 || header > left))
            w->kinds |= KIND_malformed;
    } else if (proto == 17) {
        u64 length;
        w->kinds |= KIND_udp;
        if (left < 8 || h + 8 > w->data_end)
            goto malformed;
        length = BE16(h + 4);
        if (UNLIKELY(length < 8 || (length > left && !(w->kinds & KIND_first_fragment))))
            w->kinds |= KIND_malformed;
    } else if (proto == (version == 4 ? 1 : 58)) {
        w->kinds |= version == 4 ? KIND_icmp4 : KIND_icmp6;
        if (left < 8 || h + 8 > w->data_end)
            goto malformed;
        netc_icmp(p, w, h, version, ttl);
        return;
    } else if (proto == 132) {
        w->kinds |= KIND_sctp;
        if (left < 12 || h + 8 > w->data_end)
            goto malformed;
    } else {
        return;
    }
    SET(sport, BE16(h));
    SET(dport, BE16(h + 2));
    w->have |= HAVE_sport | HAVE_dport;
    return;
malformed:
    w->kinds |= KIND_malformed;
}

/* The kinds by proto alone, where nothing behind it is read. */
INLINE u32 netc_kind_of(u32 proto, int version)
{
    return proto == 6 ? KIND_tcp : proto == 17 ? KIND_udp : proto == 132 ? KIND_sctp
        : version == 4 && proto == 1 ? KIND_icmp4 : version == 6 && proto == 58 ? KIND_icmp6 : 0;
}

/* 4. */
INLINE void netc_ipv4(packet_t *p, struct walk *w)
{
    u64 left = w->bytes - w->layer3, header, length, fragment, proto, first;
    const u8 *h = w->data + w->layer3;

    if (UNLIKELY(h + 20 > w->data_end || (first = h[0]) - 0x45 > 10)) {
        w->kinds |= KIND_malformed;
        netc_no_addresses(p);
        return;
    }
    header = (first & 15) * 4;                      /* not first * 4 - 0x100: Linux 6.12's verifier would see it below zero */
    length = BE16(h + 2);
    proto = h[9];
    SET(tos, h[1]);
    SET(dscp, h[1] >> 2);
    SET(length, length);
    SET(ttl, h[8]);
    SET(proto, proto);
    netc_addresses4(p, (const u32 *)(h + 12));
    w->have |= ADDRESS_FIELDS | HAVE_ttl | HAVE_dscp | HAVE_length | HAVE_proto;
    fragment = *(const u16 *)(h + 6) & NET16(0x3fff);
    if (UNLIKELY(fragment))
        w->kinds |= netc_fragment(fragment & NET16(0x1fff), fragment & NET16(0x2000));
    if (UNLIKELY(length < header || length > left)) {   /* a header longer than what is left is one of the two */
        w->kinds |= KIND_malformed | netc_kind_of(proto, 4);
        return;
    }
    if (UNLIKELY(fragment & NET16(0x1fff))) {
        w->kinds |= netc_kind_of(proto, 4);
        return;
    }
    w->at = w->layer3 + header;
    w->end = w->layer3 + length;
    netc_transport(p, w, proto, 4, 0);
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
            p->kinds |= netc_fragment(place >> 3, place & 1);
            if (place >> 3)
                return 2;
        }
    }
    return 0;
}

/* 5, behind the fixed header: extension headers on the way to the transport. 0: nothing more is read. */
INLINE int netc_skip(packet_t *p, struct walk *w)
{
    int found;

    p->kinds = w->kinds;
    p->layer3 = w->layer3;
    p->at = w->at;
    p->end = w->end;
    found = netc_extensions(p, w->data, w->data_end);
    w->kinds = p->kinds;
    w->at = p->at & 0x3ff;
    if (found == 0)
        w->kinds |= KIND_malformed;
    if (found == 2) {
        u32 proto = p->next;
        SET(proto, proto);
        w->have |= HAVE_proto;
        w->kinds |= netc_kind_of(proto, 6);
    }
    return found == 1;
}

/* 5. */
INLINE void netc_ipv6(packet_t *p, struct walk *w)
{
    u64 left = w->bytes - w->layer3, length, next, ttl;
    const u8 *h = w->data + w->layer3;

    if (UNLIKELY(h + 40 > w->data_end || h[0] >> 4 != 6)) {
        w->kinds |= KIND_malformed;
        netc_no_addresses(p);
        return;
    }
    length = BE16(h + 4) + 40;
    next = h[6];
    ttl = h[7];
    SET(tos, (h[0] & 15) << 4 | h[1] >> 4);
    SET(dscp, (h[0] & 15) << 2 | h[1] >> 6);
    SET(length, length);
    SET(ttl, ttl);
    netc_addresses6(p, (const u32 *)(h + 8));
    w->have |= ADDRESS_FIELDS | HAVE_ttl | HAVE_dscp | HAVE_length;
    if (UNLIKELY(length > left)) {
        w->kinds |= KIND_malformed;
        return;
    }
    w->at = w->layer3 + 40;
    w->end = w->layer3 + length;
    if (UNLIKELY(netc_is_extension(next))) {
        p->next = next;
        if (!netc_skip(p, w))
            return;
        next = p->next;
    }
    SET(proto, next);
    w->have |= HAVE_proto;
    netc_transport(p, w, next, 6, ttl);
}

INLINE int netc_is_tag(u32 type)
{
    return type == NET16(0x8100) || type == NET16(0x88a8);
}

INLINE void netc_tag(packet_t *p, struct walk *w, u32 number, u32 id)
{
    if (number) {
        SET(vlan_inner, id);
        w->have |= HAVE_vlan_inner;
    } else {
        SET(vlan, id);
        w->have |= HAVE_vlan;
        if (id)
            w->kinds |= KIND_vlan;
    }
}

/* 2 and 3: the tags from the 14th octet on; leaves w->layer3 behind them. `accelerated`: the outer tag is not in the frame but in `tci` (an
 * skb's vlan_tci). 0: malformed. */
INLINE int netc_tags(packet_t *p, struct walk *w, u32 accelerated, u32 tci)
{
    u32 tags = 0, at = 14, type = *(const u16 *)(w->data + 12), i;

    if (accelerated) {
        netc_tag(p, w, 0, tci & 0xfff);
        tags = 1;
    }
#pragma clang loop unroll(full)
    for (i = 0; i < 3; i++) {
        u8 *h = w->data + at;
        if (LIKELY(type == NET16(0x0800)) || !netc_is_tag(type))
            break;
        if (tags == 2 || h + 4 > w->data_end) {
            w->kinds |= KIND_malformed;
            return 0;
        }
        netc_tag(p, w, tags, BE16(h) & 0xfff);
        type = *(const u16 *)(h + 2);
        tags++;
        at += 4;
    }
    if (tags == 0)
        SET(vlan, 0);
    if (tags < 2)
        SET(vlan_inner, 0);
    w->have |= HAVE_vlan | HAVE_vlan_inner | HAVE_ethertype;
    SET(ethertype, __builtin_bswap16(type));
    w->layer3 = at;
    w->type = type;
    return 1;
}

INLINE void netc_ethernet(packet_t *p, struct walk *w, u32 accelerated, u32 tci)
{
    u8 *data = w->data;
    u32 type;

    if (data + 14 > w->data_end) {
        w->kinds = KIND_malformed;
        netc_no_addresses(p);
        return;
    }
    SET(eth_dst, netc_mac(data));
    SET(eth_src, netc_mac(data + 6));
    w->have = HAVE_eth_dst | HAVE_eth_src;
    if (UNLIKELY(!netc_tags(p, w, accelerated, tci))) {
        netc_no_addresses(p);
    } else if (LIKELY(w->type == NET16(0x0800))) {
        w->kinds |= KIND_ip4;
        netc_ipv4(p, w);
    } else if (LIKELY(w->type == NET16(0x86dd))) {
        w->kinds |= KIND_ip6;
        netc_ipv6(p, w);
    } else {
        netc_no_addresses(p);
        type = __builtin_bswap16(w->type);
        if (type == 0x0806)
            w->kinds |= KIND_arp;
        else if (type == 0x88cc || type == 0x8809 || type == 0x888e || (type < 1536 && netc_mac(data) == 0x0180c2000000ULL))
            w->kinds |= KIND_l2;
    }
}

/* Read the frame at data..data_end, `bytes` long in all (fragments of a multi-buffer frame included), into *p. A header that does not
 * lie in the linear part cannot be read and makes the packet malformed. */
INLINE void netc_parse(packet_t *p, u8 *data, u8 *data_end, u32 bytes, u32 accelerated, u32 tci)
{
    struct walk w = {data, data_end, bytes};

    *(volatile u64 *)&p->judged = ~0ULL;           /* and p->steered: NONE */
    SET(handed, 0);
    SET(bytes, bytes);
    netc_ethernet(p, &w, accelerated, tci);
    p->kinds = w.kinds;
    p->have = w.have;
    SET(layer3, w.layer3);
    SET(at, w.at);
}
