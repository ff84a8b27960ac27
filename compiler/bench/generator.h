/* The programs that stand around the one that is measured. The text in front defines STATE, TABLE, PROGRAMS (map ids), SLOTS_MASK,
 * STRIDE and COPIED (bytes); LEAD bytes of padding stand before each frame of the table.
 */
#define MAP(id) ((void *)bpf_pseudo_fd(1, (id)))
#define VALUE(id) ((void *)bpf_pseudo_fd(2, (id)))
#define INLINE static inline __attribute__((always_inline))
#define LEAD 2
#define BE16(at) ((u32)(at)[0] << 8 | (at)[1])

struct state { u32 next, mask, base, program; };

#define COPY(type, at) do { if ((at) + sizeof(type) <= COPIED) *(volatile type *)(data + (at)) = *(const volatile type *)(from + (at)); } while (0)

/* The next flow's frame over the one in the test run, then on to the program under test. Stores are as wide as the fields that a parser
 * reads, so that each of its loads lies within one store: a load over two of them waits for both, which no frame from a NIC does. */
INLINE int generate(struct xdp_md *ctx)
{
    volatile struct state *state = VALUE(STATE);
    u8 *data, *end;
    const u8 *from;
    u32 next;

    if (ctx->data_meta != ctx->data) /* the metadata of the frame before: a mark of netc's */
        bpf_xdp_adjust_meta(ctx, (int)(ctx->data - ctx->data_meta));
    data = (void *)(long)*(volatile u32 *)&ctx->data; /* read again: clang takes data_meta for it where they are equal */
    end = (void *)(long)ctx->data_end;
    if (data + COPIED > end)
        return XDP_ABORTED;
    next = state->next;
    state->next = next + 1;
    from = (const u8 *)VALUE(TABLE) + ((state->base + (next & state->mask)) & SLOTS_MASK) * STRIDE + LEAD;
    COPY(u64, 0);
    COPY(u32, 8);
    COPY(u16, 12);
    COPY(u64, 14);
    COPY(u32, 22);
    COPY(u64, 26);
    COPY(u64, 34);
    COPY(u64, 42);
    COPY(u64, 50);
    COPY(u64, 58);
    COPY(u64, 66);
    bpf_tail_call_((u64)MAP(PROGRAMS), ctx, state->program);
    return XDP_ABORTED;
}

/* The floor: what nobody who looks at addresses and ports can leave out. Every field that was read decides about the verdict. */
INLINE int parse_only(struct xdp_md *ctx)
{
    u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *l4;
    u32 seen, proto;

    if (data + 34 > end)
        return XDP_DROP;
    if (*(u16 *)(data + 12) == 0x0008) {
        proto = data[23];
        seen = *(u32 *)(data + 26) ^ *(u32 *)(data + 30);
        l4 = data + 14 + (data[14] & 15) * 4;
    } else if (*(u16 *)(data + 12) == 0xdd86) {
        if (data + 54 > end)
            return XDP_DROP;
        proto = data[20];
        seen = *(u32 *)(data + 22) ^ *(u32 *)(data + 26) ^ *(u32 *)(data + 30) ^ *(u32 *)(data + 34);
        seen ^= *(u32 *)(data + 38) ^ *(u32 *)(data + 42) ^ *(u32 *)(data + 46) ^ *(u32 *)(data + 50);
        l4 = data + 54;
    } else {
        return XDP_PASS;
    }
    if (proto == 6 || proto == 17 || proto == 132) {
        if (l4 + 4 > end)
            return XDP_DROP;
        seen ^= *(u32 *)l4;
    }
    return seen + proto == 0x6e657463 ? XDP_DROP : XDP_PASS;
}
