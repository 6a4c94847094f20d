// ids[b] = the next token of row b by the step block's temperature and top_p. logits [rows, cols], step: the step block,
// ids u32 [rows]. Grid: groups x 1 x 1, a work-group takes every groups-th row.
// Temperature 0: the largest logit, the lower id on a tie. Otherwise with w = exp((x - max) / temperature) the smallest
// set of largest w whose sum reaches top_p of all, the lower id first on a tie; then the first id whose running sum
// over the set, ids ascending, exceeds uniform * sum. No sort: positive floats order as their bits do, so the smallest
// w of the set is found three bits at a time, each time by seven sums of what lies above a candidate.
#define LOWEST -3e38f
#define SUM4(x) dot(x, (float4)(1.0f))
#define WEIGHT4(c) exp((quad_at(logits, row * ld_logits, c, cols) - top) * inv_t)

// The quad of logits from column c on; beyond the row: LOWEST.
inline float4 quad_at(xft_ro logits, uint at, uint c, uint cols) {
    float4 x = LOAD4(logits, at + c, DT_LOGITS);
    return (float4)(x.x, c + 1 < cols ? x.y : LOWEST, c + 2 < cols ? x.z : LOWEST, c + 3 < cols ? x.w : LOWEST);
}

// Sum of the numbers of the work-items before this one (x) and of all (y).
inline float2 prefix_sum(float own, __local float *prefix) {
    prefix[LOCAL_ID] = own;
    BARRIER();
    float2 sum = (float2)(0.0f);
    for (uint i = 0; i < WG; i++) {
        if (i == LOCAL_ID) sum.x = sum.y;
        sum.y += prefix[i];
    }
    BARRIER();
    return sum;
}

KERNEL sample(RO_ARG(logits), RO_ARG(step), RW_ARG(ids), xft_sample_params p) {
    RO(logits); RO(step); RW(ids);
    const uint rows = p.rows, cols = p.cols, ld_logits = p.ld_logits, groups = p.groups;
    __local float red[WG];
    __local uint chosen;
    const float temperature = AS_FLOAT(step[10]), top_p = AS_FLOAT(step[11]);
    for (uint row = GROUP_X; row < rows; row += groups) {
        float own_top = LOWEST, best = 16777216.0f;
        for (uint c = 4 * LOCAL_ID; c < cols; c += 4 * WG) {
            float4 x = quad_at(logits, row * ld_logits, c, cols);
            if (x.x > own_top) { own_top = x.x; best = (float)c; }
            if (x.y > own_top) { own_top = x.y; best = (float)(c + 1); }
            if (x.z > own_top) { own_top = x.z; best = (float)(c + 2); }
            if (x.w > own_top) { own_top = x.w; best = (float)(c + 3); }
        }
        float top = WG_MAX(own_top, red);
        best = -WG_MAX(own_top == top ? -best : -16777216.0f, red);
        if (LOCAL_ID == 0) chosen = best < (float)cols ? (uint)best : 0;
        BARRIER();
        if (temperature > 0.0f) {
            float inv_t = 1.0f / temperature, sum = 0.0f;
            for (uint c = 4 * LOCAL_ID; c < cols; c += 4 * WG) sum += SUM4(WEIGHT4(c));
            float target = top_p * WG_SUM(sum, red), above = 0.0f;
            uint cut = 0, ties = NONE; // of the set: bits above cut, and the first `ties` with exactly these bits
            if (top_p < 1.0f) {
                for (uint shift = 30; shift > 0;) {
                    shift -= 3;
                    float s[7];
                    UNROLL for (uint j = 0; j < 7; j++) s[j] = 0.0f;
                    for (uint c = 4 * LOCAL_ID; c < cols; c += 4 * WG) {
                        float4 w = WEIGHT4(c);
                        UNROLL for (uint j = 0; j < 7; j++)
                            s[j] += SUM4(select((float4)(0.0f), w, as_uint4(w) >= (uint4)(cut | (j + 1) << shift)));
                    }
                    uint digit = 0;
                    UNROLL for (uint j = 0; j < 7; j++) {
                        float t = WG_SUM(s[j], red);
                        if (t > 0.0f && t >= target) digit = j + 1;
                    }
                    cut |= digit << shift;
                }
                for (uint c = 4 * LOCAL_ID; c < cols; c += 4 * WG) {
                    float4 w = WEIGHT4(c);
                    above += SUM4(select((float4)(0.0f), w, as_uint4(w) > (uint4)(cut)));
                }
                above = WG_SUM(above, red);
                if (cut > 0) ties = (uint)clamp(ceil((target - above) / AS_FLOAT(cut)), 1.0f, 16777216.0f);
            }
            // Each work-item's own stretch of ids, so that ties and the running sum go by id.
            uint stretch = 4 * ((cols + 4 * WG - 1) / (4 * WG)), begin = min(LOCAL_ID * stretch, cols);
            uint end = min(begin + stretch, cols), equal = 0;
            for (uint c = begin; c < end; c += 4) {
                float w[4];
                vstore4(WEIGHT4(c), 0, w);
                UNROLL for (uint i = 0; i < 4; i++) equal += AS_UINT(w[i]) == cut ? 1 : 0;
            }
            uint before = (uint)prefix_sum((float)equal, red).x, seen = before;
            float kept = 0.0f;
            for (uint c = begin; c < end; c += 4) {
                float w[4];
                vstore4(WEIGHT4(c), 0, w);
                UNROLL for (uint i = 0; i < 4; i++)
                    if (AS_UINT(w[i]) > cut || (AS_UINT(w[i]) == cut && seen++ < ties)) kept += w[i];
            }
            uint4 words = philox((uint2)(step[1], step[2]), RANDOM_SAMPLING, step[0], 0, step[3] + row, 0);
            float2 sums = prefix_sum(kept, red);
            float goal = philox_uniform(words.x) * sums.y, run = sums.x;
            if (goal >= sums.x && goal < sums.x + kept) {
                uint last = begin;
                seen = before;
                for (uint c = begin; c < end && run <= goal; c += 4) {
                    float w[4];
                    vstore4(WEIGHT4(c), 0, w);
                    UNROLL for (uint i = 0; i < 4; i++)
                        if (run <= goal && w[i] > 0.0f &&
                            (AS_UINT(w[i]) > cut || (AS_UINT(w[i]) == cut && seen++ < ties))) {
                            run += w[i];
                            last = c + i;
                        }
                }
                chosen = last;
            }
            BARRIER();
        }
        if (LOCAL_ID == 0) STOREU(ids, row, chosen);
        BARRIER();
    }
}
