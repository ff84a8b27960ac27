/* Tables of addresses that programs fill: dynamic sets and buckets by source (docs/packet-model.md, Limits and Dynamic sets).
 *
 * A hash, and a ring that has each key of the hash in one slot. A slot belongs to whoever made its `family` 0 by an atomic exchange,
 * until it is published again or pushed on the stack of free slots; only the owner of a key's slot takes the key out of the hash, and
 * a key comes into the hash only by one who owns a slot for it. So hash and ring agree whatever CPUs do at the same time.
 *
 * A change by hand (set_change.h) is judged as a whole: its members carry its number and count, or no longer count, for packets that
 * read a number as high on entry (p->change). Change numbers are of this boot and only grow.
 */
/* Every word that CPUs exchange is a u64: clang makes no 32-bit atomics for the instruction set that bcc asks it for. */
struct ring_slot { u64 family; u32 word[4]; };
struct ring { u64 count, hand, free; struct ring_slot key[]; };   /* free: times used << 32 | first free slot + 1; the next is in word[0] */
struct member { u64 value, change, slot; };         /* a bucket has the value alone; a set's: expiry */
#define LEAVING(number) ((u64)(number) << 1 | 1)         /* values of `change`; 0: an ordinary member */
#define COMING(number) ((u64)(number) << 1)
#define DEAD (~0ULL)                                  /* being taken out of the hash */
#define INSERTED 0
#define EXISTS 1
#define FULL 2                                      /* from here on: there was no room */
#define EVICTED 3
#define TRIES 32

INLINE u64 netc_change(void *change)
{
    return *(volatile u64 *)change;
}

/* Is a member with this `change` one for packets that read `number`? */
INLINE int netc_in_change(u64 change, u64 number)
{
    if (change == 0)
        return 1;
    if (change == DEAD)
        return 0;
    return change & 1 ? number < change >> 1 : number >= change >> 1;
}

INLINE int netc_over(u64 at, u64 idle_at, int is_set)
{
    return at <= idle_at && !(is_set && at == 0);   /* a set's 0: never */
}

/* Let others see what its owner wrote into the slot; an exchange orders memory. */
INLINE void netc_publish(struct ring *ring, u64 slot, struct address *key)
{
    volatile struct ring_slot *at = &ring->key[slot];
    at->word[0] = key->word[0];
    at->word[1] = key->word[1];
    at->word[2] = key->word[2];
    at->word[3] = key->word[3];
    __sync_lock_test_and_set(&ring->key[slot].family, (u64)key->family);
}

/* Own the slot and read its key. 0: it is free, or another CPU's. */
INLINE int netc_claim(struct ring *ring, u64 slot, struct address *key)
{
    volatile struct ring_slot *at = &ring->key[slot];
    u64 family = __sync_lock_test_and_set(&ring->key[slot].family, 0);
    key->family = family;
    key->word[0] = at->word[0];
    key->word[1] = at->word[1];
    key->word[2] = at->word[2];
    key->word[3] = at->word[3];
    return family != 0;
}

/* A slot that is owned becomes free. Should 32 others be first each time, the place is lost: too strict, never too loose. */
INLINE void netc_push(struct ring *ring, u64 slot, u64 size)
{
    u32 i;
    OPAQUE(slot);
    if (slot >= size)
        return;
#pragma clang loop unroll(disable)
    for (i = 0; i < TRIES; i++) {
        u64 head = *(volatile u64 *)&ring->free;
        *(volatile u32 *)&ring->key[slot].word[0] = (u32)head;
        if (__sync_val_compare_and_swap(&ring->free, head, (head & ~0xffffffffULL) + (1ULL << 32) + slot + 1) == head)
            return;
    }
}

/* A free slot, now the caller's; from `size` on: there is none. */
INLINE u64 netc_pop(struct ring *ring, u64 size)
{
    u32 i;
#pragma clang loop unroll(disable)
    for (i = 0; i < TRIES; i++) {
        u64 head = *(volatile u64 *)&ring->free, slot = (head & 0xffffffffULL) - 1;
        OPAQUE(slot);
        if (slot >= size)
            return size;
        u32 next = *(volatile u32 *)&ring->key[slot].word[0];
        if (__sync_val_compare_and_swap(&ring->free, head, (head & ~0xffffffffULL) + (1ULL << 32) + next) == head)
            return slot;
    }
    return size;
}

/* Of a set: nobody may set the member's expiry anew from here on, or somebody has and it stays. */
INLINE int netc_doom(struct member *m, u64 idle_at, int force)
{
    u64 change = *(volatile u64 *)&m->change;
    if (change == DEAD || __sync_val_compare_and_swap(&m->change, change, DEAD) != change)
        return 0;
    if (force || netc_over(*(volatile u64 *)&m->value, idle_at, 1))
        return 1;
    __sync_val_compare_and_swap(&m->change, DEAD, change);
    return 0;
}

/* Take the key in this slot out of the hash if it may go, and own the slot. `idle_at`: values up to it are over. */
INLINE int netc_retire(void *map, struct ring *ring, u64 slot, u64 size, u64 idle_at, int is_set, int force)
{
    struct address old;
    struct member *m;

    OPAQUE(slot);
    if (slot >= size || !netc_claim(ring, slot, &old))
        return 0;
    m = bpf_map_lookup_elem(map, &old);
    if (m) {
        int goes = force || netc_over(*(volatile u64 *)&m->value, idle_at, is_set);
        if (goes && is_set)
            goes = netc_doom(m, idle_at, force);
        if (!goes) {
            netc_publish(ring, slot, &old);
            return 0;
        }
        bpf_map_delete_elem(map, &old);
    }
    return 1;
}

/* A slot for a new key, the caller's: room, a slot that was given back, or the hand. From `size` on: there is none. */
INLINE u64 netc_place(void *map, struct ring *ring, u64 size, u64 idle_at, int is_set, int evict, int *done)
{
    u64 slot;
    u32 i;

    if (*(volatile u64 *)&ring->count < size) {
        slot = __sync_fetch_and_add(&ring->count, 1);
        if (slot < size)
            return slot;
    }
    slot = netc_pop(ring, size);
    if (slot < size)
        return slot;
#pragma clang loop unroll(disable)
    for (i = 0; i < 4; i++) {
        slot = __sync_fetch_and_add(&ring->hand, 1) % size;
        if (netc_retire(map, ring, slot, size, idle_at, is_set, 0))
            return slot;
    }
    if (!evict)
        return size;
    slot = __sync_fetch_and_add(&ring->hand, 1) % size;
    if (!netc_retire(map, ring, slot, size, idle_at, is_set, 1))
        return size;
    *done = EVICTED;
    return slot;
}

/* A key that is not in the table. `m`: the value it begins with; its slot is filled in here. */
INLINE int netc_insert(void *map, struct ring *ring, u64 size, struct address *key, struct member *m, u64 idle_at, int is_set, int evict)
{
    int done = INSERTED;
    u64 slot = netc_place(map, ring, size, idle_at, is_set, evict, &done);

    OPAQUE(slot);
    if (slot >= size)
        return FULL;
    m->slot = slot;
    if (bpf_map_update_elem(map, key, m, BPF_NOEXIST)) {
        netc_push(ring, slot, size);
        return bpf_map_lookup_elem(map, key) ? EXISTS : FULL;
    }
    netc_publish(ring, slot, key);
    return done;
}

/* A limit with a bucket for each key. `shared` serves keys that found no room. */
INLINE int netc_conforms_keyed(void *map, struct ring *ring, u64 size, struct address *key, u64 *shared, u64 now, u64 interval, u64 depth)
{
    u64 *bucket = bpf_map_lookup_elem(map, key);

    if (!bucket) {
        struct member first = {now + interval, 0, 0};
        int done = netc_insert(map, ring, size, key, &first, now, 0, 0);
        if (done == INSERTED)
            return 1;
        if (done == EXISTS)
            bucket = bpf_map_lookup_elem(map, key);
    }
    return netc_conforms(bucket ? bucket : shared, now, interval, depth);
}

INLINE int netc_live(void *map, volatile struct address *key, u64 now, u64 number)
{
    struct member *m = bpf_map_lookup_elem(map, (void *)key);
    if (!m || netc_over(*(volatile u64 *)&m->value, now, 1))
        return 0;
    return netc_in_change(*(volatile u64 *)&m->change, number);
}

/* Add a member to a dynamic set; what netc_insert says, EXISTS for a live one. */
INLINE int netc_add(void *map, struct ring *ring, u64 size, volatile struct address *from, u64 expiry, u64 now, u64 number, int renew, int evict)
{
    struct member fresh = {expiry, 0, 0}, *m;
    struct address key;
    u64 change = 0;
    int done;

    key.family = from->family;
    key.word[0] = from->word[0];
    key.word[1] = from->word[1];
    key.word[2] = from->word[2];
    key.word[3] = from->word[3];
    m = bpf_map_lookup_elem(map, &key);
    if (m) {
        change = *(volatile u64 *)&m->change;
        if (change != DEAD) {
            int belongs = netc_in_change(change, number);
            if (belongs && !renew && !netc_over(*(volatile u64 *)&m->value, now, 1))
                return EXISTS;
            *(volatile u64 *)&m->value = expiry;
            if (belongs && change)
                return EXISTS;                      /* a change by hand takes it out later, as a whole */
            change = __sync_val_compare_and_swap(&m->change, change, 0);
            if (change != DEAD)
                return EXISTS;
        }
    }
    done = netc_insert(map, ring, size, &key, &fresh, now, 1, evict);
    return done == EXISTS && change == DEAD ? FULL : done;   /* taken out while it was added: counted, not silent */
}
