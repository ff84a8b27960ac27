/* The packet as it was parsed, in a host's map memory (see prelude.h). stack_packet.h is the other layout of the same. */
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
