/* State between packets: the clock, counters, token buckets (docs/packet-model.md, Limits). keyed.h: tables of addresses. */
/* This CPU's packet in the scratch map. */
INLINE packet_t *netc_packet(void *scratch)
{
    return scratch + (bpf_get_smp_processor_id() & (CPU_MAX - 1)) * SCRATCH_SIZE;
}

/* The clock word when it is not zero, else the kernel's clock. */
INLINE u64 netc_now(void *clock)
{
    u64 now = *(volatile u64 *)clock;
    return now ? now : bpf_ktime_get_ns();
}

INLINE u32 netc_slot(void *slots, u32 index)
{
    return ((volatile u32 *)slots)[index] & (COUNTER_SLOTS - 1);
}

/* Of the rule with this number among those that have a limit. */
INLINE u32 netc_bucket(void *slots, u32 number)
{
    return ((volatile u32 *)slots)[number] & (BUCKET_SLOTS - 1);
}

struct counter { u64 packets, bytes; };

/* Per CPU, so no atomics: a program is not interrupted by itself. `index` is below the length of the slot table. The kernel inlines the
 * look-up where its JIT knows per-CPU addresses. */
INLINE void netc_count(void *counters, void *slots, u32 index, u64 packets, u64 bytes)
{
    u32 slot = netc_slot(slots, index);
    struct counter *c = bpf_map_lookup_elem(counters, &slot);

    if (c) {
        c->packets += packets;
        c->bytes += bytes;
    }
}

/* GCRA in ticks: conforming packets move the bucket's tick of theoretical arrival on. A CPU that loses the race 32 times counts as
 * not conforming: the limit may be too strict for a packet then, never too loose. */
INLINE int netc_conforms(u64 *bucket, u64 now, u64 interval, u64 depth)
{
    u32 i;
#pragma clang loop unroll(disable)
    for (i = 0; i < 32; i++) {
        u64 tat = *(volatile u64 *)bucket, base = tat > now ? tat : now;
        if (base - now > depth)
            return 0;
        if (__sync_val_compare_and_swap(bucket, tat, base + interval) == tat)
            return 1;
    }
    return 0;
}

/* The address cut to its prefix, as a key; the masks are in network byte order. 0: the packet has no address. */
INLINE int netc_cut(struct address *key, volatile struct address *from, u32 mask4, u32 m0, u32 m1, u32 m2, u32 m3)
{
    u32 family = from->family;
    key->family = family;
    key->word[0] = from->word[0] & (family == 4 ? mask4 : m0);
    key->word[1] = from->word[1] & m1;
    key->word[2] = from->word[2] & m2;
    key->word[3] = from->word[3] & m3;
    return family != 0;
}

INLINE int netc_bit(void *bits, u32 value)
{
    return ((u8 *)bits)[(value & 0xffff) >> 3] >> (value & 7) & 1;
}
