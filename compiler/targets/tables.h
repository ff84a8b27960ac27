/* Look-ups in the arena of compiler.classify.tables. After prelude.h; the text in front defines ARENA_SIZE and SHORT_ENTRIES.
 *
 * Offsets are bytes and come from the root; the mask is for the verifier alone, since every offset that the compiler writes lies inside.
 */
#define AT8(at) (*(u8 *)(arena + ((at) & (ARENA_SIZE - 1))))
#define AT16(at) (*(u16 *)(arena + ((at) & (ARENA_SIZE - 2))))
#define AT32(at) (*(u32 *)(arena + ((at) & (ARENA_SIZE - 4))))
#define AT64(at) (*(u64 *)(arena + ((at) & (ARENA_SIZE - 8))))
#if SHORT_ENTRIES
#define ENTRY(base, number) AT16((base) + (number) * 2)
#define LEAF 0x8000u
#else
#define ENTRY(base, number) AT32((base) + (number) * 4)
#define LEAF 0x80000000u
#endif

/* The interval of an IPv4 address, counted from 1: a search without branches among those that begin with its upper 16 bits. */
INLINE u32 netc_interval4(u8 *arena, u32 begins, u32 lower, u32 address)
{
    u32 at = begins + (address >> 16) * 4, from = AT32(at), left = AT32(at + 4) - from, i;
    u64 wanted = address & 0xffff;

#pragma clang loop unroll(disable)
    for (i = 0; i < 17; i++) {
        u32 half = left >> 1, over;
        if (!left)
            break;
        over = (AT16(lower + (from + half) * 2) - wanted - 1) >> 63;
        from += (half + 1) & -over;
        left = half - (over & ~left & 1);
    }
    return from;
}

/* The interval of an IPv6 address, counted from 0: 16 bits, then a byte a step. */
INLINE u32 netc_interval6(u8 *arena, u32 root, u32 chunks, u64 high, u64 low)
{
    u32 entry = ENTRY(root, (u32)(high >> 48)), i;

    high <<= 16;
#pragma clang loop unroll(disable)
    for (i = 2; i < 16; i++) {
        if (entry & LEAF)
            break;
        if (i == 8)
            high = low;
        entry = ENTRY(chunks, entry << 8 | (u32)(high >> 56));
        high <<= 8;
    }
    return entry & (LEAF - 1);
}

/* The number of the lowest bit; `bits` is not zero. */
INLINE u32 netc_lowest(u8 *arena, u64 bits)
{
    return AT8((bits & -bits) * 0x03f79d71b4cb0a89ULL >> 58);
}

/* A list of terms filed under one side's address: the first whose other address and service fit, unless `found` stands before it.
 * Entries: record, the other side's first interval, how many follow, the combination of the service (compiler.classify.buckets).
 */
#define FILED(found, list, first, other, service, most) do { \
    u32 netc_n = (u32)((list) >> 32) & 0xffff, netc_at = (first) + (u32)(list) * 16, netc_i; \
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
        if (AT8((service) + (u32)(netc_tail >> 35)) >> (netc_tail >> 32 & 7) & 1) { \
            (found) = (u32)netc_head; \
            break; \
        } \
    } \
} while (0)
