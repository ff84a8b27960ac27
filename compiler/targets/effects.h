/* What XDP programs do beside judging: samples, DSCP, the carrier's mark, steering. After prelude.h, state.h, keyed.h. */

/* The frame's length, the fragments of a multi-buffer frame included. A helper call costs as much as the whole parser (its return is
 * mispredicted where the kernel defends itself against Spectre), so the kernel's own flags are asked first: the loader makes the call
 * BUFF_FLAGS into bpf_cast_to_kern_ctx, which costs nothing, and the load behind it into one of xdp_buff.flags; where the kernel cannot, they
 * read "has fragments" (runtime/backends/kernel_calls.py). */
#define NETC_LINEAR(ctx) ((u8 *)(long)(ctx)->data_end - (u8 *)(long)(ctx)->data)
#define XDP_FLAGS_HAS_FRAGS 1                       /* include/net/xdp.h */
INLINE u32 netc_length(struct xdp_md *ctx)
{
    u32 flags = *(volatile u32 *)(((void *(*)(struct xdp_md *))BUFF_FLAGS)(ctx) + BUFF_FLAGS_AT);

    if (__builtin_expect(flags & XDP_FLAGS_HAS_FRAGS, 0))
        return bpf_xdp_get_buff_len(ctx);
    return NETC_LINEAR(ctx);
}

#define SAMPLE_FRAME 224
struct sample { u64 time; u32 nic, slot, bytes, captured, log, zero; u8 frame[SAMPLE_FRAME]; };

/* One in `one_in` matching packets, by chance, into the ring buffer; a full buffer loses samples, never packets. */
INLINE void netc_sample(struct xdp_md *ctx, packet_t *p, void *samples, u32 nic, u32 slot, u32 one_in, u32 log)
{
    struct sample *sample;
    u64 size = p->bytes;                            /* 64 bits wide, or bounds are checked on a shifted copy */

    if (one_in > 1 && bpf_get_prandom_u32() % one_in)
        return;
    sample = bpf_ringbuf_reserve(samples, sizeof(*sample), 0);
    if (!sample)
        return;
    if (size > SAMPLE_FRAME)
        size = SAMPLE_FRAME;
    sample->time = bpf_ktime_get_ns();
    sample->nic = nic;
    sample->slot = slot;
    sample->bytes = p->bytes;
    sample->log = log;
    sample->zero = 0;
    sample->captured = size;
    OPAQUE(size);
    if (size < 14)                                  /* two checks, kept apart: the verifier understands neither as one */
        size = 14;
    OPAQUE(size);
    if (size > SAMPLE_FRAME || bpf_xdp_load_bytes(ctx, 0, sample->frame, size))
        sample->captured = 0;
    bpf_ringbuf_submit(sample, 0);
}

/* Write the DSCP, keep ECN. IPv4: the header checksum follows (RFC 1624, equation 3). */
INLINE void netc_set_dscp(struct xdp_md *ctx, packet_t *p, u32 dscp)
{
    u8 *data_end = (void *)(long)ctx->data_end, *h = (u8 *)(long)ctx->data + (p->layer3 & 0xff);
    u32 old, sum;

    if (!(p->have & HAVE_dscp) || h + 20 > data_end)
        return;
    old = BE16(h);
    if (p->kinds & KIND_ip6) {
        h[0] = 0x60 | dscp >> 2;
        h[1] = (h[1] & 0x3f) | (dscp & 3) << 6;
        return;
    }
    h[1] = dscp << 2 | (h[1] & 3);
    sum = (~BE16(h + 10) & 0xffff) + (~old & 0xffff) + BE16(h);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
    h[10] = sum >> 8;
    h[11] = sum;
}

/* The mark that tcx copies to skb->mark. 0: no room for metadata; without the mark the next stage judges the packet as pending. */
INLINE int netc_mark(struct xdp_md *ctx, u32 mark)
{
    u32 *meta;

    if (bpf_xdp_adjust_meta(ctx, -4))
        return 0;
    meta = (void *)(long)ctx->data_meta;
    if ((void *)(meta + 1) > (void *)(long)ctx->data)
        return 0;
    *meta = mark;
    return 1;
}

/* Equal for both directions of a flow, so that one CPU sees both. */
INLINE u32 netc_flow(packet_t *p)
{
    u64 hash = (p->src_hi ^ p->dst_hi) + (p->src_lo ^ p->dst_lo);

    if (p->have & HAVE_sport)
        hash += (u32)(p->sport + p->dport);
    hash = (hash ^ (hash >> 32)) * 0x9e3779b97f4a7c15ULL;
    return hash >> 33;
}

#define NETC_AF_INET 2
#define NETC_AF_INET6 10

/* Forward by the kernel's FIB to the nic with this index. To the stack goes what only the stack can do: no route or no neighbour yet,
 * another way out, TTL over, options, tags, fragments of a multi-buffer frame, malformed; and what is not addressed to this device's MAC,
 * which the stack takes for itself or drops, but never forwards (ip_forward and ip6_forward, PACKET_HOST). */
INLINE int netc_route(struct xdp_md *ctx, packet_t *p, void *devices, u32 nic, void *mac)
{
    struct bpf_fib_lookup fib = {};
    u8 *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end, *h = data + 14;
    u32 *device = bpf_map_lookup_elem(devices, &nic), sum;

    if (!device || p->eth_dst != *(volatile u64 *)mac || p->layer3 != 14 || (p->kinds & KIND_malformed) || p->ttl <= 1 || data_end - data != p->bytes)
        return XDP_PASS;
    if (h + 20 > data_end)
        return XDP_PASS;
    fib.ifindex = ctx->ingress_ifindex;
    fib.l4_protocol = p->proto;
    if (p->kinds & KIND_ip4) {
        if (h[0] != 0x45)
            return XDP_PASS;
        fib.family = NETC_AF_INET;
        fib.tos = p->tos;
        fib.tot_len = p->length;
        fib.ipv4_src = p->src.at.word[0];
        fib.ipv4_dst = p->dst.at.word[0];
    } else if (p->kinds & KIND_ip6) {
        fib.family = NETC_AF_INET6;
        fib.tot_len = p->length;
        fib.ipv6_src[0] = p->src.at.word[0];
        fib.ipv6_src[1] = p->src.at.word[1];
        fib.ipv6_src[2] = p->src.at.word[2];
        fib.ipv6_src[3] = p->src.at.word[3];
        fib.ipv6_dst[0] = p->dst.at.word[0];
        fib.ipv6_dst[1] = p->dst.at.word[1];
        fib.ipv6_dst[2] = p->dst.at.word[2];
        fib.ipv6_dst[3] = p->dst.at.word[3];
    } else {
        return XDP_PASS;
    }
    if (bpf_fib_lookup(ctx, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_SUCCESS || fib.ifindex != *device)
        return XDP_PASS;
    if (p->kinds & KIND_ip4) {
        sum = BE16(h + 10) + 0x100;                 /* RFC 1141: the TTL's byte is one less */
        sum = (sum & 0xffff) + (sum >> 16);
        h[8]--;
        h[10] = sum >> 8;
        h[11] = sum;
    } else {
        h[7]--;
    }
    __builtin_memcpy(data, fib.dmac, 6);
    __builtin_memcpy(data + 6, fib.smac, 6);
    return bpf_redirect_map(devices, nic, XDP_PASS);
}
