// y = word, in units of 32-bit words: the host makes the word of the value, for 16-bit types twice the element.
// y [rows, cols] words.  Grid: groups x 1 x 1 over blocks of 4096 columns.
KERNEL fill(RW_ARG(y), xft_fill_params p) {
    RW(y);
    const uint rows = p.rows, cols = p.cols, ld_y = p.ld_y, word = p.word, groups = p.groups;
    FOR_QUADS(row, c, rows, cols, groups)
        STORE4(y, row * ld_y + c, (float4)(AS_FLOAT(word)), F32);
}
