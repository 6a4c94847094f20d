// Rotates the pairs (i, i + half_rotary) of every head of x in place by the angle whose cosines and sines are row
// rows[t] of the table: (a, b) -> (a cos - b sin, b cos + a sin), sin times sign.
// x [count, heads * head_size], rows [count], table [table_rows, 2 half_rotary] = cosines, sines.
// Grid: groups x 1 x 1, a work-group per row of x, striding. WIDTH: pairs taken at once, 4 or 2 where half_rotary (and
// for 4 head_size too) is divisible by it; 1 where it is odd: then a 16-bit word holds ends of two pairs, and one
// invocation takes a whole head.

// One element, where the invocation owns the whole word.
inline float take(xft_rw b, uint i) {
    if (DT_X == F32) return AS_FLOAT(TAKEU(b, i));
    uint w = TAKEU(b, i >> 1);
    return AS_FLOAT((i & 1u) != 0u ? w & 0xffff0000u : w << 16);
}
inline void put(xft_rw b, uint i, float v) {
    if (DT_X == F32) STORE1(b, i, v);
    else {
        uint w = TAKEU(b, i >> 1), h = bf16_bits(v);
        STOREU(b, i >> 1, (i & 1u) != 0u ? (w & 0xffffu) | h << 16 : (w & 0xffff0000u) | h);
    }
}

KERNEL rope(RO_ARG(table), RO_ARG(rows), RW_ARG(x), xft_rope_params p) {
    RO(table); RO(rows); RW(x);
    const uint count = p.count, heads = p.heads, head_size = p.head_size, half_rotary = p.half_rotary,
               ld_table = p.ld_table, table_rows = p.table_rows, ld_x = p.ld_x, groups = p.groups;
    const float sign = p.sign;
    const uint half_ = half_rotary, steps = WIDTH == 1u ? 1u : half_ / WIDTH;
    for (uint row = GROUP_X; row < count; row += groups) {
        uint angle = min(LOADU(rows, row), table_rows - 1u) * ld_table;
        for (uint unit = LOCAL_ID; unit < heads * steps; unit += WG) {
            uint i = unit % steps * WIDTH, at = row * ld_x + unit / steps * head_size + i;
            if (WIDTH == 4u) {
                float4 a = TAKE4(x, at, DT_X), b = TAKE4(x, at + half_, DT_X);
                float4 s = sign * LOAD4(table, angle + half_ + i, F32), c = LOAD4(table, angle + i, F32);
                STORE4(x, at, a * c - b * s, DT_X);
                STORE4(x, at + half_, b * c + a * s, DT_X);
            } else if (WIDTH == 2u) {
                float2 a = TAKE2(x, at, DT_X), b = TAKE2(x, at + half_, DT_X);
                float2 s = sign * LOAD2(table, angle + half_ + i, F32), c = LOAD2(table, angle + i, F32);
                STORE2(x, at, a * c - b * s, DT_X);
                STORE2(x, at + half_, b * c + a * s, DT_X);
            } else {
                for (i = 0u; i < half_; i++) {
                    float a = take(x, at + i), b = take(x, at + half_ + i);
                    float s = sign * LOAD1(table, angle + half_ + i, F32), c = LOAD1(table, angle + i, F32);
                    put(x, at + i, a * c - b * s);
                    put(x, at + half_ + i, b * c + a * s);
                }
            }
        }
    }
}
