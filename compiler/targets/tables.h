/* Look-ups in the arena of compiler.classify.tables. After prelude.h; the text in front defines ARENA_SIZE, TABLE, RUN and RUN_BITS.
 *
 * Offsets are bytes and come from the root; the mask is for the verifier alone, since every offset that the compiler writes lies inside.
 * GONE(record): 1 when the rule of a record is no longer there (changes.h), 0 where no rule can go.
 */
#define AT8(at) (*(u8 *)(arena + ((at) & (ARENA_SIZE - 1))))
#define AT16(at) (*(u16 *)(arena + ((at) & (ARENA_SIZE - 2))))
#define AT32(at) (*(u32 *)(arena + ((at) & (ARENA_SIZE - 4))))
#define AT64(at) (*(u64 *)(arena + ((at) & (ARENA_SIZE - 8))))
/* a < b without a branch: the borrow of a - b. */
INLINE u32 netc_less(u64 a, u64 b)
{
    return ((~a & b) | (~(a ^ b) & (a - b))) >> 63;
}

#define RUN_FIRST(entry) ((entry) & ((1u << RUN_BITS) - 1))
#define RUN_LEFT(entry) ((entry) >> RUN_BITS & 0x3f)

/* values, wide: known when compiled. */
#define VALUE_OF(at) (!values ? (at) : wide ? AT32(values + (at) * 4) : AT16(values + (at) * 2))

/* Runs are searched without branches, which the verifier would follow both ways; `over`: the middle does not begin behind the address.
 * The leaf of an IPv4 address, or in a run its interval: then `values` tells (0: the interval itself). base: the number of IPv4's first interval. */
INLINE u32 netc_leaf4(u8 *arena, u32 root, u32 tables, u32 lower, u32 values, u32 wide, u32 base, u32 address)
{
    u32 entry = AT32(root + (address >> 16) * 4), from, left, i;
    u64 wanted = address & 0xffff;

    if (entry & TABLE) {
        entry = AT32(tables + ((entry & ~TABLE) + (address >> 8 & 0xff)) * 4);
        if (entry & TABLE)
            entry = AT32(tables + ((entry & ~TABLE) + (address & 0xff)) * 4);
    }
    if (!(entry & RUN))
        return entry;
    from = RUN_FIRST(entry);
    left = RUN_LEFT(entry);
#pragma clang loop unroll(disable)
    for (i = 0; i < 6; i++) {
        u32 half = left >> 1, over;
        if (!left)
            break;
        over = (AT16(lower + (from + half) * 2) - wanted - 1) >> 63;
        from += (half + 1) & -over;
        left = half - (over & ~left & 1);
    }
    from += base - 1;
    return VALUE_OF(from);
}

/* lows: 0 where no interval begins within a /64. */
INLINE u32 netc_leaf6(u8 *arena, u32 root, u32 tables, u32 highs, u32 lows, u32 values, u32 wide, u64 high, u64 low)
{
    u32 entry = AT32(root + (u32)(high >> 48) * 4), from, left, i;
    u64 rest = high << 16;

#pragma clang loop unroll(disable)
    for (i = 2; i < 16; i++) {
        if (!(entry & TABLE))
            break;
        if (i == 8)
            rest = low;
        entry = AT32(tables + ((entry & ~TABLE) + (u32)(rest >> 56)) * 4);
        rest <<= 8;
    }
    if (!(entry & RUN))
        return entry;
    from = RUN_FIRST(entry);
    left = RUN_LEFT(entry);
#pragma clang loop unroll(disable)
    for (i = 0; i < 6; i++) {
        u32 half = left >> 1, over;
        u64 key;
        if (!left)
            break;
        key = AT64(highs + (from + half) * 8);
        over = 1 - netc_less(high, key);
        if (lows)                                   /* known when compiled */
            over &= 1 - ((1 - netc_less(key, high)) & netc_less(low, AT64(lows + (from + half) * 8)));
        from += (half + 1) & -over;
        left = half - (over & ~left & 1);
    }
    from -= 1;
    return VALUE_OF(from);
}

/* The number of the lowest bit; `bits` is not zero. */
INLINE u32 netc_lowest(u8 *arena, u64 bits)
{
    return AT8((bits & -bits) * 0x03f79d71b4cb0a89ULL >> 58);
}

/* A list of terms filed under one side's address: the first whose other address and service fit, unless `found` stands before it.
 * What is found goes through memory, so that the verifier walks what follows once and not once for each place in the list.
 * Entries: record, the other side's first interval, how many follow, the combination of the service (compiler.classify.buckets).
 */
#define FILED(found, list, first, other, service, most) do { \
    u32 netc_n = (u32)((list) >> 32) & 0xffff, netc_at = (first) + (u32)(list) * 16, netc_i; \
    p->found = (found); \
    _Pragma("clang loop unroll(disable)") \
    for (netc_i = 0; netc_i < (most); netc_i++) { \
        u64 netc_head, netc_tail; \
        if (netc_i >= netc_n) \
            break; \
        netc_head = AT64(netc_at); \
        netc_tail = AT64(netc_at + 8); \
        netc_at += 16; \
        if ((u32)netc_head > (found)) \
            break; \
        if ((other) - (u32)(netc_head >> 32) > (u32)netc_tail) \
            continue; \
        if (AT8((service) + (u32)(netc_tail >> 35)) >> (netc_tail >> 32 & 7) & 1 & ~GONE((u32)netc_head)) { \
            p->found = (u32)netc_head; \
            break; \
        } \
    } \
    (found) = p->found; \
} while (0)
