#include "philox.h"

#include <math.h>
#include <string.h>

void xft_philox(uint64_t seed, uint32_t stream, uint32_t step, uint32_t key, uint32_t row, uint32_t quad,
                uint32_t words[4]) {
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    uint32_t c0 = stream << 29 | quad, c1 = row, c2 = key, c3 = step;
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xd2511f53u * c0, b = (uint64_t)0xcd9e8d57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

double xft_philox_uniform(uint32_t word) {
    return ((double)(word >> 9) + 0.5) / 8388608.0;
}

void xft_philox_normals(const uint32_t words[4], double normals[4]) {
    for (int i = 0; i < 4; i += 2) {
        /* (0,1], so that the logarithm is finite; the angle is a multiple of a 2^24th of a turn */
        double radius = sqrt(-2.0 * log(((double)(words[i] >> 8) + 1.0) / 16777216.0));
        double angle = 6.283185307179586 * ((double)(words[i + 1] >> 8) / 16777216.0);
        normals[i] = radius * cos(angle);
        normals[i + 1] = radius * sin(angle);
    }
}

uint16_t xft_philox_bf16(float value, uint32_t word) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    if ((bits & 0x7fffffffu) == 0x7f800000u) return (uint16_t)(bits >> 16);
    return (uint16_t)((bits + (word >> 16)) >> 16);
}
