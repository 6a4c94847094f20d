// Counter-based random numbers, Philox 4x32-10: the functions of runtime/philox.h, where the layout of key and counter
// is described. Included after xft.glsl. Logarithm, sine and cosine are own polynomials, because GLSL promises too
// little of its own (sin and cos: 2^-11): so every driver of both APIs gives the same numbers up to rounding.

// xft_random_stream
const uint RANDOM_ROUTER = 1u, RANDOM_ROUNDING = 2u, RANDOM_INIT = 3u, RANDOM_SAMPLING = 4u;

// The words of the elements 4*quad … 4*quad+3 of a row.
uvec4 philox(uvec2 seed, uint stream, uint step_, uint key, uint row, uint quad) {
    uvec4 c = uvec4(stream << 29 | quad, row, key, step_);
    uvec2 k = seed;
    for (uint round_ = 0u; round_ < 10u; round_++) {
        uint ah, al, bh, bl;
        umulExtended(0xd2511f53u, c.x, ah, al);
        umulExtended(0xcd9e8d57u, c.z, bh, bl);
        c = uvec4(bh ^ c.y ^ k.x, bl, ah ^ c.w ^ k.y, al);
        k += uvec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

// In (0,1), exact.
float philox_uniform(uint word) { return (float(word >> 9) + 0.5) * 1.1920928955078125e-7; }

// ln(x) for a positive normal x; relative error below 3e-7, also near 1.
float philox_log(float x) {
    uint u = AS_UINT(x) + 0x004afb0du;                 // 1 - 1/sqrt(2) in units of the last place: m in [0.707, 1.414)
    float e = float(int(u >> 23) - 127), f = AS_FLOAT((u & 0x7fffffu) + 0x3f3504f3u) - 1.0;
    float q = 6.744069412e-02;
    q = q * f - 1.167279000e-01;
    q = q * f + 1.188779869e-01;
    q = q * f - 1.240609299e-01;
    q = q * f + 1.421967736e-01;
    q = q * f - 1.666796807e-01;
    q = q * f + 2.000211077e-01;
    q = q * f - 2.500001004e-01;
    q = q * f + 3.333331272e-01;
    return f + (f * f * (f * q - 0.5) + e * 0.693147181);
}

// Cosine and sine of a 2^24th turn times t, absolute error below 2e-7.
vec2 philox_circle(uint t) {
    uint quarter = (t + 0x200000u) >> 22;
    float x = float(int(t) - int(quarter << 22)) * 3.745070282e-7;    // pi/2 2^-22: within an eighth of a turn
    float z = x * x;
    float s = x + x * z * ((-1.951729295e-04 * z + 8.332178091e-03) * z - 1.666665494e-01);
    float c = 1.0 - 0.5 * z + z * z * ((2.443844079e-05 * z - 1.388736741e-03) * z + 4.166664686e-02);
    vec2 r = (quarter & 1u) != 0u ? vec2(-s, c) : vec2(c, s);
    return (quarter & 2u) != 0u ? -r : r;
}

vec2 philox_normal2(uvec2 words) {
    float radius = sqrt(-2.0 * philox_log(float((words.x >> 8) + 1u) * 5.9604644775390625e-8));
    return radius * philox_circle(words.y >> 8);
}
vec4 philox_normals(uvec4 words) { return vec4(philox_normal2(words.xy), philox_normal2(words.zw)); }

// Stochastic rounding to bf16; four at once as the words of a quad.
uint philox_bf16(float x, uint word) {
    uint u = AS_UINT(x), a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (u >> 16) | 0x40u;
    return a == 0x7f800000u ? u >> 16 : (u + (word >> 16)) >> 16;
}
uvec2 philox_bf16_quad(vec4 x, uvec4 words) {
    return uvec2(philox_bf16(x.x, words.x) | philox_bf16(x.y, words.y) << 16,
                 philox_bf16(x.z, words.z) | philox_bf16(x.w, words.w) << 16);
}
