// Tiles of attention, shared by attention.comp, attention_backward_q.comp and attention_backward_kv.comp.
//
// A work-group owns a tile of ROWS rows (queries, or keys in the kv pass) and walks tiles of COLS columns (keys, or
// queries). WG invocations stand as ROWS/4 groups of CG: an invocation has 4 rows and TC of the tile's columns, and of
// the ROWS x HEAD_SIZE result the same 4 rows and NP pairs of columns. Pairs, because a 16-bit word holds two elements.
// `stage` holds what the products read, `tile` the probabilities, [COLS][ROWS] so that 4 rows are one load.
// 15.3 KiB with 64 x 32, so that the poorest devices have room.
#include "attention_head.glsl"

const uint DC = 16u;                                // head columns staged at once for the dot products
const uint PITCH = DC / 2u + 1u;                    // vec2 per staged row; odd, so that rows lie in different banks
const uint CG = 4u * WG / ROWS;
const uint TC = COLS / CG;
const uint NP = (HEAD_SIZE / 2u + CG - 1u) / CG;
const uint STAGE = (ROWS + COLS) * PITCH;
const uint HP = (HEAD_SIZE + 3u) / 4u * 2u;         // vec2 per whole head row
const uint KC = STAGE / HP < COLS ? STAGE / HP : COLS; // whole head rows staged at once
const uint TP = ROWS / 4u + 1u;                     // vec4 per column of the tile
#define CG_ID (LOCAL_ID % CG)
#define RG_ID (LOCAL_ID / CG)

shared vec2 stage[STAGE];
shared vec4 tile[TILES * COLS * TP];

// An invocation's own results, in registers: two sets of dot products, TILES sets of sums. Globals with a set's number
// as argument, because glslang 12 cannot pass arrays whose size is a specialization constant.
vec4 scores[2u * TC];
vec4 sums[TILES * 2u * NP];

// stage[at + r * pitch] = 4 * quads elements from d0 on of row first + r, for r < count; 0 for rows from `end` on.
void STAGE_ROWS(RO b, uint dt, uint first, uint end, uint ld, uint col, uint d0, uint quads, uint count, uint at,
                uint pitch) {
    for (uint i = LOCAL_ID; i < count * quads; i += WG) {
        uint r = i / quads, c = i % quads, d = d0 + 4u * c;
        vec4 x = vec4(0.0);
        if (first + r < end && d < HEAD_SIZE) x = HEAD4(b, (first + r) * ld + col, d, dt);
        stage[at + r * pitch + 2u * c] = x.xy;
        stage[at + r * pitch + 2u * c + 1u] = x.zw;
    }
}

// scores[set * TC + j][i] = <row 4 RG_ID + i of a's tile, row CG_ID + CG j of b's tile>
void DOT_TILE(uint set, RO a, uint dt_a, uint a0, uint a_end, uint ld_a, uint col_a, RO b, uint dt_b, uint b0,
              uint b_end, uint ld_b, uint col_b) {
    UNROLL for (uint j = 0u; j < TC; j++) scores[set * TC + j] = vec4(0.0);
    for (uint d0 = 0u; d0 < HEAD_SIZE; d0 += DC) {
        barrier();
        STAGE_ROWS(a, dt_a, a0, a_end, ld_a, col_a, d0, DC / 4u, ROWS, 0u, PITCH);
        STAGE_ROWS(b, dt_b, b0, b_end, ld_b, col_b, d0, DC / 4u, COLS, ROWS * PITCH, PITCH);
        barrier();
        uint ra = 4u * RG_ID * PITCH, rb = (ROWS + CG_ID) * PITCH;
        UNROLL for (uint c = 0u; c < DC / 2u; c++) {
            vec2 x0 = stage[ra + c], x1 = stage[ra + PITCH + c], x2 = stage[ra + 2u * PITCH + c],
                 x3 = stage[ra + 3u * PITCH + c];
            UNROLL for (uint j = 0u; j < TC; j++) {
                vec2 y = stage[rb + j * CG * PITCH + c];
                scores[set * TC + j] += vec4(x0.x, x1.x, x2.x, x3.x) * y.x;
                scores[set * TC + j] += vec4(x0.y, x1.y, x2.y, x3.y) * y.y;
            }
        }
    }
}

void CLEAR_SUMS() {
    UNROLL for (uint j = 0u; j < TILES * 2u * NP; j++) sums[j] = vec4(0.0);
}

// sums[2j], sums[2j+1] of a set (4 rows each) += columns of the pair CG_ID + CG j of the set's tile^T times b's rows.
void ADD_TILE(uint set, RO b, uint dt, uint first, uint end, uint ld, uint col) {
    for (uint k = 0u; k < COLS && first + k < end; k += KC) {
        uint count = min(KC, COLS - k);
        barrier();
        STAGE_ROWS(b, dt, first + k, end, ld, col, 0u, HP / 2u, count, 0u, HP);
        barrier();
        for (uint r = 0u; r < count; r++) {
            vec4 w = tile[(set * COLS + k + r) * TP + RG_ID];
            UNROLL for (uint j = 0u; j < NP; j++) {
                vec2 x = stage[r * HP + min(CG_ID + CG * j, HEAD_SIZE / 2u - 1u)];
                sums[2u * (set * NP + j)] += w * x.x;
                sums[2u * (set * NP + j) + 1u] += w * x.y;
            }
        }
    }
}

// Writes the pairs of a set's sums that exist, rows up to `end`, each row times its factor.
void STORE_SUMS(uint set, RW y, uint dt, uint first, uint end, uint ld, uint col, vec4 factor) {
    UNROLL for (uint j = 0u; j < NP; j++) {
        uint pair = CG_ID + CG * j;
        vec4 a = sums[2u * (set * NP + j)] * factor, b = sums[2u * (set * NP + j) + 1u] * factor;
        if (pair < HEAD_SIZE / 2u) {
            UNROLL for (uint i = 0u; i < 4u; i++) {
                uint row = first + 4u * RG_ID + i;
                if (row < end) STORE2(y, row * ld + col + 2u * pair, vec2(a[i], b[i]), dt);
            }
        }
    }
}

// The range [x, y) of columns that any of the tile's rows meets; row r of the tile meets `own` = [x, y), given by the
// invocation r. Empty: x >= y. Small integers travel as floats, exactly.
uvec2 RANGE(uvec2 own) {
    if (LOCAL_ID < ROWS) tile[LOCAL_ID].xy = own.x < own.y ? vec2(own) : vec2(16777216.0, 0.0);
    barrier();
    vec2 range = vec2(16777216.0, 0.0);
    for (uint r = 0u; r < ROWS; r++) {
        vec2 x = tile[r].xy;
        range = vec2(min(range.x, x.x), max(range.y, x.y));
    }
    return uvec2(range);
}
