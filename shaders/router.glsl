// What the router's kernels share. State of a token, f32, each part E' wide: see router.comp. One invocation stands for
// one routed expert of one token; a work-group holds WG / E' tokens at a time.
const uint STATE_A = 0, STATE_G = 1, STATE_S = 2, STATE_N = 3, STATE_Z = 4, STATE_P = 5, STATE_DS = 6;
const uint GATE_XFT = 0, GATE_UNNORMALISED = 1, GATE_VANILLA = 2;              // xft_gate
const uint NOISE_NONE = 0, NOISE_STORED = 1, NOISE_PHILOX = 2;                 // xft_noise

// Keys of the routing logits, unsigned and in the same order. NaN has a place too: whatever the logits are, the ranks
// of a token are a permutation, and no index made from them is out of range.
shared uint xft_keys[gl_WorkGroupSize.x];
uint order_key(float z) {
    uint u = AS_UINT(z);
    u = u == 0x80000000u ? 0u : u;                                             // -0 ties with 0
    return (u & 0x80000000u) != 0u ? ~u : u | 0x80000000u;
}

// Place of expert e among the n of its token, the largest logit first, ties to the lower index.
uint rank_of(uint base, uint n, uint e) {
    uint key = xft_keys[base + e], rank = 0u;
    for (uint j = 0u; j < n; j++) {
        uint other = xft_keys[base + j];
        rank += other > key || (other == key && j < e) ? 1u : 0u;
    }
    return rank;
}
