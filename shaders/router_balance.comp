#version 460
// Balance loss and its coefficients (xft.md sections 3 and 4) from the partial sums of router_stats.comp.
//     stats = sum of partial;  cv2(v) = var(v) / D, D = mean(v)^2 + 1e-10, var unbiased; 0 when E' = 1
//     loss += balance_scale weight (cv2(importance) + cv2(load))
//     coefficients = balance_scale weight dcv2/dv = … (2 (v - m) / ((E'-1) D) - 2 m var / (E' D^2))
// partial [C,3E'], stats [3,E'], coefficients [2,E'], loss [1]. Grid: 1 x 1 x 1; one lane per sum.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(push_constant, scalar) uniform Args {
    RO partial_sums; RO step_block; RW stats; RW coefficients; RW loss; xft_router_balance_params p;
};
shared float sums[192];                                    // 3 E', E' <= 64

void main() {
    const uint n = p.routed;
    for (uint i = LOCAL_ID; i < 3u * n; i += WG) {
        float sum = 0.0;
        for (uint c = 0u; c < p.chunks; c++) sum += LOAD1(partial_sums, c * p.ld_partial + i, F32);
        sums[i] = sum;
        const uint part = i / n;
        STORE1(stats, part * p.ld_stats + i - part * n, sum);
    }
    barrier();
    const float scale = LOAD1(step_block, 6, F32) * p.balance_weight;
    float total = 0.0;
    for (uint part = 0u; part < 2u; part++) {
        float mean = 0.0, var = 0.0;
        for (uint i = 0u; i < n; i++) mean += sums[part * n + i];
        mean /= float(n);
        for (uint i = 0u; i < n; i++) {
            const float d = sums[part * n + i] - mean;
            var += d * d;
        }
        const float others = float(max(n, 2u) - 1u), D = mean * mean + 1e-10;
        var /= others;                                     // one expert: 0
        total += var / D;
        for (uint i = LOCAL_ID; i < n; i += WG) {
            const float d = sums[part * n + i] - mean;
            const float slope = 2.0 * d / (others * D) - 2.0 * (mean / D) * (var / D) / float(n);
            STORE1(coefficients, part * p.ld_coefficients + i, scale * slope);
        }
    }
    if (LOCAL_ID == 0u) STORE1(loss, 0u, AS_FLOAT(TAKEU(loss, 0u)) + scale * total);
}
