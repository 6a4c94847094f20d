// Not a kernel of the library: 512 live sums per work-item, so that every compiler must spill. The portability test fails
// when its report of this kernel shows no spill.
KERNEL planted(RO_ARG(a), RO_ARG(b), RW_ARG(y), xft_add_params p) {
    RO(a); RO(b); RW(y);
    const uint rows = p.rows, ld_a = p.ld_a, ld_b = p.ld_b;
    float s[512];
    UNROLL for (uint i = 0; i < 512; i++) s[i] = 0.0f;
    for (uint k = 0; k < rows; k++) {
        float x[16], w[32];
        UNROLL for (uint i = 0; i < 16; i++) x[i] = as_float(a[k * 16 + i + LOCAL_ID * ld_a]);
        UNROLL for (uint i = 0; i < 32; i++) w[i] = as_float(b[k * 32 + i + LOCAL_ID * ld_b]);
        UNROLL for (uint i = 0; i < 512; i++) s[i] += x[i / 32] * w[i % 32];
    }
    UNROLL for (uint i = 0; i < 512; i++) y[i + LOCAL_ID * 512] = as_uint(s[i]);
}
