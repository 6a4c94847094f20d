// y = std times standard normal numbers, Philox (INIT, step 0, key, row, column).  y [rows, cols].
// Grid: groups x 1 x 1 over blocks of 4096 columns.
KERNEL random_normal(RW_ARG(y), xft_random_normal_params p) {
    RW(y);
    const uint rows = p.rows, cols = p.cols, ld_y = p.ld_y, seed_low = p.seed_low, seed_high = p.seed_high,
               key = p.key, groups = p.groups;
    const float std = p.std;
    FOR_QUADS(row, c, rows, cols, groups) {
        uint4 words = philox((uint2)(seed_low, seed_high), RANDOM_INIT, 0u, key, row, c >> 2);
        STORE4(y, row * ld_y + c, std * philox_normals(words), F32);
    }
}
