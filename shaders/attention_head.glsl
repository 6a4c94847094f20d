// What every kernel of attention shares. Heads start on an even element, which is a multiple of four only when HEAD_SIZE is.

// Elements d … d+3 of the head that starts at element i; beyond an odd number of pairs: 0.
vec4 HEAD4(RO b, uint i, uint d, uint dt) {
    if (HEAD_SIZE % 4u == 0u) return LOAD4(b, i + d, dt);
    vec2 lo = LOAD2(b, i + d, dt), hi = vec2(0.0);
    if (d + 2u < HEAD_SIZE) hi = LOAD2(b, i + d + 2u, dt);
    return vec4(lo, hi);
}

// Stores elements d … d+3 of the head that starts at element i, as far as the head goes.
void STORE_HEAD4(RW y, uint i, uint d, vec4 x, uint dt) {
    if (HEAD_SIZE % 4u == 0u) {
        STORE4(y, i + d, x, dt);
    } else {
        STORE2(y, i + d, x.xy, dt);
        if (d + 2u < HEAD_SIZE) STORE2(y, i + d + 2u, x.zw, dt);
    }
}

// The keys [x, y) that token t sees; t may be beyond the last.
uvec2 KEYS_OF(RO segments, uint t, uint tokens) {
    if (t >= tokens) return uvec2(0u);
    uvec4 s = RO4(segments).v[t];
    return uvec2(s.x, min(t + 1u, s.y));
}
