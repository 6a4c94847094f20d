/* Parameters of every kernel: one text read by C, GLSL and OpenCL C. 4-byte fields only. With 8 bytes per buffer a
 * kernel's parameters fit the 128 bytes of push constants that every Vulkan device has (asserted in runtime/kernel.c).
 *
 * Common names: rows, cols: shape; ld_<buffer>: row pitch in elements; groups: work-groups launched over the rows, for
 * the loop `for (row = GROUP_X; row < rows; row += groups)`; accumulate: 1: +=, 0: =.
 */
#ifndef XFT_OP_PARAMS_H
#define XFT_OP_PARAMS_H

/* clang-format off */
#if defined(XFT_GLSL)
#define PARAMS(name) struct name {
#define END_PARAMS(name) };
#elif defined(__OPENCL_C_VERSION__)
#define PARAMS(name) typedef struct name {
#define END_PARAMS(name) } name;
#else
#include <stdint.h>
typedef uint32_t xft_uint_t;
#define uint xft_uint_t
#define PARAMS(name) typedef struct name {
#define END_PARAMS(name) } name;
#endif

/* Everything that changes between two replays of a recording. Uploaded by the host before each micro-batch. */
PARAMS(xft_step_block)
    uint step;             /* optimizer step, from 0 */
    uint seed_low;
    uint seed_high;
    uint first_token;      /* number, in the whole step, of this micro-batch's token 0: keys noise and rounding */
    float lr;
    float inv_labels;      /* cross-entropy is multiplied by this: 1 / labels of the step */
    float balance_scale;   /* balance loss is multiplied by this: 1 / micro-batches with a label; 0 without a label */
    uint marks_used;       /* 1: experts that get tokens count as used by this step; 0: micro-batch without a label */
    float max_norm;        /* clipping threshold of the global gradient norm; 0: none */
    float noise_scale;     /* router_noise_scale */
    float temperature;     /* sampling; 0: greedy */
    float top_p;           /* sampling; 1: all */
    uint reserved0;
    uint reserved1;
    uint reserved2;
    uint reserved3;
END_PARAMS(xft_step_block)

/* What a step leaves on the device: read back one step late. */
PARAMS(xft_step_state)
    float loss;            /* cross-entropy of the step (sum over micro-batches, scaled by inv_labels) */
    float balance;         /* balance loss of the step, summed over layers */
    float grad_norm;       /* before clipping */
    float clip;            /* factor applied to every gradient: min(1, max_norm / (norm + 1e-6)) */
    uint skip;             /* 1: loss or norm was not finite, nothing is applied */
    uint skipped;          /* steps skipped so far */
    uint skipped_in_row;   /* of them, without an applied one in between, up to now */
    uint applied;          /* steps applied so far */
END_PARAMS(xft_step_state)

PARAMS(xft_fill_params)
    uint rows;
    uint cols;             /* words, as the pitch: 16-bit elements are filled in pairs */
    uint ld_y;
    uint word;
    uint groups;
END_PARAMS(xft_fill_params)

PARAMS(xft_copy_params)
    uint rows;
    uint cols;             /* words, as the pitches */
    uint ld_x;
    uint ld_y;
    uint groups;
END_PARAMS(xft_copy_params)

PARAMS(xft_cast_params)
    uint rows;
    uint cols;
    uint ld_x;
    uint ld_y;
    uint key;
    uint groups;
END_PARAMS(xft_cast_params)

PARAMS(xft_add_params)
    uint rows;
    uint cols;
    uint ld_a;
    uint ld_b;
    uint ld_y;
    uint groups;
END_PARAMS(xft_add_params)

PARAMS(xft_accumulate_params)
    uint rows;
    uint cols;
    uint ld_x;
    uint ld_y;
    uint groups;
END_PARAMS(xft_accumulate_params)

PARAMS(xft_bias_params)
    uint rows;
    uint cols;
    uint ld_y;
    uint groups;
END_PARAMS(xft_bias_params)

PARAMS(xft_column_sum_params)
    uint rows;
    uint cols;
    uint ld_x;
    uint ld_y;
    uint chunks;           /* rows of y: row i is the sum of the rows i * chunk_rows … of x */
    uint chunk_rows;
    uint accumulate;
    uint groups;
END_PARAMS(xft_column_sum_params)

PARAMS(xft_reduce_sum_params)
    uint rows;
    uint cols;
    uint ld_x;
    uint accumulate;
END_PARAMS(xft_reduce_sum_params)

PARAMS(xft_random_normal_params)
    uint rows;
    uint cols;
    uint ld_y;
    float std;
    uint seed_low;
    uint seed_high;
    uint key;
    uint groups;
END_PARAMS(xft_random_normal_params)

PARAMS(xft_embedding_params)
    uint rows;
    uint cols;
    uint ld_w;
    uint ld_y;
    uint vocabulary;
    uint groups;
END_PARAMS(xft_embedding_params)

PARAMS(xft_embedding_backward_params)
    uint rows;
    uint cols;
    uint ld_dy;
    uint ld_dw;
    uint vocabulary;
    uint skip_id;
    uint groups;
END_PARAMS(xft_embedding_backward_params)

PARAMS(xft_rms_norm_params)
    uint rows;
    uint cols;
    uint ld_x;
    uint ld_y;
    float eps;
    uint groups;
END_PARAMS(xft_rms_norm_params)

PARAMS(xft_rms_norm_backward_params)
    uint rows;
    uint cols;
    uint ld_dy;
    uint ld_x;
    uint ld_dx;
    uint accumulate;
    uint groups;
END_PARAMS(xft_rms_norm_backward_params)

PARAMS(xft_rms_norm_backward_weight_params)
    uint rows;
    uint cols;
    uint ld_dy;
    uint ld_x;
    uint ld_dw;
    uint chunks;
    uint chunk_rows;
    uint groups;
END_PARAMS(xft_rms_norm_backward_weight_params)

PARAMS(xft_layer_norm_params)
    uint rows;
    uint cols;
    uint ld_x;
    uint ld_y;
    uint ld_stats;
    float eps;
    uint groups;
END_PARAMS(xft_layer_norm_params)

PARAMS(xft_layer_norm_backward_params)
    uint rows;
    uint cols;
    uint ld_dy;
    uint ld_x;
    uint ld_stats;
    uint ld_dx;
    uint accumulate;
    uint groups;
END_PARAMS(xft_layer_norm_backward_params)

PARAMS(xft_layer_norm_backward_weight_params)
    uint rows;
    uint cols;
    uint ld_dy;
    uint ld_x;
    uint ld_stats;
    uint ld_dw;            /* of db too */
    uint chunks;
    uint chunk_rows;
    uint groups;
END_PARAMS(xft_layer_norm_backward_weight_params)

PARAMS(xft_rope_params)
    uint count;            /* rows of x */
    uint heads;
    uint head_size;
    uint half_rotary;      /* pairs per head */
    uint ld_table;
    uint table_rows;
    uint ld_x;
    float sign;            /* 1: by the angle; -1: by minus the angle */
    uint groups;
END_PARAMS(xft_rope_params)

PARAMS(xft_swiglu_params)
    uint rows;
    uint cols;
    uint ld_g;
    uint ld_u;
    uint ld_h;
    uint groups;
END_PARAMS(xft_swiglu_params)

PARAMS(xft_swiglu_backward_params)
    uint rows;
    uint cols;
    uint ld_dh;
    uint ld_weights;
    uint ld_g;
    uint ld_u;
    uint ld_h;
    uint top_k;
    uint experts;          /* offsets[experts] is the number of grouped rows */
    uint store_h;
    uint groups;
END_PARAMS(xft_swiglu_backward_params)

/* ---- products ---- */

PARAMS(xft_gemm_params)
    uint M;
    uint N;
    uint K;
    uint ld_a;
    uint ld_b;
    uint ld_c;
    uint accumulate;
    uint block_rows;       /* of c, per work-group, for the forms where no constant says it */
    uint block_columns;
END_PARAMS(xft_gemm_params)

PARAMS(xft_grouped_gemm_params)
    uint M;                /* NT, NN: R, the rows of a and c, of all experts together */
    uint N;
    uint K;                /* TN: R, the rows of a and b */
    uint ld_a;
    uint ld_b;
    uint ld_c;
    uint b_rows;           /* rows of one expert's matrix in b (NT: N, NN: K); TN: 0 */
    uint experts;
    uint accumulate;
    uint block_rows;       /* of c, per work-group, for the forms where no constant says it */
    uint block_columns;
END_PARAMS(xft_grouped_gemm_params)
/* attention: segments, flash attention, key/value cache */
PARAMS(xft_segments_params)
    uint tokens;
    uint sequences;
    uint count_padding;    /* 1: padding rows see their sequence's tokens and are valid */
    uint groups;
END_PARAMS(xft_segments_params)

PARAMS(xft_attention_params)
    uint tokens;
    uint heads;
    uint kv_heads;
    float scale;
    uint ld_q;
    uint ld_k;
    uint ld_v;
    uint ld_o;
    uint ld_lse;
END_PARAMS(xft_attention_params)

PARAMS(xft_attention_delta_params)
    uint tokens;
    uint heads;
    uint ld_o;
    uint ld_do;
    uint ld_delta;
    uint groups;
END_PARAMS(xft_attention_delta_params)

PARAMS(xft_attention_backward_q_params)
    uint tokens;
    uint heads;
    uint kv_heads;
    float scale;
    uint ld_q;
    uint ld_k;
    uint ld_v;
    uint ld_do;
    uint ld_lse;
    uint ld_delta;
    uint ld_dq;
END_PARAMS(xft_attention_backward_q_params)

PARAMS(xft_attention_backward_kv_params)
    uint tokens;
    uint heads;
    uint kv_heads;
    float scale;
    uint ld_q;
    uint ld_k;
    uint ld_v;
    uint ld_do;
    uint ld_lse;
    uint ld_delta;
    uint ld_dk;
    uint ld_dv;
END_PARAMS(xft_attention_backward_kv_params)

PARAMS(xft_kv_append_params)
    uint rows;             /* sequences * new_tokens */
    uint cols;             /* kv_heads * head size */
    uint new_tokens;       /* per sequence */
    uint capacity;         /* rows of a sequence's cache */
    uint ld_k;
    uint ld_v;
    uint ld_k_cache;
    uint ld_v_cache;
    uint groups;
END_PARAMS(xft_kv_append_params)

PARAMS(xft_attention_decode_params)
    uint sequences;
    uint new_tokens;       /* per sequence */
    uint heads;
    uint kv_heads;
    uint capacity;
    float scale;
    uint ld_q;
    uint ld_k_cache;
    uint ld_v_cache;
    uint ld_o;
END_PARAMS(xft_attention_decode_params)

/* head and loss */
PARAMS(xft_cross_entropy_params)
    uint rows;
    uint cols;
    uint ld_logits;
    uint gradient;         /* 1: logits become their gradient */
    uint groups;
END_PARAMS(xft_cross_entropy_params)

PARAMS(xft_sample_params)
    uint rows;
    uint cols;
    uint ld_logits;
    uint groups;
END_PARAMS(xft_sample_params)

/* Router and experts: tokens T, routed E', picks k, gate: xft_gate, shared_experts 1, or 0 with the vanilla gate. */
PARAMS(xft_router_params)
    uint tokens;
    uint routed;
    uint picks;
    uint gate;
    uint mlp;              /* 1: there is a w2 */
    uint noise;            /* xft_noise */
    uint layer;
    float noise_epsilon;
    uint ld_h;
    uint ld_w2;
    uint ld_noise;
    uint ld_state;
    uint ld_picks;
    uint ld_weights;
    uint groups;
END_PARAMS(xft_router_params)

PARAMS(xft_router_stats_params)
    uint tokens;
    uint routed;
    uint picks;
    uint official;
    uint stretch;          /* tokens of a work-group */
    uint ld_state;
    uint ld_partial;
END_PARAMS(xft_router_stats_params)

PARAMS(xft_router_balance_params)
    uint routed;
    uint chunks;           /* rows of the partial sums */
    float balance_weight;
    uint ld_partial;
    uint ld_stats;
    uint ld_coefficients;
END_PARAMS(xft_router_balance_params)

PARAMS(xft_router_backward_params)
    uint tokens;
    uint routed;
    uint picks;
    uint gate;
    uint mlp;
    uint noisy;            /* 1: dh has the half of Wn x */
    uint official;
    uint ld_inverse;
    uint ld_state;
    uint ld_w2;
    uint ld_coefficients;
    uint ld_dh;
    uint ld_dg;
    uint groups;
END_PARAMS(xft_router_backward_params)

PARAMS(xft_expert_count_params)
    uint tokens;
    uint experts;          /* E */
    uint picks;
    uint shared_experts;
    uint stretch;          /* tokens of a work-group */
    uint ld_picks;
    uint ld_counts;
END_PARAMS(xft_expert_count_params)

PARAMS(xft_expert_group_params)
    uint tokens;
    uint experts;
    uint picks;
    uint shared_experts;
    uint stretch;
    uint chunks;           /* rows of counts */
    uint marks;            /* 1: there is a used */
    uint ld_picks;
    uint ld_counts;
    uint ld_inverse;
END_PARAMS(xft_expert_group_params)

PARAMS(xft_gather_rows_params)
    uint rows;             /* of y: at most as many are written */
    uint cols;
    uint experts;
    uint top_k;
    uint ld_x;
    uint ld_y;
    uint groups;
END_PARAMS(xft_gather_rows_params)

PARAMS(xft_combine_params)
    uint tokens;
    uint cols;
    uint slots;            /* K */
    uint weighted;
    uint accumulate;
    uint ld_x;
    uint ld_inverse;
    uint ld_weights;
    uint ld_y;
    uint groups;
END_PARAMS(xft_combine_params)

PARAMS(xft_mix_softmax_params)
    uint count;            /* E' */
END_PARAMS(xft_mix_softmax_params)

PARAMS(xft_mix_experts_params)
    uint rows;             /* N */
    uint cols;             /* K */
    uint routed;
    float lambda;
    uint ld_experts;
    uint ld_w;
    uint groups;
END_PARAMS(xft_mix_experts_params)

PARAMS(xft_mix_backward_params)
    uint rows;
    uint cols;
    uint routed;
    float lambda;
    uint ld_experts;
    uint ld_dw;
    uint ld_dots;
    uint groups;           /* rows of dots */
END_PARAMS(xft_mix_backward_params)

PARAMS(xft_mix_softmax_backward_params)
    uint count;
END_PARAMS(xft_mix_softmax_backward_params)
PARAMS(xft_sum_squares_params)
    uint rows;
    uint cols;
    uint ld_g;
    uint stretch;          /* rows per element of partial */
    uint count;            /* elements of partial */
END_PARAMS(xft_sum_squares_params)

PARAMS(xft_step_begin_params)
    uint count;            /* elements of partial */
END_PARAMS(xft_step_begin_params)

PARAMS(xft_step_advance_params)
    uint count;
END_PARAMS(xft_step_advance_params)

PARAMS(xft_adamw_params)
    uint rows;             /* of all entries together */
    uint cols;
    uint entry_rows;       /* rows of one entry, which has its own t and used */
    uint ld_g;
    uint ld_w;
    uint ld_m;             /* also of v and master */
    float beta1;
    float beta2;
    float log_beta1;
    float log_beta2;
    float eps;
    float weight_decay;
    uint key;
    uint groups;
END_PARAMS(xft_adamw_params)

PARAMS(xft_adafactor_rows_params)
    uint rows;             /* of one entry; work-group (x, y) takes block x of entry y */
    uint cols;
    uint ld_g;
    uint blocks;           /* of ADAFACTOR_BLOCK rows per entry */
    uint entries;
END_PARAMS(xft_adafactor_rows_params)

PARAMS(xft_adafactor_columns_params)
    uint blocks;
    uint cols;
    uint ld_columns;
    uint groups;
    uint entries;
END_PARAMS(xft_adafactor_columns_params)

PARAMS(xft_adafactor_moments_params)
    uint rows;
    uint cols;
    uint ld_r;
    uint ld_c;             /* also of columns */
    uint entries;
END_PARAMS(xft_adafactor_moments_params)

PARAMS(xft_adafactor_rms_params)
    uint rows;
    uint cols;
    uint ld_g;
    uint ld_r;
    uint ld_c;
    uint blocks;           /* sums of squares per entry */
    uint stretch;          /* rows per block */
    uint entries;
END_PARAMS(xft_adafactor_rms_params)

PARAMS(xft_adafactor_scale_params)
    uint blocks;
    float elements;        /* of one entry */
    float weight_decay;
    uint entries;
END_PARAMS(xft_adafactor_scale_params)

PARAMS(xft_adafactor_apply_params)
    uint rows;             /* of all entries together */
    uint cols;
    uint entry_rows;
    uint ld_g;
    uint ld_r;
    uint ld_c;
    uint ld_w;
    uint ld_master;
    uint key;
    uint groups;
END_PARAMS(xft_adafactor_apply_params)

PARAMS(xft_adafactor_vector_params)
    uint count;
    float weight_decay;
END_PARAMS(xft_adafactor_vector_params)

PARAMS(xft_fma_peak_params)
    uint count;
    uint rounds;
END_PARAMS(xft_fma_peak_params)

#if !defined(XFT_GLSL) && !defined(__OPENCL_C_VERSION__)
#undef uint
#endif
#undef PARAMS
#undef END_PARAMS
/* clang-format on */
#endif
