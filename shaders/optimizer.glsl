// What the optimizer kernels share: the step block and the step state by field, and how a weight is written.
// Included after xft.glsl and philox.glsl.

// xft_step_block
#define STEP_STEP(step) LOADU(step, 0)
#define STEP_SEED(step) uvec2(LOADU(step, 1), LOADU(step, 2))
#define STEP_LR(step) AS_FLOAT(LOADU(step, 4))
#define STEP_MAX_NORM(step) AS_FLOAT(LOADU(step, 8))
// xft_step_state
#define STATE_CLIP(state) AS_FLOAT(LOADU(state, 3))
#define STATE_SKIP(state) (LOADU(state, 4) != 0u)

// Inf and NaN have all bits of the exponent set; comparisons may be optimised away.
bool finite_(float x) { return (AS_UINT(x) & 0x7f800000u) != 0x7f800000u; }

// 1 - beta^t without cancellation: t log(beta) may be tiny, so the series of -expm1 below a half.
float one_minus_power(float log_beta, float t) {
    float x = log_beta * t;
    if (x < -0.5) return 1.0 - exp(x);
    float q = 1.0 + x * (1.0 / 8.0);
    q = 1.0 + x * (1.0 / 7.0) * q;
    q = 1.0 + x * (1.0 / 6.0) * q;
    q = 1.0 + x * (1.0 / 5.0) * q;
    q = 1.0 + x * (1.0 / 4.0) * q;
    q = 1.0 + x * (1.0 / 3.0) * q;
    q = 1.0 + x * 0.5 * q;
    return -x * q;
}

// 1 - beta2_t of Adafactor: t^-0.8.
float adafactor_rate(float t) { return exp(-0.8 * log(t)); }
