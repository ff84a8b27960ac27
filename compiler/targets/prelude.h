/* What every netc program shares: the packet as rules see it. parser.h fills it, state.h is what lives between packets.
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

struct packet {
    u32 judged, steered;                            /* indices of the counters; the runtime reads these two */
    u32 kinds, have, handed;
    u64 now;                                        /* ns */
    struct trie_key src, dst;
    u64 src_hi, src_lo, dst_hi, dst_lo;             /* host order; IPv4 in lo */
    u64 eth_src, eth_dst;
    u32 bytes, length, layer3, at, end, next;            /* at: of the transport header; end: of layer 3 */
    u16 ethertype, vlan, vlan_inner, proto, dscp, ttl, sport, dport, tcp_flags, icmp_type, icmp_code, tos;
    u64 change;                                     /* of sets by hand, the last one done when the packet came (keyed.h) */
    u32 row[8];                                     /* where each group's row begins in the tables (compiler.classify) */
    u32 found, half, entry;                         /* the record found there; what changed since then (changes.h) */
};
typedef volatile struct packet packet_t;

#define CONTROL(p) ((p)->kinds & (KIND_arp | KIND_nd | KIND_mld | KIND_l2))
