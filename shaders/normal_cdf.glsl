// Distribution function and density of the standard normal distribution. For x < 0
//     Phi(x) = exp(-x^2/2) R(|x|),  R(a) = erfc(a/sqrt 2) exp(a^2/2) / 2,
// with R as a polynomial in t = 1/(1 + 0.3 a) (own minimax fit over 0 <= a <= 14, 1.5e-7). With the rounding of f32 the
// relative error is below 5e-7 down to the smallest normal number. Included after math.glsl.

// exp(-x^2/2): x is split so that the larger square is exact; a rounded x^2 alone would cost |x|^2 2^-25.
float normal_exp(float x) {
    float a = min(abs(x), 16.0), top = AS_FLOAT(AS_UINT(a) & 0xfffff000u);
    return exp_sum(-0.5 * top * top, -0.5 * (a - top) * (a + top));
}

float normal_cdf(float x) {
    float t = 1.0 / (1.0 + 0.3 * abs(x));
    float r = 3.567473117e-2;
    r = r * t - 1.572028992e-1;
    r = r * t + 2.063531831e-1;
    r = r * t - 5.368334097e-2;
    r = r * t + 1.285614635e-1;
    r = r * t + 9.991354223e-2;
    r = r * t + 1.207539479e-1;
    r = r * t + 1.196292994e-1;
    float tail = r * t * normal_exp(x);
    return x < 0.0 ? tail : 1.0 - tail;
}

float normal_pdf(float x) { return 0.398942280 * normal_exp(x); }
