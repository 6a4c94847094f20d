#version 460
// dw[v] += sum over the t with ids[t] = v of dy[t].  ids [rows], dy [rows, cols], dw [vocabulary, cols].
// Grid: groups x 1 x 1 over the tokens. Without atomics: the work-group of a token goes on only if no earlier token has
// the same id; it then finds the later ones, one after the other, and adds their rows, so every row of dw has one owner
// and one order, and is rounded once. For a search every invocation looks at its share of the ids, four at a time.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_DY = 0;
layout(constant_id = 2) const uint DT_DW = 0;
layout(push_constant, scalar) uniform Args { RO ids; RO dy; RW dw; xft_embedding_backward_params p; };
shared vec4 sum[512];    // of up to 2048 columns; an invocation sees only its own
shared uint nearest[WG];

// The first i in [begin, end) with ids[i] = id, the same for all; NONE if there is none or `wanted` is false. Every
// invocation must call.
uint find(uint id, uint begin, uint end, bool wanted) {
    uint found = NONE;
    for (uint i = (begin & ~3u) + 4u * LOCAL_ID; wanted && found == NONE && i < end; i += 4u * WG) {
        uvec4 q = LOADU4(ids, i);
        if (q.w == id && i + 3u >= begin && i + 3u < end) found = i + 3u;
        if (q.z == id && i + 2u >= begin && i + 2u < end) found = i + 2u;
        if (q.y == id && i + 1u >= begin && i + 1u < end) found = i + 1u;
        if (q.x == id && i >= begin) found = i;
    }
    nearest[LOCAL_ID] = found;
    barrier();
    for (uint s = WG / 2u; s > 0u; s >>= 1) {
        if (LOCAL_ID < s) nearest[LOCAL_ID] = min(nearest[LOCAL_ID], nearest[LOCAL_ID + s]);
        barrier();
    }
    found = nearest[0];
    barrier();
    return found;
}

void main() {
    for (uint t = GROUP_X; t < p.rows; t += p.groups) {
        uint id = LOADU(ids, t);
        bool counts = id < p.vocabulary && id != p.skip_id;
        counts = find(id, 0u, t, counts) == NONE && counts;
        for (uint begin = 0u; counts && begin < p.cols; begin += 2048u) {
            uint width = min(p.cols - begin, 2048u);
            for (uint c = 4u * LOCAL_ID; c < width; c += 4u * WG)
                sum[c >> 2] = LOAD4(dy, t * p.ld_dy + begin + c, DT_DY);
            for (uint i = find(id, t + 1u, p.rows, true); i != NONE; i = find(id, i + 1u, p.rows, true))
                for (uint c = 4u * LOCAL_ID; c < width; c += 4u * WG)
                    sum[c >> 2] += LOAD4(dy, i * p.ld_dy + begin + c, DT_DY);
            for (uint c = 4u * LOCAL_ID; c < width; c += 4u * WG) {
                uint at = id * p.ld_dw + begin + c;
                STORE4(dw, at, TAKE4(dw, at, DT_DW) + sum[c >> 2], DT_DW);
            }
        }
    }
}
