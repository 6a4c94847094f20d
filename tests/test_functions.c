/* Suite `functions`: the approximations of opencl/math.clh and normal_cdf.clh, compiled as C and held to double. The
 * shaders' copies are the same line by line; the op cases hold every device to double. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint32_t uint;

static float as_float(uint bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static uint as_uint(float x) {
    uint bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static float clamp(float x, float low, float high) {
    return fminf(fmaxf(x, low), high);
}

typedef float float4 __attribute__((vector_size(16)));
static float4 exp_of_four(float4 x) {
    return (float4){expf(x[0]), expf(x[1]), expf(x[2]), expf(x[3])};
}
static float4 min_of_four(float4 x, float y) {
    return (float4){fminf(x[0], y), fminf(x[1], y), fminf(x[2], y), fminf(x[3], y)};
}

#define inline static
#define fabs(x)    fabsf(x)
#define fmin(a, b) fminf(a, b)
#define fmax(a, b) fmaxf(a, b)
#define floor(x)   floorf(x)
#define exp(x)     exp_of_four(x)
#define min(x, y)  min_of_four(x, y)
#include "../opencl/math.clh"
#include "../opencl/normal_cdf.clh"
#undef inline
#undef fabs
#undef fmin
#undef fmax
#undef floor
#undef exp
#undef min

static float sigmoid_of_four(float x) {
    return sigmoid4((float4){x, 0, 0, 0})[0];
}

static double exact_tanh(double x) {
    return tanh(x);
}
static double exact_exp(double x) {
    return exp(x);
}
static double exact_softplus(double x) {
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}
static double exact_sigmoid(double x) {
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}
static double exact_cdf(double x) {
    return 0.5 * erfc(-x * 0.70710678118654752440);
}
static double exact_pdf(double x) {
    return exp(-0.5 * x * x) * 0.39894228040143267794;
}

/* The largest relative error over [low, high], in even steps and in powers down to 1e-20 around 0. */
static void hold(const char *name, float (*f)(float), double (*exact)(double), double low, double high, double limit) {
    double worst = 0;
    float where = 0;
    for (int i = 0; i < 200000; i++) {
        float x = (float)(low + (high - low) * i / 199999);
        if (i < 4000) x = (float)pow(10, -i / 200.0) * (i % 2 ? -1 : 1);
        if (x < low || x > high) continue;
        const double y = exact(x), error = fabs(f(x) - y) / fabs(y);
        if (!(error <= worst)) worst = error, where = x;
    }
    cr_expect_lt(worst, limit, "%s: relative error %.3g at %.9g, allowed %.3g", name, worst, (double)where, limit);
    cr_log_info("%s: relative error %.3g", name, worst);
}

Test(functions, within_their_errors) {
    hold("exp", accurate_exp, exact_exp, -86, 88, 3e-7);
    hold("tanh", accurate_tanh, exact_tanh, -30, 30, 3e-7);
    hold("softplus", softplus, exact_softplus, -86, 100, 3e-7);
    hold("sigmoid", sigmoid, exact_sigmoid, -86, 100, 3e-7);
    hold("sigmoid4", sigmoid_of_four, exact_sigmoid, -80, 100, 4e-7);
    hold("normal_cdf", normal_cdf, exact_cdf, -12.9, 20, 1e-6);
    hold("normal_pdf", normal_pdf, exact_pdf, -12.9, 12.9, 1e-6);
}

Test(functions, at_the_ends) {
    cr_expect_eq(accurate_exp(-1000), 0);
    cr_expect_eq(accurate_exp(0), 1);
    cr_expect_eq(accurate_tanh(1e30f), 1);
    cr_expect_eq(accurate_tanh(-1e30f), -1);
    cr_expect_eq(accurate_tanh(0), 0);
    cr_expect_eq(normal_cdf(-1e30f), 0);
    cr_expect_eq(normal_cdf(1e30f), 1);
    cr_expect_eq(softplus(1e30f), 1e30f);
    cr_expect(isnan(accurate_exp(NAN)) && isnan(accurate_tanh(NAN)) && isnan(normal_cdf(NAN)),
              "what is not a number must not become one");
}
