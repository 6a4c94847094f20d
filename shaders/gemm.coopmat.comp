#version 460
// gemm on matrix units, for f16 a and b (their products are exact in f32; bf16 has too wide a range to go through f16).
// c [M,N] = or += op(a) op(b), sums in f32. Grid: ceil(N/64) x ceil(M/64) x 1; WG = 4 subgroups, each computes a 32x32
// quarter of the block by four 16x16x16 matrices. Slabs of 32 along k are staged as they are stored: a transposed operand
// is a column-major load. Ends of rows are masked while staging; the sums leave through shared memory, where quads of
// any storage type can be written and nothing past the end of c is.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "xft.glsl"
layout(constant_id = 1) const uint FORM = 0;       // xft_form
layout(constant_id = 2) const uint DT_A = 2;
layout(constant_id = 3) const uint DT_B = 2;
layout(constant_id = 4) const uint DT_C = 0;
layout(push_constant, scalar) uniform Args { RO a; RO b; RW c; xft_gemm_params p; };

const uint NT = 0, TN = 2;
const uint BLOCK = 64, BK = 32;
const bool A_BY_K = FORM == TN, B_BY_K = FORM != NT;          // rows of the stored matrix are k
const uint LD_K = BLOCK + 8, LD_X = BK + 8;                   // pitch of a staged slab; 8: no bank conflicts
shared float16_t a_tile[BLOCK * LD_X], b_tile[BLOCK * LD_X];  // BLOCK x LD_X holds BK x LD_K too
shared float sums[BLOCK * BLOCK];

// Quad i of the stored matrix x with `left` elements before the end of its row; 0 where !inside.
f16vec4 load_quad(RO x, uint i, uint left, bool inside) {
    uvec2 w = RO2(x).v[i >> 2];
    f16vec4 v = f16vec4(unpackFloat2x16(w.x), unpackFloat2x16(w.y));
    const float16_t zero = float16_t(0);
    return f16vec4(inside ? v.x : zero, inside && left > 1 ? v.y : zero, inside && left > 2 ? v.z : zero,
                   inside && left > 3 ? v.w : zero);
}

#define STAGE(x, ld, by_k, tile, first, count)                                                                         \
    for (uint t = LOCAL_ID; t < BLOCK * BK / 4; t += WG) {                                                             \
        const uint width = by_k ? BLOCK / 4 : BK / 4, row = t / width, col = 4 * (t % width);                          \
        const uint r = row + (by_k ? k0 : first), q = col + (by_k ? first : k0);                                       \
        const uint rows = by_k ? p.K : count, cols = by_k ? count : p.K;                                               \
        const f16vec4 v = load_quad(x, min(r, rows - 1) * ld + min(q, (cols - 1) & ~3u), cols - min(q, cols),          \
                                    r < rows && q < cols);                                                             \
        const uint at = row * (by_k ? LD_K : LD_X) + col;                                                              \
        UNROLL for (uint u = 0; u < 4; u++) tile[at + u] = v[u];                                                       \
    }

void main() {
    const uint row0 = GROUP_Y * BLOCK, col0 = GROUP_X * BLOCK;
    const uint m0 = 32 * (gl_SubgroupID / 2), n0 = 32 * (gl_SubgroupID % 2);
    coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator> acc[4];
    UNROLL for (uint i = 0; i < 4; i++)
        acc[i] = coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>(0.0);

    for (uint k0 = 0; k0 < p.K; k0 += BK) {
        STAGE(a, p.ld_a, A_BY_K, a_tile, row0, p.M)
        STAGE(b, p.ld_b, B_BY_K, b_tile, col0, p.N)
        barrier();
        UNROLL for (uint k = 0; k < BK; k += 16) {
            coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> x[2];
            coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB> y[2];
            UNROLL for (uint i = 0; i < 2; i++) {
                const uint m = m0 + 16 * i, n = n0 + 16 * i;
                if (A_BY_K) coopMatLoad(x[i], a_tile, k * LD_K + m, LD_K, gl_CooperativeMatrixLayoutColumnMajor);
                else coopMatLoad(x[i], a_tile, m * LD_X + k, LD_X, gl_CooperativeMatrixLayoutRowMajor);
                if (B_BY_K) coopMatLoad(y[i], b_tile, k * LD_K + n, LD_K, gl_CooperativeMatrixLayoutRowMajor);
                else coopMatLoad(y[i], b_tile, n * LD_X + k, LD_X, gl_CooperativeMatrixLayoutColumnMajor);
            }
            UNROLL for (uint i = 0; i < 4; i++) acc[i] = coopMatMulAdd(x[i / 2], y[i % 2], acc[i]);
        }
        barrier();
    }

    UNROLL for (uint i = 0; i < 4; i++)
        coopMatStore(acc[i], sums, (m0 + 16 * (i / 2)) * BLOCK + n0 + 16 * (i % 2), BLOCK,
                     gl_CooperativeMatrixLayoutRowMajor);
    barrier();
    for (uint t = LOCAL_ID; t < BLOCK * BLOCK / 4; t += WG) {
        const uint row = row0 + t / (BLOCK / 4), col = col0 + 4 * (t % (BLOCK / 4)), at = row * p.ld_c + col;
        if (row < p.M && col < p.N) {
            vec4 value = vec4(sums[4 * t], sums[4 * t + 1], sums[4 * t + 2], sums[4 * t + 3]);
            if (p.accumulate != 0) value += LOAD4(c, at, DT_C);
            STORE4(c, at, value, DT_C);
        }
    }
}
