/* The packet as it was parsed, on the stack of a program that a NIC runs: no memory of a NIC's is one core's alone.
 *
 * What is stored in an aligned word of the stack the verifier knows again, and would follow every rule's outcome into every later rule; of
 * what lies beside the beginning of such a word it knows nothing, which is as good as map memory (prelude.h). So each field lies there, and all
 * of it is written once before the packet is read: what is absent is read, too, and not believed.
 */
typedef u64 u64_beside __attribute__((aligned(4)));

struct packet {
    u32 judged, steered;                            /* written as one word; read by nobody here */
    u32 b0, kinds, b1, have, b2, handed, b3, bytes, b4, length, b5, layer3, b6, at, b7, end, b8, next;
    struct trie_key src, dst;                       /* the family is the second half of a word */
    u32 b9;
    u64_beside src_hi, src_lo, dst_hi, dst_lo, eth_src, eth_dst;    /* in two halves */
    u32 b10;
    u16 b11, ethertype, vlan, vlan_inner, b12, proto, dscp, ttl, b13, sport, dport, tcp_flags, b14, icmp_type, icmp_code, tos;
} __attribute__((aligned(8)));
typedef volatile struct packet packet_t;
