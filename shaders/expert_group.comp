#version 460
// Sorts (token, slot) pairs by expert, an expert's rows in order of tokens, from the counts of expert_count.comp.
//     offsets[e] = rows of the experts below e
//     row of (t, slot) that goes to expert e = offsets[e] + tokens below t that go to e
//     source[row] = t K + slot, inverse[t][slot] = row; NONE for rows from offsets[E] on, and for tokens without picks
//     used[e] = 1 for experts with rows, when the step block's marks_used is set
// picks [T,k], counts [C,E], offsets [E+1], source [R], inverse [T,K], used [E]. Slot 0 is the shared expert, if
// there is one. Grid: C x 1 x 1; group c places the tokens of the c-th stretch, tile by tile through shared memory.
// WG/E lanes share an expert: each takes a part of the tile, and starts behind what the parts before it hold. No
// atomics: the order is fixed.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(push_constant, scalar) uniform Args {
    RO picks; RO counts; RO step_block; RW offsets; RW source; RW inverse_rows; RW used; xft_expert_group_params p;
};
const uint TILE = 1024u;                                   // pairs
shared uint experts_of[TILE], found[gl_WorkGroupSize.x], earlier[gl_WorkGroupSize.x], totals[64], starts[65];

void main() {
    const uint E = p.experts, K = p.picks + p.shared_experts;
    const uint parts = WG / E, e = LOCAL_ID / parts, part = LOCAL_ID - e * parts, mates = e * parts;
    const uint begin = GROUP_X * p.stretch, end = min(begin + p.stretch, p.tokens);

    uint all = 0u, before = 0u;
    for (uint c = part; c < p.chunks && e < E; c += parts) {
        const uint n = LOADU(counts, c * p.ld_counts + e);
        all += n;
        before += c < GROUP_X ? n : 0u;
    }
    found[LOCAL_ID] = all;
    earlier[LOCAL_ID] = before;
    barrier();
    if (part == 0u && e < E) {
        for (uint i = 1u; i < parts; i++) { all += found[mates + i]; before += earlier[mates + i]; }
        totals[e] = all;
        starts[e] = before;
        if (GROUP_X == 0u && p.marks != 0u && all > 0u && LOADU(step_block, 7) != 0u) STOREU(used, e, 1u);
    }
    barrier();
    for (uint i = LOCAL_ID; i <= E; i += WG) {
        uint at = 0u;
        for (uint j = 0u; j < i; j++) at += totals[j];
        if (GROUP_X == 0u) STOREU(offsets, i, at);
        starts[i] = i < E ? at + starts[i] : at;
    }
    barrier();
    for (uint r = starts[E] + GROUP_X * WG + LOCAL_ID; r < p.tokens * K; r += p.chunks * WG) STOREU(source, r, NONE);

    const uint tile = TILE / K;
    for (uint first = begin; first < end; first += tile) {
        const uint pairs = min(tile, end - first) * K;
        for (uint i = LOCAL_ID; i < pairs; i += WG) {
            const uint token = first + i / K, j = i % K;
            const uint pick = LOADU(picks, token * p.ld_picks + (j == 0u ? 0u : j - p.shared_experts));
            experts_of[i] = pick == NONE ? NONE : j < p.shared_experts ? 0u : pick + p.shared_experts;
            if (pick == NONE) STOREU(inverse_rows, token * p.ld_inverse + j, NONE);
        }
        barrier();
        const uint share = (pairs + parts - 1u) / parts, from = min(part * share, pairs), to = min(from + share, pairs);
        uint n = 0u;
        for (uint i = from; i < to && e < E; i++) n += experts_of[i] == e ? 1u : 0u;
        found[LOCAL_ID] = n;
        barrier();
        uint at = e < E ? starts[e] : 0u;
        for (uint i = 0u; i < part && e < E; i++) at += found[mates + i];
        for (uint i = from; i < to && e < E; i++) {
            if (experts_of[i] != e) continue;
            STOREU(source, at, first * K + i);
            STOREU(inverse_rows, (first + i / K) * p.ld_inverse + i % K, at);
            at++;
        }
        barrier();
        if (part == parts - 1u && e < E) starts[e] = at;
    }
}
