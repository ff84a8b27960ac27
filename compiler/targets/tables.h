/* Look-ups in the arena of compiler.classify.tables. After prelude.h; the text in front defines ARENA_SIZE, and struct entry of tries.
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

/* The class of an address: 16 bits, then a byte a step, until a leaf. */
INLINE u32 netc_class4(u8 *arena, u32 root, u32 chunks, u32 address)
{
    u32 entry = ENTRY(root, address >> 16);

    if (!(entry & LEAF)) {
        entry = ENTRY(chunks, entry << 8 | (address >> 8 & 0xff));
        if (!(entry & LEAF))
            entry = ENTRY(chunks, entry << 8 | (address & 0xff));
    }
    return entry & (LEAF - 1);
}

INLINE u32 netc_class6(u8 *arena, u32 root, u32 chunks, u64 high, u64 low)
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
