/* What only a program has that a NIC runs. After parser.h.
 *
 * It drops and counts what the policy surely drops; everything else goes on to the host, which judges the whole policy. One array of
 * counters: where each lies in it stands in the program's text, since not every NIC takes a variable offset (nfp).
 */
#define ON_NIC_LENGTH(ctx) ((u32)((u8 *)(long)(ctx)->data_end - (u8 *)(long)(ctx)->data))

/* Nothing that the verifier could remember: it does not know how long the frame is. */
INLINE void netc_fill(packet_t *p, u32 with)
{
    volatile u32 *word = (volatile u32 *)p;
    u32 i;
#pragma clang loop unroll(full)
    for (i = 0; i < sizeof(struct packet) / 4; i++)
        word[i] = with;
}

/* Cores of a NIC count into the same place. What cannot be counted is not dropped here: the host does both. */
INLINE int netc_drop(void *counters, u32 element, u32 pair, u64 bytes)
{
    u64 *counted = bpf_map_lookup_elem(counters, &element);

    if (!counted)
        return XDP_PASS;
    __sync_fetch_and_add(counted + 2 * pair, 1);
    __sync_fetch_and_add(counted + 2 * pair + 1, bytes);
    return XDP_DROP;
}
