/* What every netc program shares. packet.h is the packet as rules see it, parser.h fills it, state.h is what lives between packets.
 *
 * The text in front of this file defines KIND_* and HAVE_* (one bit each, from compiler/ir.py), READS_* (1 where this program reads the
 * field, from compiler/targets/c_fields.py), CPU_MAX, SCRATCH_SIZE, COUNTER_SLOTS, BUCKET_SLOTS.
 * What was parsed lives in map memory and is read back through volatile pointers: values in registers would make the verifier follow
 * every rule's outcome into every later rule (a million instructions at fifty rules); memory keeps its work linear.
 */
#define MAP(id) ((void *)bpf_pseudo_fd(1, (id)))
#define VALUE(id) ((void *)bpf_pseudo_fd(2, (id)))
#define INLINE static inline __attribute__((always_inline))
#define NONE 0xffffffffu
#define BE16(at) ((u32)__builtin_bswap16(*(const u16 *)(at)))
#define NET16(x) ((u16)((x) << 8 | (x) >> 8))           /* a constant as it stands in the packet */
/* An opaque copy: the compiler must not drop the bounds check that the verifier wants to see. */
#define OPAQUE(x) asm volatile("" : "+r"(x))

struct address { u32 family; u32 word[4]; };       /* 4, 6 or 0 (absent); network byte order, IPv4 in word[0] */
struct trie_key { u32 prefix; struct address at; };
struct bytes16 { u32 word[4]; };

#define CONTROL(p) ((p)->kinds & (KIND_arp | KIND_nd | KIND_mld | KIND_l2))
