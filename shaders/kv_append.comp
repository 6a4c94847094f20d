#version 460
// k_cache[b, lengths[b] + i, :] = k[b * new_tokens + i, :], v likewise; rows beyond the capacity are dropped.
// k, v [rows, cols], lengths u32 [rows / new_tokens], caches [sequences, capacity, cols]. Grid: groups x 1 x 1, a
// work-group takes every groups-th row. Quads may run into the padding of a row.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_K = 0;
layout(constant_id = 2) const uint DT_CACHE = 0;
layout(push_constant, scalar) uniform Args { RO k; RO v; RO lengths; RW k_cache; RW v_cache; xft_kv_append_params p; };

void main() {
    for (uint row = GROUP_X; row < p.rows; row += p.groups) {
        uint b = row / p.new_tokens, at = LOADU(lengths, b) + row % p.new_tokens, to = b * p.capacity + at;
        if (at >= p.capacity) continue;
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            STORE4(k_cache, to * p.ld_k_cache + c, LOAD4(k, row * p.ld_k + c, DT_K), DT_CACHE);
            STORE4(v_cache, to * p.ld_v_cache + c, LOAD4(v, row * p.ld_v + c, DT_K), DT_CACHE);
        }
    }
}
