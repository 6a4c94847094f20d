// y[t] = w[ids[t]], zeros for an id outside the vocabulary.  ids [rows], w [vocabulary, cols], y [rows, cols].
// Grid: groups x 1 x 1 over blocks of 4096 columns.
KERNEL embedding(RO_ARG(ids), RO_ARG(w), RW_ARG(y), xft_embedding_params p) {
    RO(ids); RO(w); RW(y);
    const uint rows = p.rows, cols = p.cols, ld_w = p.ld_w, ld_y = p.ld_y, vocabulary = p.vocabulary,
               groups = p.groups;
    FOR_QUADS(row, c, rows, cols, groups) {
        uint id = LOADU(ids, row);
        float4 v = (float4)(0.0f);
        if (id < vocabulary) v = LOAD4(w, id * ld_w + c, DT_W);
        STORE4(y, row * ld_y + c, v, DT_Y);
    }
}
