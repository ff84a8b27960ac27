/* Rules that changed since the tables were built (compiler.tables.changes has the layout). After prelude.h; the text in front defines
 * CHANGES_SIZE, HALVES_AT, HALF, DEAD_AT, DEAD_SIZE, ROWS_AT, ENTRIES_AT, ENTRY and MOST_CHANGES.
 *
 * The half is chosen once a packet. The masks are for the verifier alone; tests are added up without branches, which it would follow both ways.
 */
#define CH32(at) (*(u32 *)(changes + ((at) & (CHANGES_SIZE - 4))))
#define CH64(at) (*(u64 *)(changes + ((at) & (CHANGES_SIZE - 8))))
/* 1 when the rule of a record is gone. */
#define RULE_GONE(record) (gone[(record) >> 4 & (DEAD_SIZE - 1)] >> ((record) >> 1 & 7) & 1)

/* Where the half in force begins: 0 or 1 times HALF, which a pointer takes without a mask. */
INLINE u32 netc_changes_half(void *changes)
{
    return (*(volatile u32 *)changes & 1) * HALF;
}

/* a < b, of 128 bits each. */
INLINE u64 netc_below(u64 a_hi, u64 a_lo, u64 b_hi, u64 b_lo)
{
    u64 less = ((~a_hi & b_hi) | (~(a_hi ^ b_hi) & (a_hi - b_hi))) >> 63, more = ((~b_hi & a_hi) | (~(b_hi ^ a_hi) & (b_hi - a_hi))) >> 63;
    u64 lower = ((~a_lo & b_lo) | (~(a_lo ^ b_lo) & (a_lo - b_lo))) >> 63;

    return less | (~more & lower & 1);
}

/* 0 when the address fits the four words at `at`; IPv4 has no upper half. */
INLINE u64 netc_outside(u8 *changes, u32 at, u32 family, u64 hi, u64 lo)
{
    hi &= -(u64)(family >> 1 & 1);
    return netc_below(hi, lo, CH64(at), CH64(at + 8)) | netc_below(CH64(at + 16), CH64(at + 24), hi, lo);
}

/* 0 when a field of a packet that has it, or nothing asked for it, fits low and span at `at`. */
INLINE u64 netc_unfit(u8 *changes, u32 at, u64 asked, u64 there, u32 value)
{
    u64 beyond = (u64)CH32(at + 4) - (u64)(u32)(value - CH32(at));

    return asked & ((~there & 1) | beyond >> 63);
}

/* The same of bits: 0 when those of the word at `at + 4` are as in the word at `at`. */
INLINE u64 netc_unlike(u8 *changes, u32 at, u64 asked, u64 there, u32 value)
{
    u64 other = (value ^ CH32(at)) & CH32(at + 4);

    return asked & ((~there & 1) | -other >> 63);
}
