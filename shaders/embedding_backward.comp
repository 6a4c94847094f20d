#version 460
// dw[v] += sum over the t with ids[t] = v of dy[t].  ids [rows], dy [rows, cols], dw [vocabulary, cols].
// Grid: groups x 1 x 1 over the tokens. Without atomics: the work-group of a token goes on only if no earlier token
// has the
// same id; it then looks through the later ones and adds their rows upwards, so every row of dw has one owner and one
// order,
// and is rounded once. The search reads the ids four at a time, the same for all invocations of a group.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_DY = 0;
layout(constant_id = 2) const uint DT_DW = 0;
layout(push_constant, scalar) uniform Args { RO ids; RO dy; RW dw; xft_embedding_backward_params p; };
shared vec4 sum[512];

void main() {
    for (uint t = GROUP_X; t < p.rows; t += p.groups) {
        uint id = LOADU(ids, t);
        bool first = id < p.vocabulary && id != p.skip_id;
        for (uint i = 0u; first && i < t; i += 4u) {
            uvec4 q = LOADU4(ids, i);
            first = !(q.x == id || (q.y == id && i + 1u < t) || (q.z == id && i + 2u < t) || (q.w == id && i + 3u < t));
        }
        // Sums of up to 2048 columns stand in shared memory; each invocation sees only its own.
        for (uint begin = 0u; first && begin < p.cols; begin += 2048u) {
            uint width = min(p.cols - begin, 2048u);
            for (uint c = 4u * LOCAL_ID; c < width; c += 4u * WG) sum[c >> 2] = LOAD4(dy, t * p.ld_dy + begin + c, DT_DY);
            for (uint i = t + 1u; i < p.rows; i++) {
                if ((i & 3u) == 0u) {
                    uvec4 q = LOADU4(ids, i);
                    if (q.x != id && q.y != id && q.z != id && q.w != id) {
                        i += 3u;
                        continue;
                    }
                }
                if (LOADU(ids, i) != id) continue;
                for (uint c = 4u * LOCAL_ID; c < width; c += 4u * WG)
                    sum[c >> 2] += LOAD4(dy, i * p.ld_dy + begin + c, DT_DY);
            }
            for (uint c = 4u * LOCAL_ID; c < width; c += 4u * WG) {
                uint at = id * p.ld_dw + begin + c;
                STORE4(dw, at, TAKE4(dw, at, DT_DW) + sum[c >> 2], DT_DW);
            }
        }
    }
}
