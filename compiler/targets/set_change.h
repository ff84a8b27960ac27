/* The program by which `netc set` changes a dynamic set: a test run does one entry of a batch, or sweeps one slot. After keyed.h.
 *
 * It is the same for every set: SET, RING and BATCH are symbolic maps, SIZE a number that the loader puts in (compiler/tables/set_change.py).
 */
#define SET 1
#define RING 2
#define BATCH 3
#define BATCH_ENTRIES 4096
#define OP_ADD 1                                    /* becomes a member with the change */
#define OP_DELETE 2                                 /* stops being one with the change */
#define OP_SETTLE 3                                 /* the change holds: an ordinary member, or out of the hash */
#define OP_UNDO 4                                   /* the change never was */
#define OP_SWEEP 5                                  /* the slot under `next`: give back what has expired */
#define RENEW 1
#define EVICT 2
enum { NOT_DONE, ADDED, LIVE, NO_ROOM, MADE_ROOM, ABSENT, LEAVES, BUSY, TWICE, DONE };

struct entry { struct address key; u32 flags; u64 expiry, result; };
struct batch { u64 next, count, op, now, number, freed; struct entry entry[BATCH_ENTRIES]; };

/* A slot's key goes: hash, then slot. `was`: the member's change, by which nobody else has changed it meanwhile. */
INLINE int netc_take_out(void *map, struct ring *ring, u64 size, struct address *key, u64 slot, u64 was)
{
    struct address held;
    struct member *m;
    int mine;

    OPAQUE(slot);
    if (slot >= size || !netc_claim(ring, slot, &held))
        return BUSY;
    m = bpf_map_lookup_elem(map, key);              /* again: only now it cannot be taken out by others */
    mine = held.family == key->family && held.word[0] == key->word[0] && held.word[1] == key->word[1] && held.word[2] == key->word[2];
    if (!m || !mine || held.word[3] != key->word[3] || __sync_val_compare_and_swap(&m->change, was, DEAD) != was) {
        netc_publish(ring, slot, &held);
        return BUSY;
    }
    bpf_map_delete_elem(map, key);
    netc_push(ring, slot, size);
    return DONE;
}

INLINE int netc_stage_add(void *map, struct ring *ring, u64 size, struct entry *e, struct address *key, u64 now, u64 number)
{
    struct member fresh = {e->expiry, COMING(number), 0}, *m = bpf_map_lookup_elem(map, key);
    u64 change;
    int done;

    if (!m) {
        done = netc_insert(map, ring, size, key, &fresh, now, 1, e->flags & EVICT);
        return done == INSERTED ? ADDED : done == EVICTED ? MADE_ROOM : done == EXISTS ? BUSY : NO_ROOM;
    }
    change = *(volatile u64 *)&m->change;
    if (change == DEAD)
        return BUSY;
    if (change == COMING(number))
        return TWICE;
    if (!netc_over(*(volatile u64 *)&m->value, now, 1))
        return LIVE;
    if (__sync_val_compare_and_swap(&m->change, change, COMING(number)) != change)
        return BUSY;
    *(volatile u64 *)&m->value = e->expiry;
    return __sync_val_compare_and_swap(&m->change, COMING(number), COMING(number)) == DEAD ? BUSY : ADDED;
}

INLINE int netc_stage_delete(void *map, struct address *key, u64 now, u64 number)
{
    struct member *m = bpf_map_lookup_elem(map, key);
    u64 change;

    if (!m || netc_over(*(volatile u64 *)&m->value, now, 1))
        return ABSENT;
    change = *(volatile u64 *)&m->change;
    if (change == LEAVING(number))
        return TWICE;
    return change == DEAD || __sync_val_compare_and_swap(&m->change, change, LEAVING(number)) != change ? BUSY : LEAVES;
}

/* `goes`: of this number, the one that is taken out; the other becomes an ordinary member. */
INLINE int netc_end(void *map, struct ring *ring, u64 size, struct entry *e, struct address *key, u64 goes, u64 stays)
{
    struct member *m = bpf_map_lookup_elem(map, key);
    u64 change;

    if (!m)
        return DONE;
    change = *(volatile u64 *)&m->change;
    if (change == goes)
        return netc_take_out(map, ring, size, key, m->slot, goes);
    if (change == stays)
        __sync_val_compare_and_swap(&m->change, stays, 0);
    if (e->flags & RENEW)
        *(volatile u64 *)&m->value = e->expiry;
    return DONE;
}

INLINE int netc_do(struct batch *b, struct entry *e, u64 size)
{
    void *map = MAP(SET);
    struct ring *ring = VALUE(RING);
    struct address key = e->key;
    u64 number = b->number, op = b->op;

    if (op == OP_ADD)
        return netc_stage_add(map, ring, size, e, &key, b->now, number);
    if (op == OP_DELETE)
        return netc_stage_delete(map, &key, b->now, number);
    if (op == OP_SETTLE)
        return netc_end(map, ring, size, e, &key, LEAVING(number), COMING(number));
    return netc_end(map, ring, size, e, &key, COMING(number), LEAVING(number));
}
