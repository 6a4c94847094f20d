// delta[h, t] = <do, o> over the head's columns, which the backward passes of attention subtract from dP.
// o, do [tokens, heads * D], delta f32 [heads, tokens]. Grid: groups x 1 x 1; a work-item takes every groups*WG-th
// pair of token and head, heads innermost so that neighbours read one row.
KERNEL attention_delta(RO_ARG(o), RO_ARG(d_o), RW_ARG(delta), xft_attention_delta_params p) {
    RO(o); RO(d_o); RW(delta);
    const uint tokens = p.tokens, heads = p.heads, ld_o = p.ld_o, ld_do = p.ld_do, ld_delta = p.ld_delta;
    const uint groups = p.groups;
    for (uint i = GROUP_X * WG + LOCAL_ID; i < tokens * heads; i += groups * WG) {
        uint t = i / heads, h = i % heads, a = t * ld_o + h * HEAD_SIZE, b = t * ld_do + h * HEAD_SIZE;
        float sum = 0.0f;
        if (HEAD_SIZE % 4u == 0)
            for (uint d = 0; d < HEAD_SIZE; d += 4) sum += dot(LOAD4(o, a + d, DT_O), LOAD4(d_o, b + d, DT_DO));
        else
            for (uint d = 0; d < HEAD_SIZE; d += 2) sum += dot(LOAD2(o, a + d, DT_O), LOAD2(d_o, b + d, DT_DO));
        STORE1(delta, h * ld_delta + t, sum);
    }
}
