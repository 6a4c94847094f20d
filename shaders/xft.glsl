// What every shader shares: buffer references, access by storage type, sums over a work-group. Same helper names as
// opencl/xft.clh. A kernel file:
//
//     #version 460
//     // y = a + b.  a, b, y [rows, cols].  Grid: groups x 1 x 1, one work-group per row, striding.
//     #extension GL_GOOGLE_include_directive : require
//     #include "xft.glsl"
//     layout(constant_id = 1) const uint DT_A = 0;   // constant 0 is WG
//     layout(push_constant, scalar) uniform Args { RO a; RO b; RW y; xft_add_params p; };
//     void main() { … }
//
// Nothing beyond Vulkan 1.2 with bufferDeviceAddress and scalarBlockLayout: no int64, no 16-bit types, no subgroup
// operations (a variant may use them). Buffers are arrays of 32-bit words; 16-bit elements are packed two to a word,
// low half first. References are only indexed, never offset (offsets need int64).
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_control_flow_attributes : require
#define XFT_GLSL 1
#include "op_params.h"

layout(local_size_x_id = 0) in;
#define WG gl_WorkGroupSize.x
#define LOCAL_ID gl_LocalInvocationID.x
// Numbers of this work-group in the op's whole grid, also when the grid was split over several dispatches.
#define GROUP_X gl_WorkGroupID.x
#define GROUP_Y gl_WorkGroupID.y
#define GROUP_Z gl_WorkGroupID.z
#define UNROLL [[unroll]]

// A buffer argument is its address, as two words. It becomes a reference where it is accessed, to words, pairs or
// quads: SwiftShader cannot cast one reference type to another, but makes any of them from an address.
#define RO uvec2
#define RW uvec2
layout(buffer_reference, scalar, buffer_reference_align = 4) restrict readonly buffer RO1 { uint v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 8) restrict readonly buffer RO2 { uvec2 v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) restrict readonly buffer RO4 { uvec4 v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) restrict buffer RW1 { uint v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 8) restrict buffer RW2 { uvec2 v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) restrict buffer RW4 { uvec4 v[]; };

const uint F32 = 0, BF16 = 1, F16 = 2, U32 = 3;   // xft_dtype
const uint NONE = 0xffffffffu;

#define AS_FLOAT(x) uintBitsToFloat(x)
#define AS_UINT(x) floatBitsToUint(x)

// f32 -> bf16 bits, to nearest even; NaN stays NaN.
uint bf16_bits(float x) {
    uint u = AS_UINT(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (u >> 16) | 0x40u;
    return (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
}

// f32 -> f16 bits, to nearest even, with subnormals and infinities: packHalf2x16 may round as it likes.
uint f16_bits(float x) {
    uint u = AS_UINT(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return sign | 0x7e00u;
    if (a >= 0x477ff000u) return sign | 0x7c00u;            // rounds to 65536 or more
    if (a < 0x33000001u) return sign;                       // half of the smallest subnormal or less
    if (a < 0x38800000u) {                                  // subnormal
        uint shift = 126u - (a >> 23), m = (a & 0x7fffffu) | 0x800000u;
        uint q = m >> shift, rest = m & ((1u << shift) - 1u), half_ = 1u << (shift - 1u);
        if (rest > half_ || (rest == half_ && (q & 1u) != 0u)) q++;
        return sign | q;
    }
    uint r = a - 0x38000000u;
    return sign | ((r + 0xfffu + ((r >> 13) & 1u)) >> 13);
}

// f16 bits -> f32, exact. unpackHalf2x16 may flush subnormals.
float f16_value(uint h) {
    uint s = (h & 0x8000u) << 16, e = h & 0x7c00u, m = h & 0x3ffu;
    if (e == 0u) return AS_FLOAT(AS_UINT(float(m) * 5.9604644775390625e-8) | s);
    if (e == 0x7c00u) return AS_FLOAT(s | 0x7f800000u | (m << 13));
    return AS_FLOAT(s | ((e + 0x1c000u) << 13) | (m << 13));
}

vec2 unpack2(uint w, uint dt) {
    return dt == BF16 ? vec2(AS_FLOAT(w << 16), AS_FLOAT(w & 0xffff0000u))
                      : vec2(f16_value(w & 0xffffu), f16_value(w >> 16));
}
uint pack2(vec2 x, uint dt) {
    return dt == BF16 ? bf16_bits(x.x) | (bf16_bits(x.y) << 16) : f16_bits(x.x) | (f16_bits(x.y) << 16);
}

// LOADn(buffer, i, dt): elements i … i+n-1 as f32; i is an element index, a multiple of n (and of 2 for LOAD2).
// STOREn(buffer, i, value, dt): 16-bit elements are stored in whole words only, so STORE1 is for 32-bit types.
// A kernel must not load what it has stored itself: loads may be served by caches for constants. What an invocation
// loads and then overwrites it takes by TAKEn, so that no compiler moves the load behind the store.
uint LOADU(RO b, uint i) { return RO1(b).v[i]; }
float xft_half(uint w, uint i, uint dt) {
    vec2 x = unpack2(w, dt);
    return (i & 1u) != 0u ? x.y : x.x;
}
vec4 xft_quad(uvec2 w, uint dt) { return vec4(unpack2(w.x, dt), unpack2(w.y, dt)); }
float LOAD1(RO b, uint i, uint dt) {
    if (dt == F32) return AS_FLOAT(LOADU(b, i));
    if (dt == U32) return float(LOADU(b, i));
    return xft_half(LOADU(b, i >> 1), i, dt);
}
vec2 LOAD2(RO b, uint i, uint dt) {
    if (dt == F32) return uintBitsToFloat(RO2(b).v[i >> 1]);
    return unpack2(LOADU(b, i >> 1), dt);
}
vec4 LOAD4(RO b, uint i, uint dt) {
    if (dt == F32) return uintBitsToFloat(RO4(b).v[i >> 2]);
    return xft_quad(RO2(b).v[i >> 2], dt);
}
uvec4 LOADU4(RO b, uint i) { return RO4(b).v[i >> 2]; }
uint TAKEU(RW b, uint i) { return RW1(b).v[i]; }
vec2 TAKE2(RW b, uint i, uint dt) {
    if (dt == F32) return uintBitsToFloat(RW2(b).v[i >> 1]);
    return unpack2(RW1(b).v[i >> 1], dt);
}
vec4 TAKE4(RW b, uint i, uint dt) {
    if (dt == F32) return uintBitsToFloat(RW4(b).v[i >> 2]);
    return xft_quad(RW2(b).v[i >> 2], dt);
}

void STORE1(RW b, uint i, float x) { RW1(b).v[i] = AS_UINT(x); }
void STOREU(RW b, uint i, uint x) { RW1(b).v[i] = x; }
void STOREU2(RW b, uint i, uvec2 x) { RW2(b).v[i >> 1] = x; }
void STOREU4(RW b, uint i, uvec4 x) { RW4(b).v[i >> 2] = x; }
void STORE2(RW b, uint i, vec2 x, uint dt) {
    if (dt == F32) RW2(b).v[i >> 1] = floatBitsToUint(x);
    else RW1(b).v[i >> 1] = pack2(x, dt);
}
void STORE4(RW b, uint i, vec4 x, uint dt) {
    if (dt == F32) RW4(b).v[i >> 2] = floatBitsToUint(x);
    else RW2(b).v[i >> 2] = uvec2(pack2(x.xy, dt), pack2(x.zw, dt));
}

// The first `n` components of x, the others 0: for the end of a row, whose padding is unspecified.
vec4 KEEP4(vec4 x, uint n) {
    return vec4(n > 0u ? x.x : 0.0, n > 1u ? x.y : 0.0, n > 2u ? x.z : 0.0, n > 3u ? x.w : 0.0);
}

// The loop of an element-wise kernel: quads (row, c) of a [rows, cols] array, in blocks of 4096 columns that are dealt
// to the work-groups in turn.
uint quad_blocks(uint cols) { return (cols + 4095u) >> 12; }
#define FOR_QUADS(row, c, rows, cols, groups)                                                                         \
    for (uint xft_block = GROUP_X; xft_block < (rows) * quad_blocks(cols); xft_block += (groups))                      \
        for (uint row = xft_block / quad_blocks(cols), xft_begin = (xft_block % quad_blocks(cols)) << 12,              \
                  xft_end = min(xft_begin + 4096u, (cols)), c = xft_begin + 4u * LOCAL_ID;                             \
             c < xft_end; c += 4u * WG)

// Sum and maximum over the work-group, in a fixed order, the same value for all. Every invocation must call. WG is a
// power of two.
#ifdef XFT_WG_REDUCE
shared float xft_red[gl_WorkGroupSize.x];
float WG_SUM(float x) {
    xft_red[LOCAL_ID] = x;
    barrier();
    for (uint s = WG / 2u; s > 0u; s >>= 1) {
        if (LOCAL_ID < s) xft_red[LOCAL_ID] += xft_red[LOCAL_ID + s];
        barrier();
    }
    float r = xft_red[0];
    barrier();
    return r;
}
float WG_MAX(float x) {
    xft_red[LOCAL_ID] = x;
    barrier();
    for (uint s = WG / 2u; s > 0u; s >>= 1) {
        if (LOCAL_ID < s) xft_red[LOCAL_ID] = max(xft_red[LOCAL_ID], xft_red[LOCAL_ID + s]);
        barrier();
    }
    float r = xft_red[0];
    barrier();
    return r;
}
#endif
