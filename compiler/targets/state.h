/* State between packets: counters, token buckets, rings of keys, dynamic sets (docs/packet-model.md, Limits and Dynamic sets). */
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

/* Keys of a table in order of insertion; the hand looks for one that may go. */
struct ring { u64 count, hand; struct address key[]; };
#define INSERTED 0
#define EXISTS 1
#define FULL 2                                      /* from here on: there was no room */
#define EVICTED 3

INLINE int netc_take_slot(void *map, struct ring *ring, u64 slot, u64 size, struct address *key, u64 *value)
{
    OPAQUE(slot);
    if (slot >= size)
        return FULL;
    if (bpf_map_update_elem(map, key, value, BPF_NOEXIST))
        return FULL;
    ring->key[slot] = *key;
    return INSERTED;
}

/* May the key in this ring slot go? `idle_at`: expiries and ticks up to it are over; zero_stays: 0 is never over (sets). */
INLINE int netc_retire(void *map, struct ring *ring, u64 slot, u64 size, u64 idle_at, int zero_stays, int force)
{
    struct address old;
    u64 *value, at;

    OPAQUE(slot);
    if (slot >= size)
        return 0;
    old = ring->key[slot];
    value = bpf_map_lookup_elem(map, &old);
    if (!value)
        return 1;                                   /* taken out by hand: the slot is free */
    at = *(volatile u64 *)value;
    if (!force && (at > idle_at || (zero_stays && at == 0)))
        return 0;
    return bpf_map_delete_elem(map, &old) == 0;     /* another CPU may have been first */
}

/* A key that is not in the table: room, or the hand (docs/packet-model.md, Limits and Dynamic sets). */
INLINE int netc_insert(void *map, struct ring *ring, u64 size, struct address *key, u64 *value, u64 idle_at, int zero_stays, int evict)
{
    u64 slot;
    u32 i;

    if (*(volatile u64 *)&ring->count < size) {
        if (bpf_map_update_elem(map, key, value, BPF_NOEXIST) == 0) {
            slot = __sync_fetch_and_add(&ring->count, 1);
            OPAQUE(slot);
            if (slot < size) {
                ring->key[slot] = *key;
                return INSERTED;
            }
            bpf_map_delete_elem(map, key);          /* the last slots went to other CPUs meanwhile */
        } else if (bpf_map_lookup_elem(map, key)) {
            return EXISTS;
        }
    }
#pragma clang loop unroll(disable)
    for (i = 0; i < 4; i++) {
        slot = __sync_fetch_and_add(&ring->hand, 1) % size;
        if (netc_retire(map, ring, slot, size, idle_at, zero_stays, 0))
            return netc_take_slot(map, ring, slot, size, key, value);
    }
    if (!evict)
        return FULL;
    slot = __sync_fetch_and_add(&ring->hand, 1) % size;
    if (!netc_retire(map, ring, slot, size, idle_at, zero_stays, 1))
        return FULL;
    return netc_take_slot(map, ring, slot, size, key, value) == INSERTED ? EVICTED : FULL;
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

/* A limit with a bucket for each key. `shared` serves keys that found no room. */
INLINE int netc_conforms_keyed(void *map, struct ring *ring, u64 size, struct address *key, u64 *shared, u64 now, u64 interval, u64 depth)
{
    u64 first = now + interval, *bucket = bpf_map_lookup_elem(map, key);

    if (!bucket) {
        int done = netc_insert(map, ring, size, key, &first, now, 0, 0);
        if (done == INSERTED)
            return 1;
        if (done == EXISTS)
            bucket = bpf_map_lookup_elem(map, key);
    }
    return netc_conforms(bucket ? bucket : shared, now, interval, depth);
}

INLINE int netc_live(void *map, volatile struct address *key, u64 now)
{
    u64 *expiry = bpf_map_lookup_elem(map, (void *)key), at;
    if (!expiry)
        return 0;
    at = *(volatile u64 *)expiry;
    return at == 0 || at > now;
}

/* Add a member to a dynamic set; what netc_insert says, EXISTS for a live one. */
INLINE int netc_add(void *map, struct ring *ring, u64 size, volatile struct address *from, u64 expiry, u64 now, int renew, int evict)
{
    struct address key;
    u64 *found;

    key.family = from->family;
    key.word[0] = from->word[0];
    key.word[1] = from->word[1];
    key.word[2] = from->word[2];
    key.word[3] = from->word[3];
    found = bpf_map_lookup_elem(map, &key);
    if (found) {
        u64 at = *(volatile u64 *)found;
        if (renew || (at != 0 && at <= now))
            *(volatile u64 *)found = expiry;
        return EXISTS;
    }
    return netc_insert(map, ring, size, &key, &expiry, now, 1, evict);
}

INLINE int netc_bit(void *bits, u32 value)
{
    return ((u8 *)bits)[(value & 0xffff) >> 3] >> (value & 7) & 1;
}
