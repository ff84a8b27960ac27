/* bench/small.netc as somebody writes it by hand who cares for speed: headers in registers, the commonest question first in each
 * protocol, no helper call, one counter a packet. The order of questions keeps first match; the numbers are the rules', default last. */
enum { PRIVATE, SSH, SSH_OTHERS, SCAN, WEB, ANSWERS, DNS, NTP, QUIC, PING, UNREACHABLE, TUNNEL, DEFAULT };
#define NET16(x) ((u16)((x) << 8 | (x) >> 8))
#define IN4(address, net, mask) (((address) & __builtin_bswap32(mask)) == __builtin_bswap32(net))

INLINE int done(struct counter *counters, u32 rule, u32 bytes, int verdict)
{
    counters[rule].packets++;
    counters[rule].bytes += bytes;
    return verdict;
}

INLINE int is_web(u32 port)
{
    return port == 80 || port == 443 || port - 8080 < 10;
}

INLINE int judge(struct xdp_md *ctx, struct counter *counters)
{
    u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *l4;
    u32 bytes = end - data, office, proto, sport, dport, fragment = 0, echo, unreachable, exceeded;

    if (data + 14 + 20 > end)
        return XDP_DROP;
    if (*(u16 *)(data + 12) == NET16(0x0800)) {
        u32 src = *(u32 *)(data + 26);
        if (IN4(src, 0x0a000000, 0xff000000) || IN4(src, 0x7f000000, 0xff000000) || IN4(src, 0xac100000, 0xfff00000) ||
            IN4(src, 0xc0a80000, 0xffff0000))
            return done(counters, PRIVATE, bytes, XDP_DROP);
        office = IN4(src, 0xc6336400, 0xffffff00);
        proto = data[23];
        fragment = *(u16 *)(data + 20) & NET16(0x1fff);
        l4 = data + 14 + (data[14] & 15) * 4;
        echo = 8, unreachable = 3, exceeded = 11;
        if (proto == 58)
            proto = 255;
    } else if (*(u16 *)(data + 12) == NET16(0x86dd)) {
        if (data + 14 + 40 > end)
            return XDP_DROP;
        office = *(u32 *)(data + 22) == __builtin_bswap32(0x20010db8) && *(u16 *)(data + 26) == NET16(0x0001);
        proto = data[20];
        l4 = data + 54;
        echo = 128, unreachable = 1, exceeded = 3;
        if (proto == 1)
            proto = 255;
    } else {
        return *(u16 *)(data + 12) == NET16(0x0806) ? XDP_PASS : done(counters, DEFAULT, bytes, XDP_DROP);
    }
    if (proto == 50)
        return done(counters, TUNNEL, bytes, XDP_PASS);
    if (fragment || l4 + 8 > end)
        return done(counters, DEFAULT, bytes, XDP_DROP);
    sport = __builtin_bswap16(*(u16 *)l4);
    dport = __builtin_bswap16(*(u16 *)(l4 + 2));
    if (proto == 6) {
        if (l4 + 20 > end)
            return XDP_DROP;
        if (dport == 22)
            return office ? done(counters, SSH, bytes, XDP_PASS) : done(counters, SSH_OTHERS, bytes, XDP_DROP);
        if ((l4[13] & 3) == 3)
            return done(counters, SCAN, bytes, XDP_DROP);
        if (is_web(dport))
            return done(counters, WEB, bytes, XDP_PASS);
        if (is_web(sport) && (l4[13] & 16))
            return done(counters, ANSWERS, bytes, XDP_PASS);
    } else if (proto == 17) {
        if (dport == 53)
            return done(counters, DNS, bytes, XDP_PASS);
        if (dport == 123)
            return done(counters, NTP, bytes, XDP_PASS);
        if (dport == 443)
            return done(counters, QUIC, bytes, XDP_PASS);
    } else if (proto == 1 || proto == 58) {
        if (l4[0] == echo)
            return done(counters, PING, bytes, XDP_PASS);
        if (l4[0] == unreachable || l4[0] == exceeded)
            return done(counters, UNREACHABLE, bytes, XDP_PASS);
        if (proto == 58 && l4[0] >= 130 && l4[0] <= 143)
            return XDP_PASS;
    }
    return done(counters, DEFAULT, bytes, XDP_DROP);
}
