#version 460
// g = s dh u silu'(g), u = s dh silu(g), h = s silu(g) u, with s = 1, or (WEIGHTED) the routing weight of the grouped
// row, weights[source / K][source % K]; then also dots = sum(silu(g) u dh), and rows from offsets[experts] on are left
// alone.  dh, g, u, h [rows, cols], weights [T, K], source, dots [rows], offsets [experts + 1].
// Grid: groups x 1 x 1, one work-group per row, striding.
#extension GL_GOOGLE_include_directive : require
#define XFT_WG_REDUCE
#include "xft.glsl"
#include "math.glsl"
layout(constant_id = 1) const uint DT_DH = 0;
layout(constant_id = 2) const uint DT_G = 0;
layout(constant_id = 3) const uint DT_H = 0;
layout(constant_id = 4) const uint WEIGHTED = 0;
layout(push_constant, scalar) uniform Args {
    RO dh; RO weights; RO source; RO offsets; RW g; RW u; RW h; RW dots; xft_swiglu_backward_params p;
};

void main() {
    uint end = p.rows;
    if (WEIGHTED != 0u) end = min(end, LOADU(offsets, p.experts));
    for (uint row = GROUP_X; row < end; row += p.groups) {
        float scale = 1.0;
        if (WEIGHTED != 0u) {
            uint at = LOADU(source, row);
            scale = AS_FLOAT(LOADU(weights, at / p.top_k * p.ld_weights + at % p.top_k));
        }
        vec4 s = vec4(0.0);
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 a = TAKE4(g, row * p.ld_g + c, DT_G), b = TAKE4(u, row * p.ld_u + c, DT_G);
            vec4 d = LOAD4(dh, row * p.ld_dh + c, DT_DH), e = sigmoid4(a), f = a * e;
            if (WEIGHTED != 0u) s += KEEP4(f * b * d, p.cols - c);
            d *= scale;
            STORE4(g, row * p.ld_g + c, d * b * e * (1.0 + a * (1.0 - e)), DT_G);
            STORE4(u, row * p.ld_u + c, d * f, DT_G);
            if (p.store_h != 0u) STORE4(h, row * p.ld_h + c, scale * f * b, DT_H);
        }
        if (WEIGHTED != 0u) {
            float dot_ = WG_SUM(s.x + s.y + s.z + s.w);
            if (LOCAL_ID == 0u) STORE1(dots, row, dot_);
        }
    }
}
