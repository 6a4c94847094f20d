#version 460
// ids[b] = the next token of row b by the step block's temperature and top_p. logits [rows, cols], step: the step block,
// ids u32 [rows]. Grid: groups x 1 x 1, a work-group takes every groups-th row.
// Temperature 0: the largest logit, the lower id on a tie. Otherwise with w = exp((x - max) / temperature) the smallest
// set of largest w whose sum reaches top_p of all, the lower id first on a tie; then the first id whose running sum
// over the set, ids ascending, exceeds uniform * sum. No sort: positive floats order as their bits do, so the smallest
// w of the set is found three bits at a time, each time by seven sums of what lies above a candidate.
#extension GL_GOOGLE_include_directive : require
#define XFT_WG_REDUCE
#include "xft.glsl"
#include "philox.glsl"
layout(constant_id = 1) const uint DT_LOGITS = 0;
layout(push_constant, scalar) uniform Args { RO logits; RO step_; RW ids; xft_sample_params p; };

const float LOWEST = -3e38;
shared float prefix[gl_WorkGroupSize.x];
shared uint chosen;

// The quad of logits from column c on; beyond the row: LOWEST.
vec4 quad_at(uint row, uint c) {
    vec4 x = LOAD4(logits, row * p.ld_logits + c, DT_LOGITS);
    return vec4(x.x, c + 1u < p.cols ? x.y : LOWEST, c + 2u < p.cols ? x.z : LOWEST, c + 3u < p.cols ? x.w : LOWEST);
}

// Sum of the numbers of the invocations before this one (x) and of all (y).
vec2 prefix_sum(float own) {
    prefix[LOCAL_ID] = own;
    barrier();
    vec2 sum = vec2(0.0);
    for (uint i = 0u; i < WG; i++) {
        if (i == LOCAL_ID) sum.x = sum.y;
        sum.y += prefix[i];
    }
    barrier();
    return sum;
}

void main() {
    float temperature = AS_FLOAT(LOADU(step_, 10u)), top_p = AS_FLOAT(LOADU(step_, 11u));
    for (uint row = GROUP_X; row < p.rows; row += p.groups) {
        float own_top = LOWEST, best = 16777216.0;
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 x = quad_at(row, c);
            UNROLL for (uint i = 0u; i < 4u; i++)
                if (x[i] > own_top) {
                    own_top = x[i];
                    best = float(c + i);
                }
        }
        float top = WG_MAX(own_top);
        best = -WG_MAX(own_top == top ? -best : -16777216.0);
        if (LOCAL_ID == 0u) chosen = best < float(p.cols) ? uint(best) : 0u;
        barrier();
        if (temperature > 0.0) {
            float inv_t = 1.0 / temperature, sum = 0.0;
            for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG)
                sum += dot(exp((quad_at(row, c) - top) * inv_t), vec4(1.0));
            float target = top_p * WG_SUM(sum), above = 0.0;
            uint cut = 0u, ties = NONE; // of the set: bits above cut, and the first `ties` with exactly these bits
            if (top_p < 1.0) {
                for (uint shift = 30u; shift > 0u;) {
                    shift -= 3u;
                    float s[7];
                    UNROLL for (uint j = 0u; j < 7u; j++) s[j] = 0.0;
                    for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
                        vec4 w = exp((quad_at(row, c) - top) * inv_t);
                        UNROLL for (uint j = 0u; j < 7u; j++)
                            s[j] += dot(w, vec4(greaterThanEqual(floatBitsToUint(w), uvec4(cut | (j + 1u) << shift))));
                    }
                    uint digit = 0u;
                    UNROLL for (uint j = 0u; j < 7u; j++) {
                        float t = WG_SUM(s[j]);
                        if (t > 0.0 && t >= target) digit = j + 1u;
                    }
                    cut |= digit << shift;
                }
                for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
                    vec4 w = exp((quad_at(row, c) - top) * inv_t);
                    above += dot(w, vec4(greaterThan(floatBitsToUint(w), uvec4(cut))));
                }
                above = WG_SUM(above);
                if (cut > 0u) ties = uint(clamp(ceil((target - above) / AS_FLOAT(cut)), 1.0, 16777216.0));
            }
            // Each invocation's own stretch of ids, so that ties and the running sum go by id.
            uint stretch = 4u * ((p.cols + 4u * WG - 1u) / (4u * WG)), begin = min(LOCAL_ID * stretch, p.cols);
            uint end = min(begin + stretch, p.cols), equal = 0u;
            for (uint c = begin; c < end; c += 4u) {
                vec4 w = exp((quad_at(row, c) - top) * inv_t);
                UNROLL for (uint i = 0u; i < 4u; i++) equal += AS_UINT(w[i]) == cut ? 1u : 0u;
            }
            uint before = uint(prefix_sum(float(equal)).x), seen = before;
            float kept = 0.0;
            for (uint c = begin; c < end; c += 4u) {
                vec4 w = exp((quad_at(row, c) - top) * inv_t);
                UNROLL for (uint i = 0u; i < 4u; i++)
                    if (AS_UINT(w[i]) > cut || AS_UINT(w[i]) == cut && seen++ < ties) kept += w[i];
            }
            uvec4 words = philox(uvec2(LOADU(step_, 1u), LOADU(step_, 2u)), RANDOM_SAMPLING, LOADU(step_, 0u), 0u,
                                 LOADU(step_, 3u) + row, 0u);
            vec2 sums = prefix_sum(kept);
            float goal = philox_uniform(words.x) * sums.y, run = sums.x;
            if (goal >= sums.x && goal < sums.x + kept) {
                uint last = begin;
                seen = before;
                for (uint c = begin; c < end && run <= goal; c += 4u) {
                    vec4 w = exp((quad_at(row, c) - top) * inv_t);
                    UNROLL for (uint i = 0u; i < 4u; i++)
                        if (run <= goal && w[i] > 0.0 &&
                            (AS_UINT(w[i]) > cut || AS_UINT(w[i]) == cut && seen++ < ties)) {
                            run += w[i];
                            last = c + i;
                        }
                }
                chosen = last;
            }
            barrier();
        }
        if (LOCAL_ID == 0u) STOREU(ids, row, chosen);
        barrier();
    }
}
