// One block of a product by one subgroup, for devices that are CPUs: what gemm.subgroup.comp and
// grouped_gemm.subgroup.comp share.
//
// Lanes own rows of c: RM rows x BN columns each, held in registers. A lane loads quads of its own rows of a; the quads
// of b are loaded once, spread over the lanes, and broadcast. Software Vulkan turns every load into a loop over lanes,
// so the fewest and widest loads win, and shared memory costs as much as any other.
// Lane l owns the rows l + S*i of the block (TN: the quads of rows l + S*i), S lanes, WG = S.
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_ballot : require
layout(constant_id = 1) const uint FORM = 0;       // xft_form
layout(constant_id = 2) const uint DT_A = 0;
layout(constant_id = 3) const uint DT_B = 0;
layout(constant_id = 4) const uint DT_C = 0;
layout(constant_id = 5) const uint RM = 4;         // rows per lane; a multiple of 4
layout(constant_id = 6) const uint BN = 16;        // columns of a block; a multiple of 4

const uint NT = 0, TN = 2;
const uint S = WG;
const uint BM = S * RM;                       // rows of a block
const uint NB = (BN + S - 1) / S;                  // quads of b per lane and step of 4 k

// The block at (row0, col0) of c [M,N] = or += product over K; matrices begin at elements a_at, b_at, c_at.
// M, N >= 1; K = 0 gives zeros. Rows and columns past the end repeat the last; k past K is 0.
void gemm_block(RO a, uint a_at, uint ld_a, RO b, uint b_at, uint ld_b, RW c, uint c_at, uint ld_c, uint M, uint N,
                uint K, uint row0, uint col0, bool accumulate) {
    const uint lane = gl_SubgroupInvocationID;
    float acc[RM * BN];
    UNROLL for (uint i = 0; i < RM * BN; i++) acc[i] = 0;
    uint ai[RM], bi[NB];                           // where each quad of this lane begins, at k = 0
    UNROLL for (uint i = 0; i < RM; i++)
        ai[i] = FORM == TN ? a_at + min(row0 + 4 * (lane + S * (i / 4)), (M - 1) & ~3u)
                           : a_at + min(row0 + lane + S * i, M - 1) * ld_a;
    UNROLL for (uint j = 0; j < NB; j++) {
        uint q = lane + S * j;
        bi[j] = FORM == NT ? b_at + min(col0 + q, N - 1) * ld_b : b_at + min(col0 + 4 * (q % (BN / 4)), (N - 1) & ~3u);
    }

    for (uint k = 0; k < K; k += 4) {
        vec4 x[RM], y[NB];                         // x[row] and, NT: y[column], along k; else y[k][quad of columns]
        if (FORM == TN) {
            UNROLL for (uint t = 0; t < 4; t++)
                UNROLL for (uint i = 0; i < RM; i += 4) {
                    vec4 v = LOAD4(a, ai[i] + min(k + t, K - 1) * ld_a, DT_A);
                    UNROLL for (uint u = 0; u < 4; u++) x[i + u][t] = k + t < K ? v[u] : 0.0;
                }
        } else UNROLL for (uint i = 0; i < RM; i++) x[i] = KEEP4(LOAD4(a, ai[i] + k, DT_A), K - k);
        UNROLL for (uint j = 0; j < NB; j++)
            if (FORM == NT) y[j] = KEEP4(LOAD4(b, bi[j] + k, DT_B), K - k);
            else {
                uint row = k + (lane + S * j) / (BN / 4);
                vec4 v = LOAD4(b, bi[j] + min(row, K - 1) * ld_b, DT_B);
                y[j] = row < K ? v : vec4(0);
            }
        if (FORM == NT) {
            UNROLL for (uint n = 0; n < BN; n++) {
                vec4 w = subgroupBroadcast(y[n / S], n % S);
                UNROLL for (uint i = 0; i < RM; i++) {
                    float sum = acc[n * RM + i];
                    UNROLL for (uint t = 0; t < 4; t++) sum += x[i][t] * w[t];
                    acc[n * RM + i] = sum;
                }
            }
        } else {
            UNROLL for (uint q = 0; q < BN / 4; q++)
                UNROLL for (uint t = 0; t < 4; t++) {
                    uint from = t * (BN / 4) + q;
                    vec4 w = subgroupBroadcast(y[from / S], from % S);
                    UNROLL for (uint u = 0; u < 4; u++)
                        UNROLL for (uint i = 0; i < RM; i++) acc[(4 * q + u) * RM + i] += x[i][t] * w[u];
                }
        }
    }

    UNROLL for (uint i = 0; i < RM; i++) {
        uint row = row0 + (FORM == TN ? 4 * (lane + S * (i / 4)) + i % 4 : lane + S * i);
        UNROLL for (uint q = 0; q < BN / 4; q++) {
            uint col = col0 + 4 * q, at = c_at + row * ld_c + col;
            if (row < M && col < N) {
                vec4 value = vec4(acc[4 * q * RM + i], acc[(4 * q + 1) * RM + i], acc[(4 * q + 2) * RM + i],
                                  acc[(4 * q + 3) * RM + i]);
                if (accumulate) value += LOAD4(c, at, DT_C);
                STORE4(c, at, value, DT_C);
            }
        }
    }
}
