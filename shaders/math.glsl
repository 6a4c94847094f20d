// exp, tanh, softplus and sigmoid with a relative error below 2e-7. The built-in functions may lose much more (Vulkan
// allows exp 3 + 2|x| units of the last place, and says nothing useful of tanh near 0). Coefficients: own minimax fits.

// exp(hi + lo) for a small lo: the exponent may be given more exactly than one float can.
float exp_sum(float hi, float lo) {
    float n = floor(clamp(hi, -88.0, 88.0) * 1.44269504 + 0.5);
    float r = ((hi - n * 0.693359375) - n * -2.12194440e-4) + lo;
    float q = 1.395063126e-3;
    q = q * r + 8.368970826e-3;
    q = q * r + 4.166620225e-2;
    q = q * r + 1.666651815e-1;
    q = q * r + 0.5;
    float y = (1.0 + (r + r * r * q)) * AS_FLOAT(uint(int(n) + 127) << 23);
    return hi < -87.0 ? 0.0 : y;
}
float accurate_exp(float x) { return exp_sum(x, 0.0); }

float accurate_tanh(float x) {
    float a = abs(x), z = x * x;
    float q = -6.282425949e-3;
    q = q * z + 2.107772719e-2;
    q = q * z - 5.385385098e-2;
    q = q * z + 1.333260163e-1;
    q = q * z - 3.333331804e-1;
    float large = 1.0 - 2.0 / (accurate_exp(2.0 * a) + 1.0);
    return a < 0.55 ? x + x * (z * q) : x < 0.0 ? -large : large;
}

// ln(1 + e^x) = max(x,0) + ln(1 + u), u = e^-|x|, with ln(1 + u) = 2 artanh(u / (2 + u))
float softplus(float x) {
    float u = accurate_exp(-abs(x)), v = u / (2.0 + u), w = v * v;
    float q = 1.401234171e-1;
    q = q * w + 1.399954949e-1;
    q = q * w + 2.001085070e-1;
    q = q * w + 3.333320655e-1;
    return max(x, 0.0) + 2.0 * (v + v * (w * q));
}

float sigmoid(float x) {
    float u = accurate_exp(-abs(x));
    return (x < 0.0 ? u : 1.0) / (1.0 + u);
}

// The same for four by the built-in exp, whose error of a few units of rounding is small against that of 16-bit and f32
// activations. The bound keeps the divisor in the range where division is exact enough on every driver.
vec4 sigmoid4(vec4 x) { return 1.0 / (1.0 + exp(min(-x, 80.0))); }
